package formats

import (
	"errors"
	"strconv"

	"github.com/moelb/moelb/placement"
)

// appendInts writes [1, 2, 3].
func appendInts(b []byte, row []int) []byte {
	b = append(b, '[')
	for i, v := range row {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(v), 10)
	}
	return append(b, ']')
}

// appendRows writes rows one a line, with commas between them.
func appendRows(b []byte, rows [][]int) []byte {
	for l, row := range rows {
		if l > 0 {
			b = append(b, ',')
		}
		b = appendInts(append(b, '\n'), row)
	}
	return b
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
