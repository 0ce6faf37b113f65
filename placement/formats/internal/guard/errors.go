package guard

import (
	"fmt"
	"strings"

	"github.com/moelb/moelb/placement"
)

// Errorf builds a *placement.Error; layer and index are -1 where they do not apply.
func Errorf(kind error, field string, layer, index int, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// Quote shows text of the input in an error: escaped, and not all of it.
func Quote(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%.40q...", s)
	}
	return fmt.Sprintf("%q", s)
}

// Shape writes a shape as Python does.
func Shape(shape []int) string {
	return "(" + strings.Trim(strings.ReplaceAll(fmt.Sprint(shape), " ", ", "), "[]") + ")"
}
