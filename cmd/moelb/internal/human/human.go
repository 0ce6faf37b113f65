// Package human writes for people: tables in plain text, durations, bytes, plurals.
package human

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Table is a table in plain text: the first column is flush left unless it
// holds numbers, the others are flush right unless all are words.
type Table struct {
	rows    [][]string
	Numbers bool // in the first column
	Left    bool // every column flush left
}

func (g *Table) Add(cells ...string) { g.rows = append(g.rows, cells) }

// Write prints the grid with a rule under its first row.
func (g *Table) Write(b *bytes.Buffer, indent string) {
	var width []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range g.rows {
		line, rule := indent, -2
		for j, cell := range row {
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(cell))
			switch {
			case j > 0 && g.Left:
				line += "  " + cell + pad
			case j > 0:
				line += "  " + pad + cell
			case g.Numbers:
				line += pad + cell
			default:
				line += cell + pad
			}
			rule += width[j] + 2
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if i == 0 {
			b.WriteString(indent + strings.Repeat("─", rule) + "\n")
		}
	}
}

// Duration is seconds for people.
func Duration(seconds float64) string {
	switch {
	case seconds < 1e-3:
		return fmt.Sprintf("%.0f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3g ms", seconds*1e3)
	}
	return fmt.Sprintf("%.3g s", seconds)
}

// Bytes is bytes for people, in decimal units.
func Bytes(n int64) string {
	x := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if x < 1000 {
			return fmt.Sprintf("%.3g %s", x, unit)
		}
		x /= 1000
	}
	return fmt.Sprintf("%.3g TB", x)
}

// Plural is "1 node", "4 nodes".
func Plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// Sentence starts with a capital letter.
func Sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
