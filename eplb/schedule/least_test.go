package schedule

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// leastOf finds, over all schedules of one layer that copy experts only to GPUs that are to
// keep them, the fewest rounds and, by Dijkstra's search, the fewest seconds.
func leastOf(start, end [3]uint8, slots []int, t *placement.Topology, o Options) (rounds int, seconds float64) {
	type state = [3]uint8
	bw := [3]float64{t.NVLink, t.RDMA, o.Outside}
	step := func(s state, each func(state, float64)) {
		type req struct{ g, e int }
		var asks []req
		for g := range 3 {
			for e := range 8 {
				if end[g]&^s[g]>>e&1 > 0 {
					asks = append(asks, req{g, e})
				}
			}
		}
		held := s[0] | s[1] | s[2]
		var in, out [3][3]int // gpu, link
		got := s
		var drop func(g int, to state, sec float64)
		drop = func(g int, to state, sec float64) {
			if g == 3 {
				if held&^(to[0]|to[1]|to[2]) == 0 && to != s {
					each(to, sec)
				}
				return
			}
			for sub := s[g] &^ end[g]; ; sub = (sub - 1) & (s[g] &^ end[g]) {
				if d := got[g] &^ sub; bits.OnesCount8(d) <= slots[g] {
					to[g] = d
					drop(g+1, to, sec)
				}
				if sub == 0 {
					break
				}
			}
		}
		var rec func(i int)
		rec = func(i int) {
			if i == len(asks) {
				sec := 0.0
				for g := range 3 {
					for k := range 3 {
						if n := max(in[g][k], out[g][k]); n > 0 {
							sec = max(sec, float64(n)*float64(o.ExpertBytes)/bw[k])
						}
					}
				}
				drop(0, got, sec)
				return
			}
			rec(i + 1)
			q := asks[i]
			for h := -1; h < 3; h++ {
				if h < 0 && held>>q.e&1 > 0 || h >= 0 && s[h]>>q.e&1 == 0 {
					continue
				}
				k := 0
				switch {
				case h < 0 && o.Outside > 0:
					k = 2
				case h < 0 || t.Node(h) != t.Node(q.g):
					k = 1
				}
				sum := func(x [3]int) int { return x[0] + x[1] + x[2] }
				if sum(in[q.g]) >= o.PerGPU || h >= 0 && sum(out[h]) >= o.PerGPU || k == 1 && (in[q.g][1] >= o.RDMAPerGPU || h >= 0 && out[h][1] >= o.RDMAPerGPU) {
					continue
				}
				in[q.g][k]++
				if h >= 0 {
					out[h][k]++
				}
				got[q.g] |= 1 << q.e
				rec(i + 1)
				got[q.g] &^= 1 << q.e
				in[q.g][k]--
				if h >= 0 {
					out[h][k]--
				}
			}
		}
		rec(0)
	}
	seen, now := map[state]bool{start: true}, []state{start}
	for rounds = 0; !seen[end]; rounds++ {
		var next []state
		for _, s := range now {
			step(s, func(to state, _ float64) {
				if !seen[to] {
					seen[to] = true
					next = append(next, to)
				}
			})
		}
		now = next
		if len(now) == 0 {
			return -1, -1
		}
	}
	cost, done := map[state]float64{start: 0}, map[state]bool{}
	for !done[end] {
		var best state
		found := false
		for s, c := range cost {
			if !done[s] && (!found || c < cost[best]) {
				best, found = s, true
			}
		}
		done[best] = true
		step(best, func(to state, sec float64) {
			if c, ok := cost[to]; !ok || cost[best]+sec < c {
				cost[to] = cost[best] + sec
			}
		})
	}
	return rounds, cost[end]
}

// Bounds hold, and rounds are few, where links, nodes, GPUs out of service and experts from
// outside bound what a round does: against all schedules of three GPUs.
func TestBoundsAgainstAllSchedules(t *testing.T) {
	rng := rand.New(rand.NewPCG(93, 0))
	sharp, ours, fewest, seconds, least := 0, 0, 0, 0.0, 0.0
	for i := range 2000 {
		unit := placement.Topology{GPUs: 3, NodeGPUs: [][]int{{1, 2}, {2, 1}, {3}, {1, 1, 1}}[rng.IntN(4)], NVLink: 4e9, RDMA: 1e9}
		o := Options{ExpertBytes: 1e9, PerGPU: 1 + rng.IntN(3)}
		o.RDMAPerGPU = 1 + rng.IntN(o.PerGPU)
		if rng.IntN(3) == 0 {
			o.Outside = []float64{2e9, 9e9}[rng.IntN(2)]
		}
		before := []int{1 + rng.IntN(3), 1 + rng.IntN(3), 1 + rng.IntN(3)}
		after := slices.Clone(before)
		if rng.IntN(2) == 0 {
			unit.Speed = []float64{1, 1, 1}
			g := rng.IntN(3)
			unit.Speed[g] = 0
			if rng.IntN(2) == 0 {
				o.Leaving = []int{g}
			}
		}
		living := 0
		for g, k := range after {
			if unit.SpeedOf(g) > 0 {
				living += k
			}
		}
		experts := 1 + rng.IntN(min(5, living))
		draw := func(end bool) (placement.Placement, [3]uint8) {
			for {
				p := placement.Placement{Experts: experts, GPUs: 3, GPUSlots: before, PhysicalToLogical: make([][]int, 1)}
				var sets [3]uint8
				for g, k := range before {
					perm := rng.Perm(experts)
					for j := range k {
						e := -1
						if j < experts && rng.IntN(8) > 0 && (!end || unit.SpeedOf(g) > 0) {
							e = perm[j]
							sets[g] |= 1 << e
						}
						p.PhysicalToLogical[0] = append(p.PhysicalToLogical[0], e)
					}
				}
				if !end || p.CheckComplete() == nil {
					return p, sets
				}
			}
		}
		prev, have := draw(false)
		next, want := draw(true)
		s, err := New(&prev, &next, unit, o)
		if err == nil {
			err = execute(&s, &prev, &next, unit, o)
		}
		if err != nil {
			t.Fatalf("case %d: %v", i, err)
		}
		for _, g := range s.Dead {
			have[g] = 0
		}
		n, sec := leastOf(have, want, before, &unit, o)
		if n < 0 {
			t.Fatalf("case %d: no way from %v to %v", i, prev, next)
		}
		if s.RoundsBound > max(n, min(1, len(s.Rounds))) || s.SecondsBound > sec*(1+1e-9) {
			t.Fatalf("case %d: bounds %d, %v, but there is %d, %v\n%+v\n%+v\n%+v %+v", i, s.RoundsBound, s.SecondsBound, n, sec, prev, next, unit, o)
		}
		few := max(n, min(1, len(s.Rounds))) // what GPUs change among their slots takes a round too
		if s.RoundsBound == few {
			sharp++
		}
		ours, fewest, seconds, least = ours+len(s.Rounds), fewest+few, seconds+s.Seconds, least+sec
	}
	t.Logf("%d rounds, the fewest %d; %.4g seconds, the least %.4g; %d bounds of rounds are reached", ours, fewest, seconds, least, sharp)
	if sharp < 1600 || float64(ours) > 1.06*float64(fewest) || seconds > 1.09*least {
		t.Errorf("%d rounds, the fewest %d; %v seconds, the least %v; %d bounds of rounds are reached", ours, fewest, seconds, least, sharp)
	}
}
