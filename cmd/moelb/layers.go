package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"
)

// selectLayers keeps the rows that --layers asks for, of the loads and of what
// the problem says layer by layer, and remembers the layers' numbers for the
// formats that write them: the file's own, or the rows'.
func (f *planFlags) selectLayers(cmd *cobra.Command, given *fields) error {
	if given.loads == nil {
		return nil
	}
	rows := len(given.loads[0])
	f.numbers = given.layers
	if f.rows != "" {
		a, b, err := rowRange(f.rows)
		switch {
		case err != nil:
			return err
		case b >= rows:
			return usagef("--layers %s: the loads have rows 0 to %d", f.rows, rows-1)
		}
		if f.numbers == nil {
			f.numbers, f.numbered = make([]int, rows), rows
			for l := range f.numbers {
				f.numbers[l] = l
			}
		}
		f.numbers = f.numbers[a : b+1]
		for w := range given.loads {
			given.loads[w] = given.loads[w][a : b+1]
		}
		if len(given.previous) == rows {
			given.previous = given.previous[a : b+1]
		}
		if len(given.unit.layerWeights) == rows {
			given.unit.layerWeights = given.unit.layerWeights[a : b+1]
		}
		given.from, given.rows = a, rows
	}
	if cmd.Flags().Changed("first-layer") {
		f.numbers, f.numbered = nil, 0
	}
	return nil
}

// rowRange reads A-B, or A alone.
func rowRange(text string) (a, b int, err error) {
	from, to, two := strings.Cut(text, "-")
	if !two {
		to = from
	}
	x, err1 := strconv.ParseUint(strings.TrimSpace(from), 10, 31)
	y, err2 := strconv.ParseUint(strings.TrimSpace(to), 10, 31)
	if err1 != nil || err2 != nil || x > y {
		return 0, 0, usagef("--layers %q: A-B is expected, two rows from 0, the first not after the last", text)
	}
	return int(x), int(y), nil
}
