package formats

import (
	"errors"
	"fmt"

	"github.com/moelb/moelb/placement"
)

// errorf builds a *placement.Error; layer and index are -1 where they do not apply.
func errorf(kind error, field string, layer, index int, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// quote shows text of the input in an error: escaped, and not all of it.
func quote(s string) string {
	if len(s) > 40 {
		return fmt.Sprintf("%.40q...", s)
	}
	return fmt.Sprintf("%q", s)
}

// place is where an error stands: "loads: layer 3, index 17".
func place(field string, layer, index int) string {
	e := placement.Error{Field: field, Layer: layer, Index: index}
	text := e.Error()
	return text[:len(text)-2]
}

// renamed gives the field of a *placement.Error the name that the file uses.
func renamed(err error, field string) error {
	var e *placement.Error
	if errors.As(err, &e) {
		named := *e
		named.Field = field
		return &named
	}
	return err
}

// renamedMap renames the map alone, so that an error about another field keeps
// its name.
func renamedMap(err error, field string) error {
	var e *placement.Error
	if errors.As(err, &e) && e.Field == "physical_to_logical_map" {
		return renamed(err, field)
	}
	return err
}
