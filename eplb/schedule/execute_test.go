package schedule

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/placement"
)

// execute runs a schedule by its contract alone: it knows nothing of how rounds
// are made. It returns the first breach.
func execute(s *Schedule, prev, next *placement.Placement, t placement.Topology, o Options) error {
	perGPU, atOnce := max(1, o.PerGPU), o.LayersAtOnce
	if atOnce == 0 {
		atOnce = 8
	}
	first := prev.FirstSlots()
	gpu := func(slot int) int {
		for g := range prev.GPUs {
			if slot >= first[g] && slot < first[g+1] {
				return g
			}
		}
		return -1
	}
	state := prev.Clone().PhysicalToLogical
	copies, seconds := 0, 0.0
	for i, r := range s.Rounds {
		if len(r.Moves) == 0 {
			return fmt.Errorf("round %d has no moves", i)
		}
		start := prev.Clone()
		start.PhysicalToLogical = state
		start = start.Clone()
		type gl struct{ gpu, link int }
		sent, got, layers := map[gl]int{}, map[gl]int{}, map[int]bool{}
		written := map[[2]int]bool{}
		for _, m := range r.Moves {
			to := gpu(m.To)
			if written[[2]int{m.Layer, m.To}] {
				return fmt.Errorf("round %d writes layer %d, slot %d twice", i, m.Layer, m.To)
			}
			written[[2]int{m.Layer, m.To}] = true
			if was := prev.PhysicalToLogical[m.Layer][m.To]; was == next.PhysicalToLogical[m.Layer][m.To] {
				return fmt.Errorf("round %d: %+v writes a slot that keeps its expert", i, m)
			}
			switch {
			case m.Expert < 0:
				if m.From != -1 || t.SpeedOf(to) == 0 && i != 0 {
					return fmt.Errorf("round %d: %+v", i, m)
				}
			case t.SpeedOf(to) == 0:
				return fmt.Errorf("round %d: %+v writes to a GPU out of service", i, m)
			case m.From < 0:
				for slot, e := range start.PhysicalToLogical[m.Layer] {
					if e == m.Expert && t.SpeedOf(gpu(slot)) > 0 {
						return fmt.Errorf("round %d: %+v is loaded, but slot %d holds it", i, m, slot)
					}
				}
				if i >= s.Restore {
					return fmt.Errorf("round %d: %+v is loaded, but only %d rounds restore", i, m, s.Restore)
				}
				got[gl{to, 1}]++
				copies++
			default:
				from := gpu(m.From)
				if t.SpeedOf(from) == 0 {
					return fmt.Errorf("round %d: %+v reads a GPU out of service", i, m)
				}
				if e := start.PhysicalToLogical[m.Layer][m.From]; e != m.Expert {
					return fmt.Errorf("round %d: %+v reads a slot that holds %d", i, m, e)
				}
				if from != to {
					link := 1
					if t.Node(from) == t.Node(to) {
						link = 0
					}
					sent[gl{from, link}]++
					got[gl{to, link}]++
					copies++
				}
			}
			if t.SpeedOf(to) > 0 {
				layers[m.Layer] = true
			}
			state[m.Layer][m.To] = m.Expert
		}
		took := 0.0
		for g := range prev.GPUs {
			near, far := gl{g, 0}, gl{g, 1}
			if sent[near]+sent[far] > perGPU || got[near]+got[far] > perGPU {
				return fmt.Errorf("round %d: GPU %d sends %d and receives %d: at most %d", i, g, sent[near]+sent[far], got[near]+got[far], perGPU)
			}
			if o.RDMAPerGPU > 0 && max(sent[far], got[far]) > o.RDMAPerGPU {
				return fmt.Errorf("round %d: GPU %d sends %d and receives %d over RDMA: at most %d", i, g, sent[far], got[far], o.RDMAPerGPU)
			}
			took = max(took, float64(max(sent[near], got[near]))*float64(o.ExpertBytes)/t.NVLink,
				float64(max(sent[far], got[far]))*float64(o.ExpertBytes)/t.RDMA)
		}
		for _, m := range r.Moves {
			// Where several layers share a round, one may free a send after another chose.
			if len(layers) > 1 || m.From < 0 || t.Node(gpu(m.From)) == t.Node(gpu(m.To)) {
				continue
			}
			for slot, e := range start.PhysicalToLogical[m.Layer] {
				g := gpu(slot)
				if e == m.Expert && t.Node(g) == t.Node(gpu(m.To)) && t.SpeedOf(g) > 0 && sent[gl{g, 0}]+sent[gl{g, 1}] < perGPU {
					return fmt.Errorf("round %d: %+v goes over RDMA, but slot %d is on the node and idle", i, m, slot)
				}
			}
		}
		if len(layers) > atOnce && i >= s.Restore {
			return fmt.Errorf("round %d changes %d layers: at most %d", i, len(layers), atOnce)
		}
		if math.Abs(took-r.Seconds) > 1e-12*took {
			return fmt.Errorf("round %d takes %v s, not %v", i, took, r.Seconds)
		}
		seconds += took
		for l, row := range state {
			alive := make([]bool, prev.Experts)
			for slot, e := range row {
				if e >= 0 && t.SpeedOf(gpu(slot)) > 0 {
					alive[e] = true
				} else if e >= 0 {
					return fmt.Errorf("round %d leaves layer %d, slot %d on a GPU out of service", i, l, slot)
				}
			}
			if e := slices.Index(alive, false); e >= 0 && i+1 >= s.Restore {
				return fmt.Errorf("round %d leaves expert %d of layer %d without a copy", i, e, l)
			}
		}
	}
	for l, row := range state {
		if !slices.Equal(row, next.PhysicalToLogical[l]) {
			return fmt.Errorf("layer %d ends as %v, not %v", l, row, next.PhysicalToLogical[l])
		}
	}
	counts, err := prev.CountMoves(next)
	if err != nil {
		return err
	}
	needed := 0
	for _, n := range counts {
		needed += n
	}
	switch {
	case copies > needed || copies < needed && next.Duplicates() == 0:
		return fmt.Errorf("%d copies, but the change needs %d", copies, needed)
	case copies != s.Moves || s.Bytes != int64(copies)*o.ExpertBytes:
		return fmt.Errorf("%d copies, not %d (%d bytes)", copies, s.Moves, s.Bytes)
	case !s.Priced || math.Abs(seconds-s.Seconds) > 1e-9*seconds:
		return fmt.Errorf("%v s, not %v (%v)", seconds, s.Seconds, s.Priced)
	case s.RoundsBound > len(s.Rounds):
		return fmt.Errorf("%d rounds are below the bound of %d", len(s.Rounds), s.RoundsBound)
	case s.SecondsBound > s.Seconds*(1+1e-9):
		return fmt.Errorf("%v s is below the bound of %v", s.Seconds, s.SecondsBound)
	}
	return nil
}

