package placement

import "math"

// Loads is how many tokens were routed to each expert, [layers][experts],
// finite and ≥ 0. Any unit serves: only ratios within a layer matter. A row of
// zeros is an ordinary layer (a dense one, or one that saw no traffic).
type Loads [][]float64

// NewLoads returns zero loads of the given shape in one piece of memory.
func NewLoads(layers, experts int) Loads {
	cells := make([]float64, layers*experts)
	l := make(Loads, layers)
	for i := range l {
		l[i] = cells[i*experts : (i+1)*experts : (i+1)*experts]
	}
	return l
}

// number is any integer or float. It stands here so that the library packages
// build with the standard library alone, also where no module can be fetched.
type number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr | ~float32 | ~float64
}

// LoadsOf copies integer or float counts into Loads and validates them.
func LoadsOf[T number](rows [][]T) (Loads, error) {
	if len(rows) == 0 {
		return nil, Loads(nil).Validate()
	}
	for i, r := range rows {
		if len(r) != len(rows[0]) {
			return nil, errRagged(i, len(r), len(rows[0]))
		}
	}
	l := NewLoads(len(rows), len(rows[0]))
	for i, r := range rows {
		for e, v := range r {
			l[i][e] = float64(v)
		}
	}
	return l, l.Validate()
}

// Experts is the number of experts a layer, 0 without layers.
func (l Loads) Experts() int {
	if len(l) == 0 {
		return 0
	}
	return len(l[0])
}

// Validate returns an *Error for no layers, no experts, rows of different
// length, and any value that is negative, not finite, or so large that a
// layer's sum would not be finite. It costs one pass.
func (l Loads) Validate() error {
	switch {
	case len(l) == 0:
		return errorf(ErrShape, "loads", -1, -1, "no layers")
	case len(l[0]) == 0:
		return errorf(ErrShape, "loads", 0, -1, "no experts")
	case len(l) > MaxLayers:
		return errorf(ErrShape, "loads", -1, -1, "%d layers: at most %d are supported", len(l), MaxLayers)
	case len(l[0]) > MaxExperts:
		return errorf(ErrShape, "loads", 0, -1, "%d experts: at most %d are supported", len(l[0]), MaxExperts)
	case len(l)*len(l[0]) > MaxCells:
		return errorf(ErrShape, "loads", -1, -1, "%d layers of %d experts: at most %d numbers are supported", len(l), len(l[0]), MaxCells)
	}
	const most = math.MaxFloat64 / (4 * MaxExperts)
	for i, row := range l {
		if len(row) != len(l[0]) {
			return errRagged(i, len(row), len(l[0]))
		}
		for e, v := range row {
			if !(v >= 0 && v <= most) {
				return errLoad(i, e, v)
			}
		}
	}
	return nil
}

func errRagged(layer, got, want int) error {
	return errorf(ErrShape, "loads", layer, -1, "%d experts, but layer 0 has %d", got, want)
}

func errLoad(layer, index int, v float64) error {
	switch {
	case v < 0:
		return errorf(ErrValue, "loads", layer, index, "%v is negative", v)
	case math.IsNaN(v) || math.IsInf(v, 0):
		return errorf(ErrValue, "loads", layer, index, "%v is not a finite number", v)
	}
	return errorf(ErrValue, "loads", layer, index, "%v is too large to add up", v)
}

// AddWindow adds the loads of one more window into l, which must have its
// shape. On error l is unchanged.
func (l Loads) AddWindow(w Loads) error {
	if len(w) != len(l) || w.Experts() != l.Experts() {
		return errorf(ErrShape, "loads", -1, -1, "a window of %dx%d beside one of %dx%d", len(w), w.Experts(), len(l), l.Experts())
	}
	for i, row := range w {
		if len(row) != len(l[i]) {
			return errorf(ErrShape, "loads", i, -1, "%d experts in a window beside one of %d", len(row), len(l[i]))
		}
	}
	for i, row := range w {
		for e, v := range row {
			l[i][e] += v
		}
	}
	return nil
}
