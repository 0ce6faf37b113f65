package pairs

import (
	"cmp"
	"slices"
	"sort"
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

// reach looks for counts whose fold is at most T and leaves them in p.count. It returns
// false, and proved, if there are none; not proved if work ran out. least is a size that
// no replica can be below.
func (p *counts) reach(T, least float64, work int) (found, proved bool) {
	p.work = work
	if !p.start(T, least) {
		return false, true
	}
	found = p.branch()
	return found, !found && p.work > 0
}

// fails finds the largest size whose condition fails: the runs up to i are of at least
// that size, and short is how many partners they lack.
func (p *counts) fails() (i int, short int32) {
	q := len(p.runs) - 1
	var bigs, partners int32
	for i, r := range p.runs {
		if r.size <= p.T/2 {
			break
		}
		if bigs += r.n; bigs <= partners {
			continue
		}
		z := p.T - r.size
		for ; q >= 0 && p.runs[q].size <= z; q-- {
			partners += p.runs[q].n
		}
		if bigs > partners {
			for ; i+1 < len(p.runs) && p.runs[i+1].size == r.size; i++ {
				bigs += p.runs[i+1].n
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
	p.work -= len(p.runs)
	at, short := p.fails()
	if at < 0 || p.left == 0 {
		return at < 0
	}
	first, found := len(p.hot), false
	p.choose(at)
	most := 1.0 // what a copy mends
	for _, c := range p.hot[first:] {
		most = max(most, c.rate)
	}
	last := len(p.hot)
	if most*float64(p.left) < float64(short) {
		last = first
	}
	// What is searched is ruled out beside the others.
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

// choose lists what to branch on where the condition of the big run at fails, those
// that mend most for a copy first.
func (p *counts) choose(at int) {
	t := p.runs[at].size
	z := p.T - t
	first := len(p.hot)
	add := func(r run, to int32, rate float64) bool {
		may := int(to-r.n) <= p.left && int(to) <= p.gpus && (p.below[r.id] == 0 || to < p.below[r.id])
		if may {
			p.hot = append(p.hot, choice{r.id, to, r.n, rate})
		}
		return may
	}
	for _, r := range p.runs[:at+1] {
		to, n, d := p.toBelow(r, t), float64(r.n), float64(fewest(p.w[r.id], z)-r.n)
		add(r, to, max(n/float64(to-r.n), (2*n+d)/d))
	}
	slices.SortStableFunc(p.hot[first:], func(a, b choice) int { return cmp.Compare(b.n*(a.to-a.n), a.n*(b.to-b.n)) })
	bigs := len(p.hot)
	// Larger ones take more copies than there are, and uncut ones as many as one before.
	most := float64(p.left+1) * z
	for _, r := range p.runs[sort.Search(len(p.runs), func(i int) bool { return i > at && p.runs[i].size <= most }):] {
		to := r.n + 1
		switch {
		case r.size <= z: // any is as good as another, and none as one that two bring there
			if most <= z || add(r, to, 1) {
				slices.Reverse(p.hot[bigs:])
				return
			}
		case r.n > 1:
			to = fewest(p.w[r.id], z)
			add(r, to, float64(to)/float64(to-r.n))
		case r.size <= most:
			if to = fewest(r.size, z); add(r, to, float64(to)/float64(to-1)) {
				most = float64(to-1) * z
			}
		}
	}
	slices.Reverse(p.hot[bigs:])
}

// toBelow is the fewest copies that bring a run below t.
func (p *counts) toBelow(r run, t float64) int32 {
	n := r.n + 1
	for p.w[r.id]/float64(n) >= t {
		n++
	}
	return n
}
