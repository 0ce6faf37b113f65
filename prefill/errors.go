package prefill

import "fmt"

// Kind is what can be wrong with a call. Every error is an *Error that wraps one
// of these, so that errors.Is tells the kind and errors.As the place. A call that
// returns one has changed nothing.
type Kind string

// Error is the kind in words.
func (k Kind) Error() string { return string(k) }

const (
	// ErrValue: a value is outside its range.
	ErrValue Kind = "value out of range"
	// ErrKnown: a request of this id is here already.
	ErrKnown Kind = "request is known already"
	// ErrUnknown: no request of this id is here.
	ErrUnknown Kind = "unknown request"
	// ErrNever: no rank that may take the request could hold it even if idle.
	ErrNever Kind = "fits on no rank"
	// ErrState: the call does not fit the state of the rank, of the request or of
	// the unit.
	ErrState Kind = "wrong state"
	// ErrSnapshot: the bytes are no snapshot of a version that is read.
	ErrSnapshot Kind = "bad snapshot"
)

// Full is the rank that Add returns for a request that fits nowhere now.
const Full = -1

// Error says what is wrong with a call and where: the field, and, unless -1, the
// index within it.
type Error struct {
	Field  string // the field's name on the wire, e.g. "max_kv"
	Index  int    // -1 = the field as a whole
	Detail string // what is wrong, with the value and what would be right
	Kind   error  // one of the Kinds
}

// Error is one line: "cached: index 3: -4 is negative".
func (e *Error) Error() string {
	if e.Index >= 0 {
		return fmt.Sprintf("%s: index %d: %s", e.Field, e.Index, e.Detail)
	}
	return e.Field + ": " + e.Detail
}

// Unwrap returns the kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

func bad(kind Kind, field string, index int, format string, args ...any) error {
	return &Error{Field: field, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
