package track

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// The streams that a Tracker keeps apart unless told otherwise: prefill and
// decode units see different experts hot.
const (
	Prefill = iota
	Decode
)

// Options choose what a Tracker keeps; the zero value is the sums of
// Prefill and Decode, and no windows.
type Options struct {
	// Streams is how many streams are kept apart; 0 = 2.
	Streams int
	// Windows is how many of the last closed windows are kept.
	Windows int
	// SamplesPerWindow closes a window by itself after so many samples; 0 =
	// only Roll closes windows.
	SamplesPerWindow int
	// HalfLife is the age, in samples, at which a sample counts half as much in
	// the decayed sum; 0 = no decayed sum is kept.
	HalfLife float64
}

// Tracker adds up the loads of a running system, stream by stream: over all
// samples, over the last windows, and with older samples counting less. It
// knows no clock: a sample is whatever the caller counts between two calls of
// Add. Counts are exact.
//
// It is not safe for concurrent use. Add and Roll allocate nothing.
type Tracker struct {
	layers, experts int
	o               Options
	growth          float64 // of the weight of samples, from one to the next
	streams         []stream
}

// stream is what a Tracker keeps of one; each sum is of [layers*experts].
type stream struct {
	Sum    []int64   `json:"sum"` // of all samples
	InOpen int       `json:"open_samples"`
	Open   []int64   `json:"open,omitempty"`   // of the open window
	Closed [][]int64 `json:"closed,omitempty"` // of closed windows, oldest first; beyond are those to come
	// Decayed is the sum in which older samples count less, Unit what a count of the
	// next one adds to it.
	Decayed []float64 `json:"decayed,omitempty"`
	Unit    float64   `json:"unit,omitempty"`
}

// rescaleAbove is the unit at which a decayed sum is scaled down. Until then a
// sample only adds to it, at a weight that grows.
const rescaleAbove = 0x1p200

// leastHalfLife keeps the weights of samples in range; it is as good as no past.
const leastHalfLife = 0.01

func errHalfLife(x float64) error {
	return refuse.Errorf(placement.ErrValue, "half_life", "%v: 0, or a finite number ≥ %v, is needed", x, leastHalfLife)
}

// validate checks each option by itself.
func (o *Options) validate() error {
	switch {
	case o.Streams < 0:
		return refuse.Errorf(placement.ErrValue, "streams", "%d is negative", o.Streams)
	case o.Windows < 0:
		return refuse.Errorf(placement.ErrValue, "windows", "%d is negative", o.Windows)
	case o.SamplesPerWindow < 0:
		return refuse.Errorf(placement.ErrValue, "samples_per_window", "%d is negative", o.SamplesPerWindow)
	case o.HalfLife != 0 && !(o.HalfLife >= leastHalfLife && o.HalfLife <= math.MaxFloat64):
		return errHalfLife(o.HalfLife)
	}
	return nil
}

// New returns a Tracker of samples of the given shape. Its errors are
// *placement.Error.
func New(layers, experts int, o Options) (*Tracker, error) {
	if o.Streams == 0 {
		o.Streams = 2
	}
	t, err := empty(layers, experts, o)
	if err != nil {
		return nil, err
	}
	cells := layers * experts
	t.streams = make([]stream, o.Streams)
	for i := range t.streams {
		s := &t.streams[i]
		s.Sum = make([]int64, cells)
		if o.Windows > 0 {
			s.Open, s.Closed = make([]int64, cells), make([][]int64, o.Windows)
			for k := range s.Closed {
				s.Closed[k] = make([]int64, cells)
			}
			s.Closed = s.Closed[:0]
		}
		if o.HalfLife > 0 {
			s.Decayed, s.Unit = make([]float64, cells), 1
		}
	}
	return t, nil
}

