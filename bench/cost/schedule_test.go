package cost

import (
	"math/rand/v2"
	"testing"
)

// period plays layers until each one shifts all that the next can depend on by
// the same time: for stages in whole numbers that is exact, and holds for ever.
func period(t *testing.T, play func(layers int) *runner) float64 {
	t.Helper()
	state := func(r *runner) []float64 { return append(append(r.rank, r.network), r.carry[:]...) }
	for layers := 8; layers <= 1<<17; layers *= 4 {
		a, b := state(play(layers)), state(play(layers+1))
		same := true
		for i := range a {
			same = same && b[i]-a[i] == b[0]-a[0]
		}
		if same {
			return b[0] - a[0]
		}
	}
	t.Fatal("the schedule does not settle")
	return 0
}

// draw fills ranks stage times; alike = the same on every rank.
func draw(r *rand.Rand, ranks int, alike bool, top int) []float64 {
	out := make([]float64, ranks)
	base := r.IntN(top)
	for i := range out {
		out[i] = float64(base)
		if !alike {
			out[i] = float64(r.IntN(top))
		}
	}
	return out
}

// TestLayerIsTimeline demands that the closed forms equal the schedules as they
// are played, to the last bit: 20,000 balanced cases and 3,000 of 8 ranks that
// all differ.
func TestLayerIsTimeline(t *testing.T) {
	balanced, uneven := 20_000, 3_000
	if testing.Short() {
		balanced, uneven = 2_000, 300
	}
	const seed = 1
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range balanced + uneven {
		ranks, alike := 1, true
		if i >= balanced {
			ranks, alike = 8, false
		}
		top := []int{4, 100, 10_000}[i%3]
		p := &Prefill{Attention: draw(r, ranks, alike, top), Shared: draw(r, ranks, alike, top), Experts: draw(r, ranks, alike, top), Dispatch: float64(r.IntN(top)), Combine: float64(r.IntN(top))}
		got := period(t, func(n int) *runner { return playPrefill(func(int) *Prefill { return p }, ranks, n, false) })
		if want := p.Layer(); got != want {
			t.Fatalf("seed %d, case %d: prefill %+v takes %v a layer, the closed form says %v", seed, i, p, got, want)
		}
		s := &Decode{Before: draw(r, ranks, alike, top), After: draw(r, ranks, alike, top), Experts: draw(r, ranks, alike, top), Dispatch: float64(r.IntN(top)), Combine: float64(r.IntN(top))}
		got = period(t, func(n int) *runner { return playDecode(func(int) *Decode { return s }, ranks, n, false) })
		if want := s.HalfLayer(); got != want {
			t.Fatalf("seed %d, case %d: decode %+v takes %v a half-layer, the closed form says %v", seed, i, s, got, want)
		}
	}
}

// TestMovingHotRank plays layers whose hottest rank moves, which the closed form
// takes for alike: the difference must stay small.
func TestMovingHotRank(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 0))
	const ranks, halves = 8, 116
	for range 50 {
		layers := make([]*Decode, halves)
		sum := 0.0
		q, p := draw(r, ranks, false, 40), draw(r, ranks, false, 20)
		for g := range ranks {
			q[g] += 170
			p[g] += 70
		}
		for l := range layers {
			m := draw(r, ranks, false, 30)
			for g := range m {
				m[g] += 60
			}
			layers[l] = &Decode{Before: p, After: q, Experts: m, Dispatch: 90, Combine: 140}
			sum += layers[l].HalfLayer()
		}
		ends := playDecode(func(h int) *Decode { return layers[h] }, ranks, halves, false).ends
		if off := ends[halves-1]/sum - 1; off > .02 || off < -.06 {
			t.Errorf("played %v, the closed forms add up to %v: %+.1f%%", ends[halves-1], sum, 100*off)
		}
	}
}
