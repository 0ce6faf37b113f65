package pairs

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// counts gives the experts of a layer copies towards a level T that no GPU is to pass.
// What must hold for T is a condition on the sizes of all replicas; reach and giveBySums
// give copies until theirs does.
type counts struct {
	w     []float64 // load of each expert
	order []int32   // experts by load, largest first
	gpus  int
	slots int

	T     float64
	count []int32
	runs  []run    // the replicas of every expert, the largest first
	left  int      // copies left to give
	work  int      // that may still be done: runs looked at
	below []int32  // an expert must keep fewer copies than this; 0 = no matter
	hot   []choice // a stack of what may be given next
}

// run is the replicas of an expert, all of one size.
type run struct {
	size float64
	id   int32
	n    int32
}

// largerFirst orders runs by size, the largest first, ties by index.
func largerFirst(a, b run) int { return pack.Order(b.size, a.size, a.id, b.id) }

// choice is to raise the copies of an expert from n, and how much of what is short one
// of them mends at most.
type choice struct {
	e, to, n int32
	rate     float64
}

// start gives every expert the fewest copies that bring it to T less beside, which is the
// least that its GPU must hold besides it, and says whether there are enough.
func (p *counts) start(T, beside float64) bool {
	p.T = T * (1 + 1e-12) // rounding must not rule T out
	p.runs, p.hot, p.left = p.runs[:0], p.hot[:0], p.slots
	for _, e := range p.order {
		k := fewest(p.w[e], p.T-beside)
		if int(k) > p.left {
			return false
		}
		p.left -= int(k)
		p.count[e], p.below[e] = k, 0
		p.enlist(e)
	}
	return true
}

// fewest is the fewest copies that bring a load to at most a size.
func fewest(w, size float64) int32 {
	switch {
	case w <= size:
		return 1
	case size <= 0:
		return 1 << 30
	}
	return int32(pack.CeilDiv(w, size))
}

func (p *counts) run(e int32) run { return run{p.w[e] / float64(p.count[e]), e, p.count[e]} }

// enlist puts e where it belongs among the runs.
func (p *counts) enlist(e int32) {
	r := p.run(e)
	if n := len(p.runs); n == 0 || largerFirst(p.runs[n-1], r) < 0 {
		p.runs = append(p.runs, r)
		return
	}
	i, _ := slices.BinarySearchFunc(p.runs, r, largerFirst)
	p.runs = slices.Insert(p.runs, i, r)
}

// give makes e's copies n.
func (p *counts) give(e, n int32) {
	i, _ := slices.BinarySearchFunc(p.runs, p.run(e), largerFirst)
	p.runs = slices.Delete(p.runs, i, i+1)
	p.left -= int(n - p.count[e])
	p.count[e] = n
	p.enlist(e)
}

// giveRest gives what copies are left, one after another, to the largest replicas or to
// the smallest.
func (p *counts) giveRest(largest bool) {
	for p.left > 0 {
		i, by := 0, 1
		if !largest {
			i, by = len(p.runs)-1, -1
		}
		for int(p.runs[i].n) == p.gpus {
			i += by
		}
		p.give(p.runs[i].id, p.runs[i].n+1)
	}
}
