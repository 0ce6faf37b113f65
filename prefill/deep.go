package prefill

import "github.com/moelb/moelb/prefill/internal/pack"

// depth sees whether the queue is deep: whether what of it fits into a full step of all
// ranks, with attention in proportion, fills half of that, and it is a batch. So it is
// once nothing has come for unusually long, or if more is here than the unit has ever
// done, and more than the longest prompt's way through such steps, which is longer than
// alone, but not counted so where each rank caches its own. A batch ends soonest where
// long prompts are worked off in proportion, and the others in turn. While others come,
// however many wait, all are better served shortest first, and a long prompt will have
// company.
func (b *Balancer) depth() {
	f := &b.former
	longest, started := b.longest()
	f.Density, f.Deep = 0, false
	f.Silent = b.observed.came == 0 && b.observed.silent > unusual*b.observed.pause
	if len(b.levels) == 0 || b.priorities() || len(f.Open) == 0 || b.cost.Pair == 0 || b.cost.Token == 0 {
		return
	}
	power := max(b.power, 1/MaxSpeed)
	queued := max(0, b.ahead()-started/power)
	density := float64(b.total.Pairs) / float64(max(1, b.total.Tokens))
	tokens, pairs := float64(f.Tokens), float64(density*float64(f.Tokens))
	full := float64(b.cost.Token*tokens) + float64(b.cost.Pair*pairs)
	way := f.longest
	if !f.local { // else full steps run first what is cached, as shortest first does
		way = max(way, full*max(float64(longest.Tokens)/tokens, float64(longest.Pairs)/max(pairs, 1)))
	}
	batch := f.Silent || queued > way && b.ahead() > b.clock
	f.Deep = batch && b.fits(queued*power, full) > full*power/2
	if f.Deep {
		f.Density = density
	}
}

// unusual: nothing comes for so many times as long as at most of late in one case of a
// hundred, where what comes does not depend on what came.
const unusual = 2

// longest finds the longest prompt that waits or runs, and what is left of it, adds up the
// seconds of those that run, and sees whether each rank caches its own: of the first of
// any class, as who is cached nowhere may not say so.
func (b *Balancer) longest() (longest Work, started float64) {
	f := &b.former
	f.longest, f.local = 0, false
	take := func(w Work) {
		if x := b.cost.of(w); x > f.longest {
			longest, f.longest = w, x
		}
	}
	for i := range f.Items {
		it := &f.Items[i]
		take(Work{it.Left, it.Pairs})
		started += it.Seconds
	}
	for _, l := range b.levels {
		last := true // of the classes that hold any
		for c := classCount - 1; c >= 0; c-- {
			if h := l.classes[c]; len(h) > 0 {
				q := &b.requests[h[0].slot]
				if last {
					take(b.ownWork(q))
				}
				f.local, last = f.local || q.where.Local, false
			}
		}
	}
	return longest, started
}

// fits is how many seconds of the queue's work at least fit into a step of so many
// seconds, where each prompt has a rank of its own.
func (b *Balancer) fits(queued, step float64) float64 {
	whole := 0.0
	for c := classOf(step); c < classCount; c++ {
		n := 0
		for _, l := range b.levels {
			n += len(l.classes[c])
		}
		whole += float64(float64(n) * step)
		queued -= float64(float64(n) * max(0, leastOf(c+1)-step))
	}
	return max(queued, whole)
}

// collectDeep lists the oldest of the queue, as many as have the light prompts for
// some steps among them, and the longest; of what only some ranks may take no more than
// as much for each.
func (b *Balancer) collectDeep() {
	f := &b.former
	add := func(s int32, later bool) int64 {
		q := &b.requests[s]
		if q.class < 0 || q.item >= 0 || q.leader >= 0 && q.shared > q.pos && (later || b.hold(s)) {
			return 0
		}
		it := b.item(s, q)
		q.item = int32(len(f.Items))
		f.Items = append(f.Items, it)
		return max(it.Left, 1)
	}
	full := int64(len(f.Open)) * f.Tokens
	seen, light, passed := int64(0), int64(0), int64(0)
	f.clearPinned(len(b.ranks))
	for _, s := range b.queue {
		if light >= pack.Supply*full || seen >= pack.Search*full || passed >= pack.Search*full {
			break
		}
		if s >= 0 {
			if q := &b.requests[s]; q.where.Pinned {
				kind, most := 0, pack.Supply*f.Tokens
				if it := b.item(s, q); f.Dense(&it) {
					kind, most = 1, pack.Search*f.Tokens
				}
				if n := max(q.left(), 1); !f.wanted(q, kind, n, most) {
					passed += n
					continue
				}
			}
			n := add(s, seen > full)
			seen += n
			if n > 0 && !f.Dense(&f.Items[len(f.Items)-1]) {
				light += n
			}
		}
	}
	b.longestOf(2*len(f.Open), func(s int32) { add(s, true) })
}

// longestOf visits the longest of the queue, so many, the oldest of a class first.
func (b *Balancer) longestOf(n int, visit func(s int32)) {
	f := &b.former
	for c := classCount - 1; c >= 0; c-- {
		for _, l := range b.levels {
			h := &l.classes[c]
			f.some = f.some[:0]
			for ; len(*h) > 0 && n > 0; n-- {
				s := (*h)[0].slot
				b.pull(h, 0)
				f.some = append(f.some, s)
			}
			for _, s := range f.some {
				b.push(h, s)
			}
			for _, s := range f.some {
				visit(s)
			}
		}
	}
}
