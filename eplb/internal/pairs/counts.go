package pairs

import (
	"cmp"
	"slices"
	"sort"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// Counts for two slots a GPU. Let every GPU have two slots and the same speed,
// and let T be a level. A replica above T/2 is big and needs a partner of at
// most T less its size. The fold is the best pairing, so given counts reach T if
// and only if, for every size t of a big replica,
//
//	(replicas of at least t) ≤ (replicas of at most T-t)
//
// and T can be reached at all only if some counts that sum to at most the slots
// meet that. reach decides it exactly, by branch and bound.
//
// Every expert starts with the fewest copies that bring it to T less the
// smallest replica there can be. Take the largest t whose condition fails and
// let z = T-t. In any completion that succeeds some expert helps at t: one of
// at least t is cut to less than t, or one below t is cut to at most z. Neither
// harms the conditions above t: replicas leave that range, and small ones come.
// So below this point only sizes of at most t matter, for which
//
//   - all replicas of at most z count alike, so a further copy of any of them
//     is as good as of another;
//   - of the uncut experts that k copies bring to at most z the largest is best
//     to cut: the smaller one, left uncut, is the better partner.
//
// That leaves to branch on the experts of at least t, one expert for each k, and
// the few replicated ones between. A branch costs copies, of which few are left,
// and where the most that these can mend at t is not enough there is nothing
// below.

// counts is the memory of reach.
type counts struct {
	w     []float64 // load of each expert
	order []int32   // experts by load, largest first
	gpus  int
	slots int

	T     float64
	count []int32
	below []int32  // an expert must keep fewer copies than this; 0 = no matter
	left  int      // copies left to give
	work  int      // that may still be done: runs looked at, times copies left
	big   []run    // experts whose replicas are above T/2, the largest first
	cut   []run    // other experts with several copies, the smallest first
	hot   []choice // a stack of what the nodes on the way branch on
}

// reach looks for counts whose fold is at most T and leaves them in p.count. It
// returns false, and proved, if there are none; not proved if work ran out. least is a size that no replica can be below.
func (p *counts) reach(T, least float64, work int) (found, proved bool) {
	p.work = work
	if !p.start(T, least) {
		return false, true
	}
	found = p.branch()
	return found, !found && p.work > 0
}

// start gives every expert the fewest copies that bring it to T less least, and
// says whether there are enough.
func (p *counts) start(T, least float64) bool {
	p.T = T * (1 + 1e-12) // rounding must not rule T out
	p.big, p.cut, p.hot = p.big[:0], p.cut[:0], p.hot[:0]
	p.left = p.slots
	for _, e := range p.order {
		w := p.w[e]
		n := int32(1)
		if w > p.T-least {
			if p.T <= least {
				return false
			}
			k := pack.CeilDiv(w, p.T-least)
			if k > p.left || k > p.gpus {
				return false
			}
			n = int32(k)
		}
		p.count[e], p.below[e] = n, 0
		if p.left -= int(n); p.left < 0 {
			return false
		}
		p.enlist(e)
	}
	return true
}

// enlist puts e among the big or the cut ones, where it belongs.
func (p *counts) enlist(e int32) {
	n := p.count[e]
	r := run{p.w[e] / float64(n), e, n}
	switch {
	case r.size > p.T/2:
		i, _ := slices.BinarySearchFunc(p.big, r, largerFirst)
		p.big = slices.Insert(p.big, i, r)
	case n > 1: // the last of equals
		i := sort.Search(len(p.cut), func(i int) bool { return p.cut[i].size > r.size })
		p.cut = slices.Insert(p.cut, i, r)
	}
}

// give makes e's copies n.
func (p *counts) give(e, n int32) {
	same := func(r run) bool { return r.id == e }
	if i := slices.IndexFunc(p.big, same); i >= 0 {
		p.big = slices.Delete(p.big, i, i+1)
	} else if i := slices.IndexFunc(p.cut, same); i >= 0 {
		p.cut = slices.Delete(p.cut, i, i+1)
	}
	p.left -= int(n - p.count[e])
	p.count[e] = n
	p.enlist(e)
}

// fails finds the largest size whose condition fails: the big runs up to i are
// of at least that size, and short is how many partners they lack.
func (p *counts) fails() (i int, short int32) {
	cold, q := len(p.order)-1, 0
	var bigs, partners int32
	for i := range p.big {
		bigs += p.big[i].n
		if bigs <= partners {
			continue
		}
		z := p.T - p.big[i].size
		for cold >= 0 && p.w[p.order[cold]] <= z {
			if p.count[p.order[cold]] == 1 {
				partners++
			}
			cold--
		}
		for q < len(p.cut) && p.cut[q].size <= z {
			partners += p.cut[q].n
			q++
		}
		if bigs > partners {
			for ; i+1 < len(p.big) && p.big[i+1].size == p.big[i].size; i++ {
				bigs += p.big[i+1].n
			}
			return i, bigs - partners
		}
	}
	return -1, 0
}

// branch searches on from the counts at hand and says whether it found some; it
// leaves them in place then, and all as it was otherwise.
func (p *counts) branch() bool {
	if p.work <= 0 {
		return false
	}
	p.work -= (len(p.big) + len(p.cut) + 1) * (p.left + 1)
	at, short := p.fails()
	if at < 0 {
		return true
	}
	if p.left == 0 {
		return false
	}
	first, found := len(p.hot), false
	p.choose(at)
	most := 1.0 // what a copy mends
	for _, c := range p.hot[first:] {
		most = max(most, c.rate)
	}
	if most*float64(p.left) < float64(short) {
		p.hot = p.hot[:first]
		return false
	}
	// What is searched is ruled out beside the others.
	last := len(p.hot)
	for i := first; i < last && !found; i++ {
		c := p.hot[i]
		p.give(c.e, c.to)
		if found = p.branch(); !found {
			p.give(c.e, c.n)
		}
		p.hot[i].to, p.below[c.e] = p.below[c.e], c.to
	}
	for ; last > first && !found; last-- {
		p.below[p.hot[last-1].e] = p.hot[last-1].to
	}
	p.hot = p.hot[:first]
	return found
}

// choice is to raise the copies of an expert from n, and how much of what is short one
// of them mends at most.
type choice struct {
	e, to, n int32
	rate     float64
}

// may says whether no branch searched before rules n copies of e out.
func (p *counts) may(e, n int32) bool {
	return int(n) <= p.gpus && (p.below[e] == 0 || n < p.below[e])
}

// choose lists what to branch on where the condition of the big run at fails, those
// that mend most for a copy first.
func (p *counts) choose(at int) {
	t := p.big[at].size
	z := p.T - t
	first := len(p.hot)
	add := func(e, n, to int32, rate float64) {
		if int(to-n) <= p.left && p.may(e, to) {
			p.hot = append(p.hot, choice{e, to, n, rate})
		}
	}
	for _, r := range p.big[:at+1] {
		to, n, d := p.toBelow(r, t), float64(r.n), float64(p.toAtMost(r, z)-r.n)
		add(r.id, r.n, to, max(n/float64(to-r.n), (2*n+d)/d))
	}
	slices.SortStableFunc(p.hot[first:], func(a, b choice) int { return cmp.Compare(b.n*(a.to-a.n), a.n*(b.to-b.n)) })
	// One expert for each number of copies.
	one := false
	for k := int32(2); int(k) <= p.left+1; k++ {
		i := p.firstAtMost(float64(k) * z)
		for ; i < len(p.order); i++ {
			e := p.order[i]
			if p.count[e] == 1 && p.w[e] < t && p.may(e, k) {
				break
			}
		}
		if i == len(p.order) || k > 2 && p.w[p.order[i]] <= float64(k-1)*z { // fewer copies do
			continue
		}
		one = one || k == 2
		add(p.order[i], 1, k, float64(k)/float64(k-1))
	}
	for _, list := range [2][]run{p.big[at+1:], p.cut} {
		for _, r := range list {
			switch {
			case r.n == 1 || r.size >= t:
			case r.size > z: // between
				to := p.toAtMost(r, z)
				add(r.id, r.n, to, float64(to)/float64(to-r.n))
			case !one && p.may(r.id, r.n+1):
				one = true
				add(r.id, r.n, r.n+1, 1)
			}
		}
	}
}

// firstAtMost is the first place in p.order of a load of at most x.
func (p *counts) firstAtMost(x float64) int {
	return sort.Search(len(p.order), func(i int) bool { return p.w[p.order[i]] <= x })
}

// toBelow is the fewest copies that bring a run below t.
func (p *counts) toBelow(r run, t float64) int32 {
	n := r.n + 1
	for p.w[r.id]/float64(n) >= t {
		n++
	}
	return n
}

// toAtMost is the fewest copies that bring a run to at most z, cut off where
// there are too few left.
func (p *counts) toAtMost(r run, z float64) int32 {
	if z <= 0 {
		return 1 << 30
	}
	return int32(pack.CeilDiv(p.w[r.id], z))
}
