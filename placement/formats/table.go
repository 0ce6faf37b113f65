package formats

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// table collects windows of one shape, row by row, and checks what it is given.
// Where the windows hold more numbers than limits.kept, or are more than
// limits.windows, neighbours are added up: memory stays bounded and no token is
// lost.
type table struct {
	lim     *guard.Limits
	field   string
	exact   bool // windows are never added up: too many are an error
	windows []placement.Loads
	rows    placement.Loads // of the window that is being read
	spare   placement.Loads // memory for the next window's rows
	label   string          // field and window, from the second window on
	read    int             // windows read
	steps   int             // windows read that one of windows adds up; 0 = 1
	layers  []int           // the layers' numbers; nil = from 0
	counted bool            // some number is neither 0 nor 1
}

// most is the largest load: a layer's sum stays finite.
const most = math.MaxFloat64 / (4 * placement.MaxExperts)

// name is the field, with the window where there are several.
func (t *table) name() string {
	if t.label == "" {
		return t.field
	}
	return t.label
}

// add copies one more layer.
func (t *table) add(row []float64) error {
	l := len(t.rows)
	experts := len(row)
	switch {
	case l > 0:
		experts = len(t.rows[0])
	case len(t.windows) > 0:
		experts = t.windows[0].Experts()
	}
	switch {
	case len(row) == 0:
		return guard.Errorf(placement.ErrShape, t.name(), l, -1, "no experts")
	case len(row) > t.lim.Experts:
		return guard.Errorf(placement.ErrShape, t.name(), l, -1, "at most %d experts are supported", t.lim.Experts)
	case len(row) != experts:
		return guard.Errorf(placement.ErrShape, t.name(), l, -1, "%d experts, but layer 0 has %d", len(row), experts)
	case l >= t.lim.Layers:
		return guard.Errorf(placement.ErrShape, t.name(), -1, -1, "at most %d layers are supported", t.lim.Layers)
	case (l+1)*max(len(row), 16) > t.lim.Cells: // a row costs memory by itself
		return guard.Errorf(placement.ErrShape, t.name(), l, -1, "at most %d numbers a window are supported", t.lim.Cells)
	}
	for e, v := range row {
		if !(v >= 0 && v <= most) {
			return t.refuse(l, e, v)
		}
		if v != 0 && v != 1 {
			t.counted = true
		}
	}
	if l < len(t.spare) {
		t.rows = t.spare[:l+1]
		copy(t.rows[l], row)
		return nil
	}
	t.rows = append(t.rows, append(make([]float64, 0, len(row)), row...))
	return nil
}

func (t *table) refuse(layer, index int, v float64) error {
	switch {
	case v < 0:
		return guard.Errorf(placement.ErrValue, t.name(), layer, index, "%v is negative", v)
	case v > most && v <= math.MaxFloat64:
		return guard.Errorf(placement.ErrValue, t.name(), layer, index, "%v is too large to add up", v)
	}
	return guard.Errorf(placement.ErrValue, t.name(), layer, index, "%v is not a finite number", v)
}

// end closes a window.
func (t *table) end() error {
	switch {
	case len(t.rows) == 0:
		return guard.Errorf(placement.ErrShape, t.name(), -1, -1, "no layers")
	case len(t.windows) > 0 && len(t.rows) != len(t.windows[0]):
		return guard.Errorf(placement.ErrShape, t.name(), -1, -1, "%d layers, but window 0 has %d", len(t.rows), len(t.windows[0]))
	}
	t.steps = max(t.steps, 1)
	if t.read%t.steps > 0 { // one more of the last window
		if err := t.sum(t.windows[len(t.windows)-1], t.rows); err != nil {
			return err
		}
		t.spare = t.rows
	} else {
		t.windows = append(t.windows, t.rows)
		if t.spare = nil; t.read > 0 {
			t.spare = placement.NewLoads(len(t.rows), len(t.rows[0]))
		}
	}
	t.read++
	t.label = fmt.Sprintf("%s, window %d", t.field, t.read)
	n := len(t.windows[0]) * max(t.windows[0].Experts(), 16)
	t.rows = nil
	if len(t.windows) > t.lim.Windows || len(t.windows) > 1 && len(t.windows)*n > t.lim.Kept {
		return t.halve()
	}
	return nil
}

// halve adds up windows in pairs.
func (t *table) halve() error {
	if t.exact {
		return guard.Errorf(placement.ErrShape, t.field, -1, -1, "at most %d windows and %d numbers in all are supported", t.lim.Windows, t.lim.Kept)
	}
	n := len(t.windows)
	for i := 0; i < n; i += 2 {
		if i+1 < n {
			if err := t.sum(t.windows[i], t.windows[i+1]); err != nil {
				return err
			}
		}
		t.windows[i/2] = t.windows[i]
	}
	clear(t.windows[(n+1)/2:])
	t.windows = t.windows[:(n+1)/2]
	t.steps *= 2
	return nil
}

func (t *table) sum(into, w placement.Loads) error {
	for l, row := range w {
		to := into[l]
		for e, v := range row {
			if to[e] += v; to[e] > most {
				return guard.Errorf(placement.ErrValue, t.field, l, e, "the windows' sum %v is too large", to[e])
			}
		}
	}
	return nil
}

// stats is what the table holds, once every window is closed.
func (t *table) stats(format string) (Stats, error) {
	if len(t.windows) == 0 {
		return Stats{}, guard.Errorf(placement.ErrShape, t.field, -1, -1, "no windows")
	}
	if what := t.placed(); what != "" {
		return Stats{}, guard.Errorf(placement.ErrValue, t.field, -1, -1, "%s: this is a placement, not statistics", what)
	}
	return Stats{Windows: t.windows, Format: format, Layers: t.layers, Steps: t.steps}, nil
}

// fewest is the number of experts from which on numbers can be told to be a
// placement's: fewer counts can be like one by chance.
const fewest = 8

// placed says why the numbers are those of a placement; "" = they are counts.
// Rows of expert ids hold every id from 0. A mask of 0 and 1 for [device][layer]
// [expert] leaves out no expert and has few replicas: of as few tokens, routed
// one by one, some expert of some layer would have got none.
func (t *table) placed() string {
	switch {
	case len(t.windows) == 1 && t.ids():
		return "every row holds the same expert ids"
	case len(t.windows) > 1 && t.steps == 1 && !t.counted && t.mask():
		return "0 and 1 for [device][layer][expert]"
	}
	return ""
}

func (t *table) ids() bool {
	held := make([]bool, t.windows[0].Experts())
	first := 0
	for l, row := range t.windows[0] {
		clear(held)
		n, top := 0, 0
		for _, v := range row {
			if v >= float64(len(row)) || v != math.Trunc(v) {
				return false
			}
			e := int(v)
			if top = max(top, e); !held[e] {
				held[e] = true
				n++
			}
		}
		if l == 0 {
			first = n
		}
		if n < fewest || top != n-1 || n != first {
			return false
		}
	}
	return true
}

func (t *table) mask() bool {
	experts := t.windows[0].Experts()
	for l := range t.windows[0] {
		total := 0.0
		for e := range experts {
			n := 0.0
			for _, device := range t.windows {
				n += device[l][e]
			}
			if total += n; n == 0 {
				return false
			}
		}
		if total > float64(4*experts) {
			return false
		}
	}
	return experts >= fewest
}