// randomPlan draws two placements of some unit, of one of several kinds, and
// how to get from one to the other.
func randomPlan(rng *rand.Rand, big int) (prev, next placement.Placement, t placement.Topology, o Options) {
	nodes := 1 + rng.IntN(3)
	t = placement.Topology{GPUs: nodes * (1 + rng.IntN(big)), Nodes: nodes, NVLink: 160e9, RDMA: 45e9}
	if t.GPUs == 1 {
		t.GPUs, t.Nodes = 2, 1
	}
	alive := t.GPUs
	if rng.IntN(3) == 0 && t.GPUs > 1 {
		t.Speed = slices.Repeat([]float64{1}, t.GPUs)
		for range 1 + rng.IntN(min(3, t.GPUs-1)) {
			t.Speed[rng.IntN(t.GPUs)] = 0
		}
		alive = t.InService()
	}
	slots := make([]int, t.GPUs)
	each := 1 + rng.IntN(big)
	total, living := 0, 0
	for g := range slots {
		slots[g] = each
		if rng.IntN(2) == 0 {
			slots[g] = rng.IntN(each + 1)
		}
		if g == t.GPUs-1 && living+slots[g] == 0 || alive == 1 {
			slots[g] = each
		}
		total += slots[g]
		if t.SpeedOf(g) > 0 {
			living += slots[g]
		}
	}
	if living == 0 {
		for g := range slots {
			slots[g], total, living = 1, t.GPUs, alive
		}
	}
	kind := rng.IntN(6)
	experts := living
	if kind > 1 {
		experts = 1 + rng.IntN(living)
	}
	layers := 1 + rng.IntN(6)
	prev = placement.Placement{Experts: experts, GPUs: t.GPUs, GPUSlots: slots}
	next = prev
	next.GPUSlots = slices.Clone(slots)
	first := make([]int, t.GPUs+1)
	for g, n := range slots {
		first[g+1] = first[g] + n
	}
	fill := func(dead bool) []int {
		row := make([]int, total)
		var open []int
		for g := range slots {
			for i := first[g]; i < first[g+1]; i++ {
				row[i] = -1
				if dead || t.SpeedOf(g) > 0 {
					open = append(open, i)
				}
			}
		}
		rng.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		for i, at := range open {
			switch {
			case i < experts:
				row[at] = i
			case kind == 2 && rng.IntN(2) == 0: // left empty
			case kind == 3:
				row[at] = 0
			default:
				row[at] = rng.IntN(experts)
			}
		}
		return row
	}
	for range layers {
		a := fill(true)
		b := fill(false)
		if kind == 4 && t.Speed == nil { // a few exchanges
			b = slices.Clone(a)
			for range rng.IntN(4) {
				i, j := rng.IntN(total), rng.IntN(total)
				b[i], b[j] = b[j], b[i]
			}
		}
		if kind == 5 && t.Speed == nil { // one ring through all slots
			b = append(slices.Clone(a[1:]), a[0])
		}
		prev.PhysicalToLogical = append(prev.PhysicalToLogical, a)
		next.PhysicalToLogical = append(next.PhysicalToLogical, b)
	}
	o = Options{ExpertBytes: 44_040_192, PerGPU: rng.IntN(4), RDMAPerGPU: rng.IntN(3), LayersAtOnce: rng.IntN(4)}
	if rng.IntN(2) == 0 {
		for range layers {
			o.Worth = append(o.Worth, float64(rng.IntN(5)))
		}
	}
	return prev, next, t, o
}