// empty is a Tracker that has no streams yet.
func empty(layers, experts int, o Options) (*Tracker, error) {
	if err := validateShape(layers, experts); err != nil {
		return nil, err
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	cells := layers * experts
	if room := placement.MaxCells / cells; o.Streams > room || o.Windows > room/o.Streams {
		return nil, refuse.Errorf(placement.ErrShape, "windows", "%d of %d streams, %d counts each: at most %d counts are supported", o.Windows, o.Streams, cells, placement.MaxCells)
	}
	t := &Tracker{layers: layers, experts: experts, o: o, growth: 1}
	if o.HalfLife > 0 {
		t.growth = exp2(1 / o.HalfLife)
	}
	return t, nil
}

// validateShape refuses more layers and experts than there can be, and none.
func validateShape(layers, experts int) error {
	switch {
	case layers < 1 || layers > placement.MaxLayers:
		return refuse.Errorf(placement.ErrShape, "layers", "%d: between 1 and %d are supported", layers, placement.MaxLayers)
	case experts < 1 || experts > placement.MaxExperts:
		return refuse.Errorf(placement.ErrShape, "experts", "%d: between 1 and %d are supported", experts, placement.MaxExperts)
	}
	return nil
}

// Add adds a sample to a stream: how many tokens went to each expert,
// [layers][experts], ≥ 0. After SamplesPerWindow samples it closes the window.
// Bad input, and a count that would no longer fit an int64, is a
// *placement.Error, and changes nothing.
func (t *Tracker) Add(stream int, counts [][]int64) error {
	s, err := t.stream(stream)
	if err != nil {
		return err
	}
	if len(counts) != t.layers {
		return refuse.Errorf(placement.ErrShape, "counts", "%d layers, but %d are tracked", len(counts), t.layers)
	}
	for l, row := range counts {
		if len(row) != t.experts {
			return refuse.At(placement.ErrShape, "counts", l, -1, "%d experts, but %d are tracked", len(row), t.experts)
		}
		sum := s.Sum[l*t.experts:][:len(row)]
		for e, n := range row {
			if n < 0 || sum[e] > math.MaxInt64-n {
				return errCount(l, e, n)
			}
		}
	}
	for l, row := range counts {
		at := l * t.experts
		add(s.Sum[at:], row)
		if s.Open != nil {
			add(s.Open[at:], row)
		}
		if s.Decayed != nil {
			for e, n := range row {
				s.Decayed[at+e] += float64(float64(n) * s.Unit)
			}
		}
	}
	s.InOpen++
	if s.Decayed != nil {
		t.age(s)
	}
	if t.o.SamplesPerWindow > 0 && s.InOpen >= t.o.SamplesPerWindow {
		t.roll(s)
	}
	return nil
}

func errCount(layer, expert int, n int64) error {
	if n < 0 {
		return refuse.At(placement.ErrValue, "counts", layer, expert, "%d is negative", n)
	}
	return refuse.At(placement.ErrValue, "counts", layer, expert, "%d more is too many to count", n)
}

func add(dst, counts []int64) {
	dst = dst[:len(counts)]
	for i, n := range counts {
		dst[i] += n
	}
}

// age makes the next sample weigh more than all before it.
func (t *Tracker) age(s *stream) {
	s.Unit *= t.growth
	if s.Unit > rescaleAbove {
		for i := range s.Decayed {
			s.Decayed[i] /= s.Unit
		}
		s.Unit = 1
	}
}

// Roll closes the open window of a stream. A window without samples is not one:
// then it does nothing.
func (t *Tracker) Roll(stream int) error {
	s, err := t.stream(stream)
	if err != nil {
		return err
	}
	if s.InOpen > 0 {
		t.roll(s)
	}
	return nil
}

func (t *Tracker) roll(s *stream) {
	s.InOpen = 0
	if s.Open == nil {
		return
	}
	n := len(s.Closed)
	switch {
	case n == t.o.Windows: // the oldest goes
		oldest := s.Closed[0]
		copy(s.Closed, s.Closed[1:])
		n--
		s.Closed[n] = oldest
	case n < cap(s.Closed) && s.Closed[:n+1][n] != nil:
		s.Closed = s.Closed[:n+1]
	default: // after reading JSON
		s.Closed = append(s.Closed, make([]int64, len(s.Open)))
	}
	s.Open, s.Closed[n] = s.Closed[n], s.Open
	clear(s.Open)
}

// Sum writes the sum of all samples of a stream into dst, [layers][experts].
func (t *Tracker) Sum(stream int, dst placement.Loads) error {
	s, err := t.into(stream, dst)
	if err != nil {
		return err
	}
	t.write(dst, s.Sum)
	return nil
}

// Windows writes the latest closed windows of a stream into dst, oldest first,
// each [layers][experts], and returns how many there were: at most len(dst).
// dst[:n] serves as eplb.Problem.Windows.
func (t *Tracker) Windows(stream int, dst []placement.Loads) (n int, err error) {
	s, err := t.stream(stream)
	if err != nil {
		return 0, err
	}
	n = min(len(dst), len(s.Closed))
	for _, d := range dst[:n] {
		if _, err := t.into(stream, d); err != nil {
			return 0, err
		}
	}
	for i, d := range dst[:n] {
		t.write(d, s.Closed[len(s.Closed)-n+i])
	}
	return n, nil
}

// Decayed writes the decayed sum of a stream into dst, [layers][experts]: the
// latest sample at full weight, one of HalfLife samples before it at half.
func (t *Tracker) Decayed(stream int, dst placement.Loads) error {
	s, err := t.into(stream, dst)
	if err != nil {
		return err
	}
	if s.Decayed == nil {
		return refuse.Errorf(placement.ErrValue, "half_life", "no decayed sum is kept")
	}
	// unit is already that of the next sample.
	latest := s.Unit / t.growth
	for l, row := range dst {
		for e := range row {
			row[e] = s.Decayed[l*t.experts+e] / latest
		}
	}
	return nil
}

func (t *Tracker) stream(i int) (*stream, error) {
	if i < 0 || i >= len(t.streams) {
		return nil, refuse.Errorf(placement.ErrValue, "stream", "%d: there are %d", i, len(t.streams))
	}
	return &t.streams[i], nil
}

// into is stream where dst has the right shape.
func (t *Tracker) into(i int, dst placement.Loads) (*stream, error) {
	s, err := t.stream(i)
	if err != nil {
		return nil, err
	}
	ok := len(dst) == t.layers
	for _, row := range dst {
		ok = ok && len(row) == t.experts
	}
	if !ok {
		return nil, refuse.Errorf(placement.ErrShape, "dst", "not the %d layers of %d experts that are tracked", t.layers, t.experts)
	}
	return s, nil
}

func (t *Tracker) write(dst placement.Loads, counts []int64) {
	for l, row := range dst {
		for e := range row {
			row[e] = float64(counts[l*t.experts+e])
		}
	}
}

// exp2 is 2 to the x, for 0 ≤ x < 1000, alike on every platform, which math.Exp2
// does not promise: a product of square roots, each rounded once.
func exp2(x float64) float64 {
	whole := math.Floor(x)
	x -= whole
	y, root := 1.0, 2.0
	for x > 0 {
		root = math.Sqrt(root)
		x *= 2
		if x >= 1 {
			x--
			y *= root
		}
	}
	return math.Ldexp(y, int(whole))
}
