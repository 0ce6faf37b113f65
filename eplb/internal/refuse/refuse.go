// Package refuse words what Plan and its neighbours refuse.
package refuse

import (
	"fmt"

	"github.com/moelb/moelb/placement"
)

// Errorf is an error about a field as a whole, of no one layer or index.
func Errorf(kind error, field string, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: -1, Index: -1, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
