package workload

import (
	"math"
	"testing"

	"github.com/moelb/moelb/bench/simulate/prefixes"
)

// take plays so many requests.
func take(r *Replay, n int) []Request {
	out := make([]Request, n)
	for i := range out {
		out[i], _ = r.Next()
	}
	return out
}

// TestReplayRate: whatever the trace's times are, and the rate, requests come in
// order and at that rate, and a trace is never played faster than it was recorded.
func TestReplayRate(t *testing.T) {
	even := func(n int, gap float64) []Request {
		out := make([]Request, n)
		for i := range out {
			out[i] = Request{Arrival: gap * float64(i), Input: 1 + i, Output: 1}
		}
		return out
	}
	bursts := even(40, 1)
	for i := range bursts {
		bursts[i].Arrival = float64(i / 10 * 10)
	}
	for _, c := range []struct {
		name     string
		requests []Request
	}{{"even", even(100, .5)}, {"one request", even(1, 0)}, {"two", even(2, 3)}, {"all at one time", even(50, 0)}, {"bursts", bursts}} {
		for _, rate := range []float64{.01, .7, 1, 2, 3.7, 250} {
			r := NewReplay(c.requests, rate)
			if r.slow < 1-1e-9 {
				t.Errorf("%s at %v a second: %v times as fast as recorded", c.name, rate, 1/r.slow)
			}
			const n = 4000
			all := take(r, n)
			last := 0.0
			seen := map[int]int{}
			for i, q := range all {
				if q.Arrival < last {
					t.Fatalf("%s at %v a second: request %d comes at %v, after one at %v", c.name, rate, i, q.Arrival, last)
				}
				last = q.Arrival
				seen[q.Input]++
			}
			slack := 3 * float64(len(r.copies)) * r.span * r.slow / float64(n) / float64(len(r.copies)) // the rounds that are cut
			if got := n / last; math.Abs(got/rate-1) > .02+slack {
				t.Errorf("%s at %v a second: %v", c.name, rate, got)
			}
			if each := n / len(c.requests); each > 20*len(r.copies) {
				for k, x := range seen {
					if math.Abs(float64(x)/float64(each)-1) > .2 {
						t.Errorf("%s at %v a second: request %d came %d times of %d", c.name, rate, k, x, each)
					}
				}
			}
		}
	}
}

// TestReplayBlocks: a round of a copy has the prefixes of the trace, and is a copy of
// its own; a store finds nothing of one in another.
func TestReplayBlocks(t *testing.T) {
	trace := []Request{{Arrival: 0, Input: 600, Output: 1, Blocks: []int64{1, 2}}, {Arrival: 1, Input: 1100, Output: 1, Blocks: []int64{1, 2, 3}}, {Arrival: 4, Input: 40, Output: 1, Blocks: []int64{9}}}
	store := prefixes.New(1 << 20)
	came := map[int64]int{}
	for _, q := range take(NewReplay(trace, 5), 3000) {
		want := 0
		if k := came[q.Copy]; q.Blocks[0] == 1 && k&1 != 0 {
			want = 2 // the other of the two that share came before
		}
		if q.Blocks[0] == 1 {
			came[q.Copy] |= 1
		}
		if got := store.Match(q.Blocks, q.Copy); got != want {
			t.Fatalf("copy %d: %d blocks of %v are found, %d are of this copy", q.Copy, got, q.Blocks, want)
		}
		store.Add(q.Blocks, q.Copy)
	}
	if q := take(NewReplay(trace, .1), 1)[0]; q.Copy != 0 {
		t.Errorf("the first round is copy %d", q.Copy)
	}
}
