// Package refuse words what Plan and its neighbours refuse.
package refuse

import (
	"fmt"

	"github.com/moelb/moelb/placement"
)

// Errorf is an error about a field as a whole, of no one layer or index.
func Errorf(kind error, field string, format string, args ...any) error {
	return At(kind, field, -1, -1, format, args...)
}

// At is an error about an entry of a field; -1 = of no one layer or index.
func At(kind error, field string, layer, index int, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
