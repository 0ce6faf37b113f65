package problem

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/placement"
)

// selectLayers keeps the rows that --layers asks for, of the loads and of what
// the problem says layer by layer, and remembers the layers' numbers for the
// formats that write them: the file's own, or the rows'.
func (f *Flags) selectLayers(cmd *cobra.Command, given *Fields) error {
	if given.Loads == nil {
		return nil
	}
	rows := len(given.Loads[0])
	f.Numbers = given.layers
	if f.Rows != "" {
		a, b, err := rowRange(f.Rows)
		switch {
		case err != nil:
			return err
		case b >= rows:
			return console.Usagef("--layers %s: the loads have rows 0 to %d", f.Rows, rows-1)
		}
		if f.Numbers == nil {
			f.Numbers, f.Numbered = make([]int, rows), rows
			for l := range f.Numbers {
				f.Numbers[l] = l
			}
		}
		f.Numbers = f.Numbers[a : b+1]
		for w := range given.Loads {
			given.Loads[w] = given.Loads[w][a : b+1]
		}
		if len(given.previous) == rows {
			given.previous = given.previous[a : b+1]
		}
		if len(given.unit.layerWeights) == rows {
			given.unit.layerWeights = given.unit.layerWeights[a : b+1]
		}
		for _, list := range []*[]int{&given.unit.layerExperts, &given.unit.layerReplicas} {
			if len(*list) == rows {
				*list = (*list)[a : b+1]
			}
		}
		given.from, given.rows = a, rows
	}
	if cmd.Flags().Changed("first-layer") {
		f.Numbers, f.Numbered = nil, 0
	}
	return nil
}

// selectSteps keeps the steps that --steps asks for, of them the last --windows, and
// adds them up for --sum.
func (f *Flags) selectSteps(given *Fields) error {
	if f.Steps != "" && given.Loads != nil {
		if given.steps > 1 {
			return console.Usagef("--steps %s: of so long a recording every %d steps have been added up: cut the file", f.Steps, given.steps)
		}
		n := len(given.Loads)
		from, to, two := strings.Cut(f.Steps, ":")
		a, err1 := stepNumber(from, 0)
		b, err2 := stepNumber(to, n)
		if !two || err1 != nil || err2 != nil || a >= b || a >= n || b > n {
			return console.Usagef("--steps %q: A:B is expected, with 0 <= A < B <= %d", f.Steps, n)
		}
		given.Loads = given.Loads[a:b]
	}
	if n := f.Windows; n > 0 && n < len(given.Loads) {
		given.Loads = given.Loads[len(given.Loads)-n:]
	}
	if f.Sum && len(given.Loads) > 1 {
		p := Problem{Windows: given.Loads}
		sum, err := p.Sum()
		if err != nil {
			return err
		}
		given.Loads = []placement.Loads{sum}
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
		return 0, 0, console.Usagef("--layers %q: A-B is expected, two rows from 0, the first not after the last", text)
	}
	return int(x), int(y), nil
}
