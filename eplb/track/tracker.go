package track

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// Options choose what a Tracker keeps; the zero value is the last window.
type Options struct {
	// Windows is how many of the last closed windows are kept; 0 = 1.
	Windows int
	// SamplesPerWindow closes a window by itself after so many samples; 0 =
	// only Roll closes windows.
	SamplesPerWindow int
}

// Tracker adds up the loads of a running system, window by window; Forecast weighs the
// windows. Prefill and decode units see different experts hot: give each its own. It
// knows no clock: a sample is whatever the caller counts between two calls of Add.
// Counts are exact.
//
// It is not safe for concurrent use. Add and Roll allocate nothing.
type Tracker struct {
	file  file
	spare [][]int64 // windows to come
}

// trackerVersion is that of trackers as JSON. Those of version 1 kept several streams,
// and other sums than those of windows.
const trackerVersion = 2

// file is a Tracker as JSON.
type file struct {
	Version          int       `json:"version"`
	Layers           int       `json:"layers"`
	Experts          int       `json:"experts"`
	Kept             int       `json:"windows"`
	SamplesPerWindow int       `json:"samples_per_window"`
	InOpen           int       `json:"open_samples"`
	Open             []int64   `json:"open"`   // of the open window, [layers*experts]
	Closed           [][]int64 `json:"closed"` // of closed windows, oldest first
}

// New returns a Tracker of samples of the given shape. Its errors are
// *placement.Error.
func New(layers, experts int, o Options) (*Tracker, error) {
	f := file{Version: trackerVersion, Layers: layers, Experts: experts, Kept: cmp.Or(o.Windows, 1), SamplesPerWindow: o.SamplesPerWindow}
	if err := f.checkShape(); err != nil {
		return nil, err
	}
	f.Open, f.Closed = make([]int64, layers*experts), make([][]int64, 0, f.Kept+1)
	t := &Tracker{file: f, spare: make([][]int64, f.Kept)}
	for k := range t.spare {
		t.spare[k] = make([]int64, layers*experts)
	}
	return t, nil
}

// checkShape refuses more layers, experts and windows than there can be, and none.
func (f *file) checkShape() error {
	if err := validateShape(f.Layers, f.Experts); err != nil {
		return err
	}
	cells := f.Layers * f.Experts
	return cmp.Or(
		refuse.Value(f.Kept < 1, "windows", "%d: at least 1 is needed", f.Kept),
		refuse.Value(f.SamplesPerWindow < 0, "samples_per_window", "%d is negative", f.SamplesPerWindow),
		refuse.Shape(f.Kept > placement.MaxCells/cells, "windows", "%d of %d counts each: at most %d counts are supported", f.Kept, cells, placement.MaxCells),
	)
}

// validateShape refuses more layers and experts than there can be, and none.
func validateShape(layers, experts int) error {
	return cmp.Or(
		refuse.Shape(layers < 1 || layers > placement.MaxLayers, "layers", "%d: between 1 and %d are supported", layers, placement.MaxLayers),
		refuse.Shape(experts < 1 || experts > placement.MaxExperts, "experts", "%d: between 1 and %d are supported", experts, placement.MaxExperts),
	)
}

// Add adds a sample: how many tokens went to each expert, [layers][experts], ≥ 0.
// After SamplesPerWindow samples it closes the window. Bad input, and a count that
// would no longer fit an int64, is a *placement.Error, and changes nothing.
func (t *Tracker) Add(counts [][]int64) error {
	f := &t.file
	if len(counts) != f.Layers {
		return refuse.Errorf(placement.ErrShape, "counts", "%d layers, but %d are tracked", len(counts), f.Layers)
	}
	for l, row := range counts {
		if len(row) != f.Experts {
			return refuse.At(placement.ErrShape, "counts", l, -1, "%d experts, but %d are tracked", len(row), f.Experts)
		}
		open := f.Open[l*f.Experts:][:len(row)]
		for e, n := range row {
			switch {
			case n < 0:
				return refuse.At(placement.ErrValue, "counts", l, e, "%d is negative", n)
			case open[e] > math.MaxInt64-n:
				return refuse.At(placement.ErrValue, "counts", l, e, "%d more is too many to count", n)
			}
		}
	}
	for l, row := range counts {
		open := f.Open[l*f.Experts:][:len(row)]
		for e, n := range row {
			open[e] += n
		}
	}
	if f.InOpen++; f.InOpen == f.SamplesPerWindow {
		t.Roll()
	}
	return nil
}

// Roll closes the open window. A window without samples is not one: then it does
// nothing.
func (t *Tracker) Roll() {
	f := &t.file
	if f.InOpen == 0 {
		return
	}
	f.InOpen = 0
	f.Closed = append(f.Closed, f.Open)
	switch n := len(t.spare); {
	case len(f.Closed) > max(f.Kept, 1):
		f.Open = f.Closed[0]
		f.Closed = slices.Delete(f.Closed, 0, 1)
	case n > 0:
		f.Open, t.spare = t.spare[n-1], t.spare[:n-1]
	default: // after reading JSON
		f.Open = make([]int64, len(f.Open))
	}
	clear(f.Open)
}

// Windows writes the latest closed windows into dst, oldest first, each
// [layers][experts], and returns how many there were: at most len(dst). dst[:n]
// serves as eplb.Problem.Windows.
func (t *Tracker) Windows(dst []placement.Loads) (n int, err error) {
	f := &t.file
	n = min(len(dst), len(f.Closed))
	for _, d := range dst[:n] {
		if len(d) != f.Layers || slices.ContainsFunc(d, func(row []float64) bool { return len(row) != f.Experts }) {
			return 0, refuse.Errorf(placement.ErrShape, "dst", "not the %d layers of %d experts that are tracked", f.Layers, f.Experts)
		}
	}
	for i, d := range dst[:n] {
		counts := f.Closed[len(f.Closed)-n+i]
		for l, row := range d {
			for e := range row {
				row[e] = float64(counts[l*f.Experts+e])
			}
		}
	}
	return n, nil
}

// MarshalJSON writes all that the tracker knows: one that is read again goes on
// as if nothing had happened, but for Roll, which may allocate until as many
// windows are closed as are kept.
func (t *Tracker) MarshalJSON() ([]byte, error) { return json.Marshal(t.file) }

// UnmarshalJSON reads what MarshalJSON writes. Its errors name the field; then t is
// unchanged.
func (t *Tracker) UnmarshalJSON(text []byte) error {
	var f file
	if err := strict.Decode(text, "tracker", trackerVersion, &f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	*t = Tracker{file: f}
	return nil
}

// check demands as many counts as are tracked in each window, none of them negative.
func (f *file) check() error {
	if err := cmp.Or(
		f.checkShape(),
		refuse.Value(len(f.Closed) > f.Kept, "closed", "%d windows, where %d are kept", len(f.Closed), f.Kept),
		refuse.Value(f.InOpen < 0 || f.SamplesPerWindow > 0 && f.InOpen >= f.SamplesPerWindow, "open_samples", "%d of %d", f.InOpen, f.SamplesPerWindow),
	); err != nil {
		return err
	}
	for _, list := range append([][]int64{f.Open}, f.Closed...) {
		if len(list) != f.Layers*f.Experts {
			return refuse.Errorf(placement.ErrValue, "counts", "%d, but %d are tracked", len(list), f.Layers*f.Experts)
		}
		for i, n := range list {
			if n < 0 {
				return refuse.At(placement.ErrValue, "counts", i/f.Experts, i%f.Experts, "%d is negative", n)
			}
		}
	}
	return nil
}
