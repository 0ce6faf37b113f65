package decode

import (
	"errors"
	"fmt"
)

// What can be wrong with a call. Every *Error wraps one of these, so that
// errors.Is tells the kind and errors.As the place. After an error nothing has
// changed.
var (
	// ErrValue: a value is outside its range.
	ErrValue = errors.New("value out of range")
	// ErrUnknown: no such request is running, or no such rank exists.
	ErrUnknown = errors.New("unknown")
	// ErrState: the call does not fit the state of the rank.
	ErrState = errors.New("wrong state")
	// ErrSnapshot: the bytes are no snapshot that this version made.
	ErrSnapshot = errors.New("bad snapshot")
)

// Error says what is wrong with a call and where: the field, and, unless -1,
// the index within it.
type Error struct {
	Field  string // the field's name on the wire, e.g. "kv"
	Index  int    // -1 = the field as a whole
	Detail string // what is wrong, with the value and what would be right
	Kind   error  // ErrValue, ErrUnknown, ErrState or ErrSnapshot
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
