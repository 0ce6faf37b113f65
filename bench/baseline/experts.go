package baseline

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/placement"
)

// Experts is a policy that places experts: replicas slots a layer over gpus,
// which share them evenly; replicas must be at least loads.Experts(). It knows
// neither nodes nor groups. The result may hold an expert twice on one GPU.
type Experts struct {
	Name string
	Plan func(loads placement.Loads, replicas, gpus int) placement.Placement
}

// ExpertPolicies lists what systems run beside the published algorithm, which
// is eplb.DeepSeek.
func ExpertPolicies() []Experts {
	return []Experts{{"none", None}, {"snake", Snake}, {"lpt-heap", LPTHeap}, {"lpt", LPT}}
}

// None is what engines start with: the experts in order, and in order again in
// the slots beyond them.
func None(loads placement.Loads, replicas, gpus int) placement.Placement {
	return placement.Trivial(len(loads), loads.Experts(), replicas, gpus)
}

// Snake is SGLang's deepseek_vec and OpenEvolve's zigzag: copies go one by one
// to the expert of the largest load a replica, and the replicas, sorted by
// load, are dealt to the GPUs in alternating direction.
func Snake(loads placement.Loads, replicas, gpus int) placement.Placement {
	return plan(loads, replicas, gpus, func(row []float64, slots *gpuSlots) {
		sorted := byLoad(row, replicate(row, replicas, false))
		for i, r := range sorted {
			g := i % gpus
			if i/gpus%2 == 1 {
				g = gpus - 1 - g
			}
			slots.put(g, r)
		}
	})
}

// LPTHeap is TensorRT-LLM's planner without groups: copies as in Snake, ties to
// the larger expert; then the largest replica goes to the least loaded GPU with
// a free slot, ties to the smaller expert and the smaller GPU.
func LPTHeap(loads placement.Loads, replicas, gpus int) placement.Placement {
	return plan(loads, replicas, gpus, func(row []float64, slots *gpuSlots) {
		for _, r := range byLoad(row, replicate(row, replicas, true)) {
			slots.put(slots.least(func(int) bool { return true }), r)
		}
	})
}

// LPT is the textbook rule, longest processing time first: as LPTHeap, but ties
// go to the smaller expert, and no GPU gets an expert that it holds while
// another has room.
func LPT(loads placement.Loads, replicas, gpus int) placement.Placement {
	return plan(loads, replicas, gpus, func(row []float64, slots *gpuSlots) {
		for _, r := range byLoad(row, replicate(row, replicas, false)) {
			g := slots.least(func(g int) bool { return !slices.Contains(slots.experts[g], r.expert) })
			if g < 0 {
				g = slots.least(func(int) bool { return true })
			}
			slots.put(g, r)
		}
	})
}

// replica is one copy of an expert and its share of the expert's load.
type replica struct {
	expert int
	load   float64
}

// gpuSlots is one layer as it fills.
type gpuSlots struct {
	room    int // slots a GPU
	experts [][]int
	load    []float64
}

func (s *gpuSlots) put(g int, r replica) {
	s.experts[g] = append(s.experts[g], r.expert)
	s.load[g] += r.load
}

// least is the least loaded GPU with room that fits, ties to the lowest; -1 = none.
func (s *gpuSlots) least(fits func(g int) bool) int {
	best := -1
	for g := range s.experts {
		if len(s.experts[g]) < s.room && (best < 0 || s.load[g] < s.load[best]) && fits(g) {
			best = g
		}
	}
	return best
}

// plan fills layer by layer.
func plan(loads placement.Loads, replicas, gpus int, fill func(row []float64, slots *gpuSlots)) placement.Placement {
	p := placement.Placement{Experts: loads.Experts(), GPUs: gpus}
	for _, row := range loads {
		s := gpuSlots{room: replicas / gpus, experts: make([][]int, gpus), load: make([]float64, gpus)}
		fill(row, &s)
		p.PhysicalToLogical = append(p.PhysicalToLogical, slices.Concat(s.experts...))
	}
	return p
}

// replicate counts the replicas of each expert: one each, then one at a time
// where the load a replica is largest (Adams' method).
func replicate(row []float64, replicas int, larger bool) []int {
	count := make([]int, len(row))
	for e := range count {
		count[e] = 1
	}
	for range replicas - len(row) {
		best := 0
		for e := range row {
			a, b := row[e]/float64(count[e]), row[best]/float64(count[best])
			if a > b || larger && a == b {
				best = e
			}
		}
		count[best]++
	}
	return count
}

// byLoad lists the replicas, largest first, ties to the smaller expert.
func byLoad(row []float64, count []int) []replica {
	var out []replica
	for e, n := range count {
		for range n {
			out = append(out, replica{e, row[e] / float64(n)})
		}
	}
	slices.SortStableFunc(out, func(a, b replica) int { return cmp.Compare(b.load, a.load) })
	return out
}
