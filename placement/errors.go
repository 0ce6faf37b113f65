package placement

import (
	"errors"
	"fmt"
	"strings"
)

// What can be wrong with an input. Every *Error wraps one of these, so that
// errors.Is tells the kind and errors.As the place.
var (
	// ErrShape: a length or a size is not what the other fields ask for.
	ErrShape = errors.New("wrong shape")
	// ErrValue: a value is outside its range (negative, not finite, unknown).
	ErrValue = errors.New("value out of range")
	// ErrFit: everything is well-formed, but the experts do not fit the slots.
	ErrFit = errors.New("does not fit")
)

// Error says what is wrong with an input and where: the field, and, unless -1,
// the layer and the index within it.
type Error struct {
	Field  string // the field's name on the wire, e.g. "loads"
	Layer  int    // -1 = the field as a whole
	Index  int    // -1 = the layer as a whole
	Detail string // what is wrong, with the value and what would be right
	Kind   error  // ErrShape, ErrValue or ErrFit
}

// Error is one line: "loads: layer 3, index 17: -4 is negative".
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Field)
	b.WriteString(": ")
	switch {
	case e.Layer >= 0 && e.Index >= 0:
		fmt.Fprintf(&b, "layer %d, index %d: ", e.Layer, e.Index)
	case e.Layer >= 0:
		fmt.Fprintf(&b, "layer %d: ", e.Layer)
	case e.Index >= 0:
		fmt.Fprintf(&b, "index %d: ", e.Index)
	}
	b.WriteString(e.Detail)
	return b.String()
}

// Unwrap returns the kind, for errors.Is.
func (e *Error) Unwrap() error { return e.Kind }

// errorf builds an *Error; layer and index are -1 where they do not apply.
func errorf(kind error, field string, layer, index int, format string, args ...any) *Error {
	return &Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
