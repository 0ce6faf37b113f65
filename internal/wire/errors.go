package wire

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moelb/moelb/placement"
)

// Bad builds an error at a place; layer and index are -1 where they do not apply.
func Bad(kind error, field string, layer, index int, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Plain writes a number in an error: all its digits, without an exponent.
func Plain(x float64) string { return strconv.FormatFloat(x, 'f', -1, 64) }

// OneLine makes an error fit for one line of a terminal: no control characters,
// no endless values.
func OneLine(err error) string {
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, err.Error())
	const most = 400
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + " …"
	}
	return strings.TrimSpace(text)
}
