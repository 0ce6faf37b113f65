package eplb

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/placement"
)

// oracle is the least imbalance of any placement of one layer, by exhaustive
// enumeration: every way to fill the slots in service, GPU by GPU, with no expert
// twice on one GPU (a GPU with more slots than experts leaves the rest empty)
// and each expert at least once. It shares no code with the package. upper is
// an imbalance that some placement has, or +Inf; it only cuts the enumeration short.
func oracle(loads []float64, t placement.Topology, slots int, upper float64) float64 {
	o := enumeration{w: loads, best: upper}
	total := 0.0
	for _, x := range loads {
		total += x
	}
	if total == 0 {
		return 1
	}
	speeds := 0.0
	for g := range t.GPUs {
		n := slots / t.GPUs
		if g < slots%t.GPUs {
			n++
		}
		if v := t.SpeedOf(g); v > 0 {
			o.room = append(o.room, min(n, len(loads)))
			o.speed = append(o.speed, v)
			speeds += v
		}
	}
	for g := range o.speed {
		o.speed[g] *= total / speeds // load at imbalance 1
	}
	o.left = make([]int, len(loads))
	o.count = make([]float64, len(loads))
	o.sets = make([]int, len(o.room))
	sum := 0
	for _, n := range o.room {
		sum += n
	}
	o.counts(0, sum)
	return o.best
}

type enumeration struct {
	w     []float64
	room  []int
	speed []float64
	left  []int     // copies of each expert that are not placed yet
	count []float64 // copies of each
	sets  []int     // the experts of each GPU, as bits
	best  float64
}

// counts chooses how many copies experts e.. get.
func (o *enumeration) counts(e, slots int) {
	if e == len(o.w) {
		if slots == 0 {
			o.fill(0)
		}
		return
	}
	rest := len(o.w) - e - 1
	for n := 1; n <= len(o.room) && n <= slots-rest; n++ {
		if o.w[e]/float64(n) >= o.best*slices.Max(o.speed) {
			continue
		}
		o.left[e], o.count[e] = n, float64(n)
		o.counts(e+1, slots-n)
	}
}

// fill chooses the experts of GPU g and of those after it.
func (o *enumeration) fill(g int) {
	if g == len(o.room) {
		level := 0.0
		for g, set := range o.sets {
			sum := 0.0
			for e := range o.w {
				if set>>e&1 != 0 {
					sum += o.w[e] / o.count[e]
				}
			}
			level = max(level, sum/o.speed[g])
		}
		o.best = min(o.best, level)
		return
	}
	o.choose(g, 0, 0, o.room[g], 0)
}

// choose adds experts from e on to the set of GPU g, which has room for more.
func (o *enumeration) choose(g, e, set, room int, sum float64) {
	if sum >= o.best*o.speed[g]*(1-1e-12) {
		return
	}
	if e == len(o.w) {
		if room > 0 {
			return
		}
		alike := g > 0 && o.room[g] == o.room[g-1] && o.speed[g] == o.speed[g-1]
		if alike && set < o.sets[g-1] {
			return
		}
		o.sets[g] = set
		o.fill(g + 1)
		return
	}
	if o.left[e] > 0 && room > 0 {
		o.left[e]--
		o.choose(g, e+1, set|1<<e, room-1, sum+o.w[e]/o.count[e])
		o.left[e]++
	}
	// Without it here, the later GPUs must take all copies that are left.
	if o.left[e] <= len(o.room)-1-g && room <= len(o.w)-1-e {
		o.choose(g, e+1, set, room, sum)
	}
}

// enumerate is what oracle computes, by writing every expert into every slot:
// not one thought of pruning. With doubles an expert may be on a GPU twice.
func enumerate(loads []float64, t placement.Topology, slots int, doubles bool) float64 {
	p := placement.Placement{Experts: len(loads), GPUs: t.GPUs, GPUSlots: placement.EvenSlots(slots, t.GPUs)}
	row := make([]int, slots)
	p.PhysicalToLogical = [][]int{row}
	first := p.FirstSlots()
	var free []int
	for g := range t.GPUs {
		for s := first[g]; s < first[g+1]; s++ {
			row[s] = -1
			if t.SpeedOf(g) > 0 && s-first[g] < len(loads) {
				free = append(free, s)
			}
		}
	}
	best := math.Inf(1)
	for {
		for k := 0; ; k++ {
			if k == len(free) {
				return best
			}
			if row[free[k]]++; row[free[k]] < len(loads) {
				break
			}
			row[free[k]] = 0
		}
		if slices.Contains(row, -1) && slices.ContainsFunc(free, func(s int) bool { return row[s] < 0 }) {
			continue
		}
		if !doubles && p.Duplicates() > 0 {
			continue
		}
		if scores, err := p.ScoreLayers(placement.Loads{loads}, t); err == nil {
			best = min(best, scores[0].Imbalance)
		}
	}
}

