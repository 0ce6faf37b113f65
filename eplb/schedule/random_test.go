package schedule

import (
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/placement"
)

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

// randomLimits draws limits of memory and peers, and where lost experts come from.
func randomLimits(rng *rand.Rand, o *Options) {
	if rng.IntN(3) == 0 {
		o.PeersPerGPU = 1 + rng.IntN(2)
	}
	o.InPlace = rng.IntN(3) == 0
	if rng.IntN(2) == 0 {
		least := 2
		if o.InPlace {
			least = 1
		}
		o.StagedBytes = o.ExpertBytes*int64(least+rng.IntN(3)) + rng.Int64N(o.ExpertBytes)
	}
	if rng.IntN(3) == 0 {
		o.Outside = 20e9
	}
}

// randomResize draws two placements of units of different sizes: GPUs join or
// leave, slots come and go, some GPUs are dead, some leave by being out of
// service, and the first placement may lack experts.
func randomResize(rng *rand.Rand, big int) (prev, next placement.Placement, t placement.Topology, o Options) {
	a, b := 1+rng.IntN(big), 1+rng.IntN(big)
	gpus := max(a, b)
	t = placement.Topology{GPUs: gpus, NodeGPUs: []int{}, NVLink: 160e9, RDMA: 45e9}
	for left := gpus; left > 0; left -= t.NodeGPUs[len(t.NodeGPUs)-1] {
		t.NodeGPUs = append(t.NodeGPUs, 1+rng.IntN(left))
	}
	o = Options{ExpertBytes: 44_040_192, PerGPU: rng.IntN(4), RDMAPerGPU: rng.IntN(3), LayersAtOnce: rng.IntN(4)}
	if rng.IntN(2) == 0 {
		t.Speed = slices.Repeat([]float64{1}, gpus)
		for range rng.IntN(1 + gpus/2) {
			g := rng.IntN(gpus)
			if t.Speed[g] = 0; t.InService() == 0 {
				t.Speed[g] = 1
			}
		}
		for g, v := range t.Speed {
			if v == 0 && g < b && rng.IntN(2) == 0 {
				o.Leaving = append(o.Leaving, g)
			}
		}
	}
	draw := func(n int) (slots []int, total, living int) {
		for g := range n {
			k := 1 + rng.IntN(4)
			slots = append(slots, k)
			total += k
			if t.SpeedOf(g) > 0 {
				living += k
			}
		}
		return slots, total, living
	}
	before, n, _ := draw(a)
	after, m, living := draw(b)
	if living == 0 { // only GPUs beyond are in service
		t.Speed, o.Leaving, living = nil, nil, m
	}
	experts := 1 + rng.IntN(living)
	prev = placement.Placement{Experts: experts, GPUs: a, GPUSlots: before}
	next = placement.Placement{Experts: experts, GPUs: b, GPUSlots: after}
	for range 1 + rng.IntN(5) {
		row := make([]int, n)
		for i := range row {
			row[i] = rng.IntN(experts+1) - 1
		}
		prev.PhysicalToLogical = append(prev.PhysicalToLogical, row)
		last, at := make([]int, m), 0
		var open []int
		for g, k := range after {
			for range k {
				last[at] = -1
				if t.SpeedOf(g) > 0 {
					open = append(open, at)
				}
				at++
			}
		}
		rng.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		for i, s := range open {
			if last[s] = i; i >= experts {
				last[s] = rng.IntN(experts+1) - 1
			}
		}
		next.PhysicalToLogical = append(next.PhysicalToLogical, last)
	}
	return prev, next, t, o
}
