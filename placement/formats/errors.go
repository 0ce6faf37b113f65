package formats

import (
	"errors"

	"github.com/moelb/moelb/placement"
)

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
