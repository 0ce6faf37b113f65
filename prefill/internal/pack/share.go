package pack

import "math"

// LeastShare is the part of every step that the oldest of each rank have at least.
const LeastShare = 1. / 16

// Share is that part: as much again of the time that the unit has to spare.
func (f *Former) Share() float64 { return LeastShare * (2 - min(1, f.Busy)) }

// shortWeight is how much of the rest of a step the short prompts have of it: an eighth of
// it all, as shares add up to three times that to the rest.
const shortWeight = .2

// ShareWeight is how much of that rest the oldest of each rank have.
func (f *Former) ShareWeight() float64 { return f.Share() * (1 + 3*shortWeight) }

// bounded lowers caps to what a step may last, and says what a step within them
// gives short prompts, and the oldest of each rank: parts of the longest that it could last.
func (f *Former) bounded(c caps) caps {
	short := shortWeight * (f.Cost.Step + f.Cost.Of(Work{c.tokens, min(c.pairs, f.densest)}))
	if f.StepSeconds > 0 {
		most := max(0, f.StepSeconds-f.Cost.Step)
		short = min(short, most/4)
		most -= 3 * short
		c.pairs = min(c.pairs, f.densest)
		if all := f.Cost.Of(Work{c.tokens, c.pairs}); all > most {
			c = caps{int64(most / all * float64(c.tokens)), int64(most / all * float64(c.pairs))}
		}
	}
	f.shortShare, f.share = short, short*(f.ShareWeight()/shortWeight)
	return c
}

// giveShares gives each rank's share of the step to the oldest of those that are late,
// of those that have started there and of the queue. The queue's go where they would
// end first.
func (f *Former) giveShares() {
	if f.Late < 0 { // nobody
		return
	}
	lead := func(g int) {
		if i := f.load[g].lead; i >= 0 && f.placed[i] < 0 && f.Items[i].Seq <= f.Late {
			it := &f.Items[i]
			f.give(i, it, g, it.Pos, it.Left)
		}
	}
	for g := range f.load {
		f.load[g].due += f.share * f.load[g].speed
	}
	for _, i := range f.Old {
		it := &f.Items[i]
		w := f.goal(it)
		best, bestPos, bestEnd := -1, int64(0), math.Inf(1)
		for _, r := range f.Open {
			g := int(r)
			l := &f.load[g]
			if l.lead >= 0 && f.Items[l.lead].Seq < it.Seq {
				if lead(g); f.unfinished(l.lead) {
					continue
				}
			}
			if l.due <= 0 || l.tokens >= l.capTokens || !f.takes(g, it) {
				continue
			}
			pos, _, seconds := f.on(it, g)
			if end := (l.rest + seconds) / l.speed; end < bestEnd && f.reaches(w, l, seconds) {
				best, bestPos, bestEnd = g, pos, end
			}
		}
		if best >= 0 {
			f.give(i, it, best, bestPos, it.Pos+it.Left-bestPos)
		}
	}
	for g := range f.load {
		l := &f.load[g]
		for lead(g); l.due > 0 && l.lead >= 0 && !f.unfinished(l.lead); lead(g) {
			l.lead = f.oldestOn(g)
		}
	}
}

// oldestOn is the oldest of those that have started on a rank and have nothing of the step
// yet; -1 = none.
func (f *Former) oldestOn(g int) int32 {
	oldest := int32(-1)
	for _, i := range f.running {
		if int(f.Items[i].Rank) == g && f.placed[i] < 0 && (oldest < 0 || f.Items[i].Seq < f.Items[oldest].Seq) {
			oldest = i
		}
	}
	return oldest
}

// unfinished reports whether the step leaves something of an item.
func (f *Former) unfinished(i int32) bool {
	return f.placed[i] < 0 || f.Pieces[f.placed[i]].N < f.Pieces[f.placed[i]].Left
}

// give lets a rank spend what is left of its share on an item.
func (f *Former) give(i int32, it *Item, g int, pos, left int64) {
	l := &f.load[g]
	least := f.worthwhile(pos)
	if f.placed[i] >= 0 || l.due <= 0 && left > 0 || it.Rank >= 0 && l.due < min(it.Seconds, least) {
		return
	}
	most := left
	if it.Rank >= 0 || !f.short(it) {
		// the smallest chunk of so many seconds
		most = min(left, f.within(pos, max(l.due, least), left)+1)
	}
	if most < left && f.Page > 1 { // the next whole page
		most = min(left, (most+f.Page-1)/f.Page*f.Page)
	}
	if n := f.chunk(g, pos, left, most); n > 0 || left == 0 {
		f.put(i, g, n, pos)
		l.due -= f.Cost.Of(Work{n, f.pairsOf(n, pos)})
		if it.Rank < 0 && n < left {
			l.lead = i
		}
	}
}

// worthwhile is how long a chunk at pos has to take for half of that to be of use: twice as
// long as it takes to see the prefix again.
func (f *Former) worthwhile(pos int64) float64 {
	return 2 * float64(f.Cost.Pair*float64(f.Expand*pos))
}

// Owed is how many seconds the oldest that has started on a rank is due beyond its share
// of the next step, if it is late: its shares of this step and of those before, as far as
// they did not suffice for a chunk that is worth its while.
func (f *Former) Owed(g int) float64 {
	l := &f.fresh[g]
	if f.Expand == 0 || l.lead < 0 || f.Items[l.lead].Seq > f.Late {
		return 0
	}
	owed := l.due + float64(f.Share()*f.Seconds()*l.speed)
	for _, i := range f.Of(g) {
		if p := &f.Pieces[i]; p.Item == l.lead {
			owed -= f.Cost.Of(Work{p.N, f.pairsOf(p.N, p.Pos)})
		}
	}
	return min(max(0, owed), f.worthwhile(f.Items[l.lead].Pos))
}
