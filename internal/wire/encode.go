package wire

import (
	"math"
	"strconv"
)

// Encoder appends JSON. Plans are tables of small numbers: written by hand they
// cost less than the planning.
type Encoder struct{ B []byte }

// Raw appends JSON as it stands.
func (e *Encoder) Raw(s string) { e.B = append(e.B, s...) }

// Field starts a member of an object; every object's first member is written raw.
func (e *Encoder) Field(name string) {
	e.Raw(`,"`)
	e.Raw(name)
	e.Raw(`":`)
}

// Int appends a whole number.
func (e *Encoder) Int(n int64) { e.B = strconv.AppendInt(e.B, n, 10) }

// Float appends the shortest number that reads back as x, like encoding/json.
func (e *Encoder) Float(x float64) {
	format := byte('f')
	if a := math.Abs(x); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	e.B = strconv.AppendFloat(e.B, x, format, -1, 64)
}

// Bool appends true or false.
func (e *Encoder) Bool(x bool) { e.B = strconv.AppendBool(e.B, x) }

// Quote appends a string of the program's own words.
func (e *Encoder) Quote(s string) { e.B = strconv.AppendQuote(e.B, s) }

// Name appends a string of the caller's, valid UTF-8, which reads back as it is.
func (e *Encoder) Name(text string) {
	const digits = "0123456789abcdef"
	e.B = append(e.B, '"')
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c < ' ' || c == 0x7f:
			e.B = append(e.B, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		case c == '"' || c == '\\':
			e.B = append(e.B, '\\', c)
		default:
			e.B = append(e.B, c)
		}
	}
	e.B = append(e.B, '"')
}

// List appends a list.
func List[T any](e *Encoder, items []T, item func(T)) {
	e.Raw("[")
	for i, x := range items {
		if i > 0 {
			e.Raw(",")
		}
		item(x)
	}
	e.Raw("]")
}
