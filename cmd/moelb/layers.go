package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/placement"
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

// selectSteps keeps the steps that --steps asks for, and adds them up for --sum.
func (f *planFlags) selectSteps(given *fields) error {
	if f.steps != "" && given.loads != nil {
		if given.steps > 1 {
			return usagef("--steps %s: of so long a recording every %d steps have been added up: cut the file", f.steps, given.steps)
		}
		n := len(given.loads)
		from, to, two := strings.Cut(f.steps, ":")
		a, err1 := stepNumber(from, 0)
		b, err2 := stepNumber(to, n)
		if !two || err1 != nil || err2 != nil || a >= b || a >= n || b > n {
			return usagef("--steps %q: A:B is expected, with 0 <= A < B <= %d", f.steps, n)
		}
		given.loads = given.loads[a:b]
	}
	if f.sum && len(given.loads) > 1 {
		p := problem{windows: given.loads}
		sum, err := p.sum()
		if err != nil {
			return err
		}
		given.loads = []placement.Loads{sum}
	}
	return nil
}

func stepNumber(text string, unset int) (int, error) {
	if text = strings.TrimSpace(text); text == "" {
		return unset, nil
	}
	n, err := strconv.ParseUint(text, 10, 31)
	return int(n), err
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
