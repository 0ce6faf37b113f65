package formats

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// decodeCSV reads one row a layer, one column an expert: numbers separated by
// commas, or all of them by blanks. The first line may be a header; where its
// first name is empty or says layer, so does the first column, which is passed
// over. Empty lines and those that start with # are too. encoding/csv would allow
// quotes and hold lines of any length.
func decodeCSV(b *bufio.Reader, lim *guard.Limits) (Stats, error) {
	c := csvReader{b: b, t: table{lim: lim, field: "csv"}, line: 1}
	if err := c.header(); err != nil {
		return Stats{}, err
	}
	for {
		ended, err := c.row()
		if err != nil {
			return Stats{}, err
		}
		if ended {
			break
		}
	}
	if len(c.t.rows) == 0 && c.head != "" {
		return Stats{}, guard.Errorf(placement.ErrShape, "csv", -1, -1, "no layers, a header alone, %s: JSON, JSON Lines, CSV, .npy, .pt or .safetensors is expected", guard.Quote(c.head))
	}
	if err := c.t.end(); err != nil {
		return Stats{}, err
	}
	return c.t.stats("csv")
}

type csvReader struct {
	b       *bufio.Reader
	t       table
	line    int
	head    string // the header's first word; "" = there is none
	labeled bool   // the first column is the layer's name
	sep     byte   // ',' or ' ', once there has been one
	values  []float64
	field   []byte
}

// header passes over a first line that begins with a letter or a quote.
func (c *csvReader) header() error {
	head, _ := c.b.Peek(c.b.Size())
	text := bytes.TrimLeft(head, " \t\"'")
	if len(text) == 0 || !(text[0] >= 'a' && text[0] <= 'z' || text[0] >= 'A' && text[0] <= 'Z' || text[0] == ',') {
		return nil
	}
	end := bytes.IndexAny(text, ",\r\n")
	if end < 0 {
		end = len(text)
	}
	first := string(text[:end])
	if word := strings.ToLower(strings.Trim(first, " \t\"'")); strings.HasPrefix("nan", word) && word != "" || strings.HasPrefix("infinity", word) && len(word) > 2 {
		return nil // a number that is none
	}
	c.head = strings.TrimSpace(first)
	first, _, _ = strings.Cut(strings.ToLower(strings.Trim(first, " \t\"'")), "_")
	c.labeled = first == "" || first == "layer" || first == "layers" || first == "index"
	for {
		part, err := c.b.ReadSlice('\n')
		if err == bufio.ErrBufferFull && len(part) > 0 {
			continue
		}
		c.line++
		if err != nil && err != io.EOF {
			return err
		}
		return nil
	}
}

// value ends a field.
func (c *csvReader) value() error {
	field := c.field
	c.field = c.field[:0]
	if c.labeled && len(c.values) == 0 {
		c.values = append(c.values, 0) // taken away at the row's end
		return nil
	}
	if len(c.values) > c.t.lim.Experts {
		return fmt.Errorf("line %d: more than %d columns, the most that is supported", c.line, c.t.lim.Experts)
	}
	v, bad := parseNumber(field)
	if bad != "" {
		return c.errorf("%s (one row a layer, one column an expert)", bad)
	}
	c.values = append(c.values, v)
	return nil
}

func (c *csvReader) errorf(format string, args ...any) error {
	n := len(c.values)
	if c.labeled {
		n--
	}
	return guard.Errorf(placement.ErrValue, fmt.Sprintf("csv, line %d", c.line), len(c.t.rows), max(n, 0), format, args...)
}

// row reads a line; ended = it was the last.
func (c *csvReader) row() (ended bool, err error) {
	c.values, c.field = c.values[:0], c.field[:0]
	space := false // a blank after the number
	comment, began := false, false
	for {
		x, err := c.b.ReadByte()
		if err != nil && err != io.EOF {
			return false, err
		}
		switch {
		case err == io.EOF || x == '\n':
			return err == io.EOF, c.close()
		case comment:
		case x == '#' && !began:
			comment = true
		case x == ',':
			if c.sep == ' ' {
				return false, c.errorf("a comma where blanks separate the numbers before")
			}
			c.sep = ','
			if err := c.value(); err != nil {
				return false, err
			}
			space, began = false, true
		case x == ' ' || x == '\t' || x == '\r':
			space = len(c.field) > 0
		case space && c.sep == ',':
			return false, c.errorf("%q after a number: a comma is expected", rune(x))
		case len(c.field) >= maxNumber:
			return false, c.errorf("more than %d characters", maxNumber)
		default:
			if space {
				c.sep = ' '
				if err := c.value(); err != nil {
					return false, err
				}
			}
			space, began = false, true
			c.field = append(c.field, x)
		}
	}
}

// close ends a line.
func (c *csvReader) close() error {
	if len(c.values) > 0 || len(c.field) > 0 {
		if len(c.field) > 0 || c.sep == ',' {
			if err := c.value(); err != nil {
				return err
			}
		}
		row := c.values
		if c.labeled {
			row = row[1:]
		}
		if err := c.t.add(row); err != nil {
			return fmt.Errorf("line %d: %w", c.line, err)
		}
	}
	c.line++
	return nil
}