// loadKinds are the loads that small and random instances are made of.
var loadKinds = []string{"uniform", "zipf", "ties", "onehot", "zeros", "integers"}

// drawLoads draws the loads of one layer.
func drawLoads(r *rand.Rand, kind string, experts int) []float64 {
	w := make([]float64, experts)
	switch kind {
	case "uniform":
		for e := range w {
			w[e] = r.Float64()
		}
	case "zipf":
		s := .5 + r.Float64()
		for i, e := range r.Perm(experts) {
			w[e] = math.Pow(float64(i+1), -s) * math.Exp(.3*r.NormFloat64())
		}
	case "ties":
		a, b := float64(1+r.IntN(9)), float64(1+r.IntN(9))
		for e := range w {
			w[e] = a
			if r.IntN(3) == 0 {
				w[e] = b
			}
		}
	case "onehot":
		w[r.IntN(experts)] = 1 + float64(r.IntN(100))
	case "zeros":
		for e := range w {
			if r.IntN(2) == 0 {
				w[e] = r.Float64()
			}
		}
	case "integers":
		for e := range w {
			w[e] = float64(r.IntN(12))
		}
	default:
		panic(kind)
	}
	return w
}

// drawTopology draws GPUs: alike, of different speed, or some out of service.
func drawTopology(r *rand.Rand, gpus int, units string) placement.Topology {
	t := placement.Topology{GPUs: gpus}
	switch units {
	case "alike":
	case "speeds":
		t.Speed = make([]float64, gpus)
		for g := range t.Speed {
			t.Speed[g] = []float64{.5, .8, 1, 1, 2}[r.IntN(5)]
		}
	case "dead":
		t.Speed = make([]float64, gpus)
		for g := range t.Speed {
			t.Speed[g] = 1
		}
		t.Speed[r.IntN(gpus)] = 0
	default:
		panic(units)
	}
	return t
}

// drawTiny draws an instance that oracle can solve, and says what it is.
func drawTiny(r *rand.Rand, i int) (p Problem, kind string) {
	units := []string{"alike", "alike", "speeds", "dead"}[i/len(loadKinds)%4]
	kind = loadKinds[i%len(loadKinds)]
	for {
		gpus, experts := 2+r.IntN(3), 2+r.IntN(7)
		slots := experts + r.IntN(13-experts)
		p = Problem{Loads: placement.Loads{drawLoads(r, kind, experts)}, Replicas: slots, Topology: drawTopology(r, gpus, units)}
		q, o := p, Options{}
		if validate(&q, &o) == nil {
			return p, fmt.Sprint(kind, "/", units)
		}
	}
}

// greedy is the plain way: each further replica to the expert whose replicas
// carry most, then replicas by size, largest first, each on the GPU that is
// lightest for its speed and has room. Without doubles it passes over a GPU that
// holds the expert already, and may come to a dead end: then ok is false. With
// doubles and one group it is the published algorithm but for ties and rounding.
func greedy(loads []float64, t placement.Topology, slots int, doubles bool) (p placement.Placement, ok bool) {
	p = placement.Placement{Experts: len(loads), GPUs: t.GPUs, GPUSlots: placement.EvenSlots(slots, t.GPUs)}
	row := make([]int, slots)
	p.PhysicalToLogical = [][]int{row}
	first := p.FirstSlots()
	free := 0
	for g := range t.GPUs {
		for s := first[g]; s < first[g+1]; s++ {
			row[s] = -1
			if t.SpeedOf(g) > 0 {
				free++
			}
		}
	}
	count := make([]int, len(loads))
	var replicas []int
	for len(replicas) < free {
		hot := 0
		for e := range loads {
			if count[e] == 0 {
				hot = e
				break
			}
			if loads[e]/float64(count[e]) > loads[hot]/float64(count[hot]) {
				hot = e
			}
		}
		count[hot]++
		replicas = append(replicas, hot)
	}
	size := func(e int) float64 { return loads[e] / float64(count[e]) }
	slices.SortStableFunc(replicas, func(a, b int) int { return cmp.Compare(size(b), size(a)) })
	load := make([]float64, t.GPUs)
	for _, e := range replicas {
		best, at := -1, 0
		for g := range t.GPUs {
			v := t.SpeedOf(g)
			s := first[g] + slices.Index(row[first[g]:first[g+1]], -1)
			if v == 0 || s < first[g] || (!doubles && slices.Contains(row[first[g]:first[g+1]], e)) {
				continue
			}
			if best < 0 || (load[g]+size(e))/v < (load[best]+size(e))/t.SpeedOf(best) {
				best, at = g, s
			}
		}
		if best < 0 {
			return p, false
		}
		row[at] = e
		load[best] += size(e)
	}
	return p, true
}
