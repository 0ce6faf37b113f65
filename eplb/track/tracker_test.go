package track

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// slowTracker keeps every sample and adds up anew when asked.
type slowTracker struct {
	samples [][][]int64 // since ever
	ends    []int       // samples before the end of each closed window
}

func (s *slowTracker) sum(from, to int, dst placement.Loads) {
	for l, row := range dst {
		for e := range row {
			n := int64(0)
			for _, c := range s.samples[from:to] {
				n += c[l][e]
			}
			row[e] = float64(n)
		}
	}
}

func TestTrackerAgainstRecomputation(t *testing.T) {
	const layers, experts, kept, every = 2, 5, 3, 7
	r := rand.New(rand.NewPCG(11, 0))
	tr, err := New(layers, experts, Options{Windows: kept, SamplesPerWindow: every})
	if err != nil {
		t.Fatal(err)
	}
	s := &slowTracker{}
	got, want := placement.NewLoads(layers, experts), placement.NewLoads(layers, experts)
	windows := make([]placement.Loads, 4)
	for i := range windows {
		windows[i] = placement.NewLoads(layers, experts)
	}
	equal := func(op int, what string, tolerance float64) {
		t.Helper()
		for l, row := range want {
			for e, x := range row {
				if math.Abs(got[l][e]-x) > tolerance*x {
					t.Fatalf("operation %d, %s, layer %d, expert %d: %v, want %v", op, what, l, e, got[l][e], x)
				}
			}
		}
	}
	for op := range 100000 {
		open := 0
		if n := len(s.ends); n > 0 {
			open = s.ends[n-1]
		}
		switch r.IntN(12) {
		case 0:
			tr.Roll()
			if len(s.samples) > open {
				s.ends = append(s.ends, len(s.samples))
			}
		case 1: // refused: nothing changes
			bad := [][]int64{{1, 2, 3, 4, 5}, {1, 2, 3, 4, -5}}
			if err := tr.Add(bad); !errors.Is(err, placement.ErrValue) {
				t.Fatalf("operation %d: %v", op, err)
			}
		case 2:
			asked := r.IntN(5)
			n, err := tr.Windows(windows[:asked])
			if err != nil {
				t.Fatal(err)
			}
			if most := min(asked, kept, len(s.ends)); n != most {
				t.Fatalf("operation %d: %d windows, want %d", op, n, most)
			}
			for k := range n {
				at := len(s.ends) - n + k
				from := 0
				if at > 0 {
					from = s.ends[at-1]
				}
				s.sum(from, s.ends[at], want)
				copy(got[0], windows[k][0])
				copy(got[1], windows[k][1])
				equal(op, "window", 0)
			}
		default:
			c := make([][]int64, layers)
			for l := range c {
				c[l] = make([]int64, experts)
				for e := range c[l] {
					c[l][e] = r.Int64N(1 << r.IntN(30))
				}
			}
			if err := tr.Add(c); err != nil {
				t.Fatal(err)
			}
			s.samples = append(s.samples, c)
			if len(s.samples)-open == every {
				s.ends = append(s.ends, len(s.samples))
			}
		}
	}
}

func TestTrackerAllocatesNothing(t *testing.T) {
	tr, err := New(4, 16, Options{Windows: 2, SamplesPerWindow: 3})
	if err != nil {
		t.Fatal(err)
	}
	counts := make([][]int64, 4)
	for l := range counts {
		counts[l] = make([]int64, 16)
		counts[l][l] = 5
	}
	windows := []placement.Loads{placement.NewLoads(4, 16), placement.NewLoads(4, 16)}
	n := testing.AllocsPerRun(100, func() {
		err := errors.Join(tr.Add(counts), tr.Add(counts))
		tr.Roll()
		_, more := tr.Windows(windows)
		if err != nil || more != nil {
			t.Error(err, more)
		}
	})
	if n != 0 {
		t.Errorf("%v allocations a sample", n)
	}
}

func TestTrackerRefuses(t *testing.T) {
	for _, c := range []struct {
		layers, experts int
		o               Options
		want            string
	}{
		{0, 4, Options{}, "layers: 0: between 1 and 4096 are supported"},
		{1, -1, Options{}, "experts: -1: between 1 and 65536 are supported"},
		{1, 4, Options{Windows: -1}, "windows: -1: at least 1 is needed"},
		{1, 4, Options{SamplesPerWindow: -1}, "samples_per_window: -1 is negative"},
		{64, 256, Options{Windows: math.MaxInt32}, "windows: 2147483647 of 16384 counts each: at most 67108864 counts are supported"},
	} {
		if _, err := New(c.layers, c.experts, c.o); err == nil || err.Error() != c.want {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	tr, err := New(2, 2, Options{})
	if err != nil {
		t.Fatal(err)
	}
	good := [][]int64{{1, 2}, {3, math.MaxInt64 - 1}}
	if err := tr.Add(good); err != nil {
		t.Fatal(err)
	}
	dst := placement.NewLoads(2, 2)
	for _, c := range []struct {
		err  error
		want string
	}{
		{tr.Add(good[:1]), "counts: 1 layers, but 2 are tracked"},
		{tr.Add([][]int64{{1, 2}, {3}}), "counts: layer 1: 1 experts, but 2 are tracked"},
		{tr.Add([][]int64{{1, 2}, {-3, 1}}), "counts: layer 1, index 0: -3 is negative"},
		{tr.Add([][]int64{{1, 2}, {3, 2}}), "counts: layer 1, index 1: 2 more is too many to count"},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("%v, want %q", c.err, c.want)
		}
	}
	if n, err := tr.Windows([]placement.Loads{dst}); n != 0 || err != nil {
		t.Errorf("%d windows, %v: none is closed", n, err)
	}
	tr.Roll()
	tr.Roll() // without samples there is nothing to close
	if n, err := tr.Windows([]placement.Loads{dst, dst}); n != 1 || err != nil || dst[0][0] != 1 || dst[1][0] != 3 {
		t.Errorf("%d windows, %v, %v: what was refused was counted", n, err, dst)
	}
	if _, err := tr.Windows([]placement.Loads{dst[:1]}); err == nil || err.Error() != "dst: not the 2 layers of 2 experts that are tracked" {
		t.Error(err)
	}
}

func TestHalved(t *testing.T) {
	for x := 0.0; x <= 100; x += 0.37 {
		if got, want := halved(x), math.Exp2(-x); math.Abs(got-want) > 1e-14*want {
			t.Errorf("2^-%v: %v, want %v", x, got, want)
		}
	}
}

func BenchmarkTrackerAdd(b *testing.B) {
	tr, err := New(58, 256, Options{Windows: 4, SamplesPerWindow: 1000})
	if err != nil {
		b.Fatal(err)
	}
	counts := make([][]int64, 58)
	for l := range counts {
		counts[l] = make([]int64, 256)
		for e := range counts[l] {
			counts[l][e] = int64(l * e)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := tr.Add(counts); err != nil {
			b.Fatal(err)
		}
	}
}

// The windows that are kept are there from the start: no Roll allocates, the first ones
// neither.
func TestRollAllocatesNothing(t *testing.T) {
	tr, err := New(1, 2, Options{Windows: 8})
	if err != nil {
		t.Fatal(err)
	}
	counts := [][]int64{{1, 2}}
	if n := testing.AllocsPerRun(5, func() {
		_ = tr.Add(counts)
		tr.Roll()
	}); n != 0 {
		t.Errorf("%v allocations a window", n)
	}
}
