package formats

import (
	"bufio"
	"fmt"
	"io"

	"github.com/moelb/moelb/placement"
)

// decodeCSV reads one row a layer, one column an expert, numbers separated by
// commas. Empty lines are passed over. encoding/csv would allow quotes and hold
// lines of any length.
func decodeCSV(b *bufio.Reader, lim *limits) (Stats, error) {
	t := table{lim: lim, field: "csv"}
	var row []float64
	var field []byte
	line := 1
	value := func() error {
		if len(row) >= lim.experts {
			return fmt.Errorf("line %d: more than %d columns, the most that is supported", line, lim.experts)
		}
		v, bad := parseNumber(field)
		if bad != "" {
			if line == 1 && len(field) > 0 && !numberByte[field[0]] {
				bad += " (one row a layer, one column an expert, no header)"
			}
			return errorf(placement.ErrValue, fmt.Sprintf("csv, line %d", line), len(t.rows), len(row), "%s", bad)
		}
		row = append(row, v)
		field = field[:0]
		return nil
	}
	space := false // a space after the number: only a comma or the line's end may follow
	for {
		c, err := b.ReadByte()
		if err != nil && err != io.EOF {
			return Stats{}, err
		}
		switch {
		case err == io.EOF || c == '\n':
			if len(row) > 0 || len(field) > 0 {
				if err := value(); err != nil {
					return Stats{}, err
				}
				if err := t.add(row); err != nil {
					return Stats{}, fmt.Errorf("line %d: %w", line, err)
				}
			}
			row, space = row[:0], false
			line++
		case c == ',':
			if err := value(); err != nil {
				return Stats{}, err
			}
			space = false
		case c == ' ' || c == '\t' || c == '\r':
			space = len(field) > 0
		case space:
			return Stats{}, errorf(placement.ErrValue, fmt.Sprintf("csv, line %d", line), len(t.rows), len(row), "%q after a number: a comma is expected", rune(c))
		case len(field) >= maxNumber:
			return Stats{}, errorf(placement.ErrValue, fmt.Sprintf("csv, line %d", line), len(t.rows), len(row), "more than %d characters", maxNumber)
		default:
			field = append(field, c)
		}
		if err == io.EOF {
			break
		}
	}
	if err := t.end(); err != nil {
		return Stats{}, err
	}
	return t.stats("csv")
}
