package decode

import "fmt"

// Kind is what is wrong with a call. Every *Error wraps one, so that errors.Is
// tells the kind and errors.As the place. After an error nothing has changed.
type Kind string

// Error is the kind in words.
func (k Kind) Error() string { return string(k) }

const (
	ErrValue    Kind = "value out of range"                  // also: no such rank
	ErrKnown    Kind = "already known"                       // a request of this id is there
	ErrUnknown  Kind = "unknown"                             // no request of this id is there
	ErrNever    Kind = "never fits"                          // no rank could hold it, even if idle
	ErrState    Kind = "wrong state"                         // the call does not fit the state of the rank or the request
	ErrSnapshot Kind = "no snapshot that this version reads" // which version it is, where it is one
)

// Error says what is wrong with a call and where: the field, and, unless -1,
// the index within it.
type Error struct {
	Field  string // the field's name on the wire, e.g. "kv"
	Index  int    // -1 = the field as a whole
	Detail string // what is wrong, with the value and what would be right
	Kind   error  // one of the kinds
}

// Error is one line: "kv: index 3: -4 is negative".
func (e *Error) Error() string {
	if e.Index >= 0 {
		return fmt.Sprintf("%s: index %d: %s", e.Field, e.Index, e.Detail)
	}
	return e.Field + ": " + e.Detail
}

// Unwrap returns the kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

func errorf(kind error, field string, index int, format string, args ...any) error {
	return &Error{Field: field, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
