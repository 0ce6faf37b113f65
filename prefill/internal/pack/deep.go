package pack

import (
	"cmp"
	"math"
	"slices"
)

// What a step of a deep queue aims at, where much is left to choose from and nothing
// is won by a short one: full tokens on all ranks, and attention in proportion as in
// all that waits, so that dense prompts, of more attention a token than that, are
// never left over with nothing beside them.
const (
	// A dense prompt starts out of turn once its own attention, and the least that a
	// rank has yet to do of those it has started, exceed this share of all that a rank
	// has ahead.
	late = .45
	// reach is how many steps' tokens ahead of its turn a dense prompt may start.
	reach = 1.5
	// stockSteps is how many steps' attention a rank's started prompts may need when
	// one more starts there.
	stockSteps = 4
	// turn is the share of a step's time by which its attention may differ from its
	// proportion to suit the oldest, and spare what light prompts may exceed that by
	// rather than leave tokens unused; each pair beyond it counts dear times.
	turn  = .02
	spare = .005
	dear  = 20
	// Supply is how many steps' tokens of light prompts are at hand to choose from,
	// and Search how many of all prompts are looked at for them.
	Supply = 3
	Search = 12
)

// Dense reports whether a prompt has more attention a token than all that is ahead.
func (f *Former) Dense(it *Item) bool {
	return float64(it.Pos)+float64(it.Left)/2 > f.Density
}

// planDeep forms the step of a deep queue: with attention in proportion, or more
// where that wastes less.
func (f *Former) planDeep() {
	f.kept.worth = 0
	var w Work
	for _, i := range f.queue {
		if it := &f.Items[i]; !f.Dense(it) {
			w = w.plus(Work{it.Left, it.Pairs})
		}
	}
	f.light = f.mixOf(w)
	pairs := f.deepPairs()
	for _, times := range more {
		f.packDeep(times, pairs)
		work := 0.0
		for k := range f.Pieces {
			work += f.Useful(&f.Pieces[k])
		}
		f.keep(Trial{}, work/f.Seconds())
	}
	if f.kept.worth > 0 {
		f.restore()
	} else {
		f.packDeep(more[0], pairs)
	}
}

// more are the multiples of the attention in proportion that are tried.
var more = [...]float64{1, 1.1, 1.25, 1.5}

// packDeep forms the step of a deep queue, with so many times its attention.
func (f *Former) packDeep(times float64, pairs int64) {
	f.Pieces = f.Pieces[:0]
	for i := range f.placed {
		f.placed[i] = -1
	}
	copy(f.load, f.fresh)
	clear(f.weight)
	f.caps = f.bounded(caps{f.Tokens, whole(times * float64(pairs))})
	f.giveShares()
	f.startShort()
	f.allow(f.load, f.caps)
	for _, dense := range [2]bool{true, false} {
		for _, i := range f.running {
			if it := &f.Items[i]; f.Dense(it) == dense {
				f.goOn(i, it)
			}
		}
	}
	f.startDense()
	c := f.caps
	c.pairs += whole(spare * f.Cost.Of(c.work()) / f.Cost.Pair)
	f.allow(f.load, c)
	f.fill()
	f.startIdle()
	f.allow(f.load, f.caps)
	f.trade()
	f.lengthen()
}

// deepPairs is the attention of a deep step: in proportion, give or take what the
// oldest that fill it ask for, and as much as the longest need to end in time.
func (f *Former) deepPairs() int64 {
	var w Work
	for _, i := range f.order {
		if w.Tokens >= int64(len(f.Open))*f.Tokens {
			break
		}
		w = w.plus(Work{f.Items[i].Left, f.Items[i].Pairs})
	}
	even := f.Density * float64(f.Tokens)
	own := float64(w.Pairs) / float64(max(w.Tokens, 1)) * float64(f.Tokens)
	step := f.Cost.Of(Work{f.Tokens, whole(even)}) / f.Cost.Pair
	return max(f.onTime(), whole(max(min(own, even+float64(turn*step)), even-float64(turn*step))))
}

// onTime is the attention that each of the full steps that are left needs for the longest
// prompts to end with the last of them. After that they would take as long for it, and
// for their tokens too, with nothing beside them.
func (f *Former) onTime() int64 {
	steps := max(1, float64(f.Pairs)/float64(f.Density*f.Power*float64(f.Tokens)))
	most := 0.0
	for i := range f.Items {
		most = max(most, float64(f.Items[i].Pairs)/steps)
	}
	for g := range f.fresh {
		if l := &f.fresh[g]; l.speed > 0 {
			most = max(most, float64(l.stock)/(steps*l.speed))
		}
	}
	return whole(most)
}

// startDense starts dense prompts of the queue on the ranks that have least
// attention ahead: those whose turn it is nearly, where their prefix is, and longer ones
// while there is still time to even them out, wherever they would end first.
func (f *Former) startDense() {
	least := int64(mostPairs)
	for _, g := range f.Open {
		least = min(least, f.load[g].stock)
	}
	after := int64(late*float64(f.Pairs)/float64(len(f.Open))) - least
	near := int64(reach * float64(f.Tokens) * float64(len(f.Open)))
	f.some = f.some[:0]
	for _, i := range f.queue {
		it := &f.Items[i]
		if f.placed[i] >= 0 {
			continue
		}
		near -= it.Left
		if f.Dense(it) && (near > 0 || it.Pairs > after) {
			f.some = append(f.some, i)
		}
	}
	slices.SortStableFunc(f.some, func(x, y int32) int {
		p, q := &f.Items[x], &f.Items[y]
		if p.Pairs > after || q.Pairs > after {
			return cmp.Compare(q.Pairs, p.Pairs)
		}
		return 0
	})
	f.gaps = append(f.gaps[:0], f.Open...)
	for _, i := range f.some {
		it := &f.Items[i]
		best, bestN, bestPos := -1, int64(0), int64(0)
		w := f.goal(it)
		gaps := f.gaps[:0]
		for _, r := range f.gaps {
			g := int(r)
			l := &f.load[g]
			if l.tokens >= l.capTokens || it.Pairs <= after && l.stock >= stockSteps*f.caps.pairs {
				continue // nor does it take any that follows
			}
			gaps = append(gaps, r)
			if best >= 0 && l.stock >= f.load[best].stock || !f.takes(g, it) {
				continue
			}
			pos, _, seconds := f.on(it, g)
			left := it.Pos + it.Left - pos
			n := f.cut(g, left, pos, f.Expand*pos)
			if !f.reaches(w, l, seconds) || n < min(leastChunk, left) {
				continue
			}
			best, bestN, bestPos = g, n, pos
		}
		if f.gaps = gaps; best >= 0 {
			f.put(i, best, bestN, bestPos)
		}
	}
}

// fill fills the tokens that are left with light prompts: the oldest that cover
// them, the largest of these first, then more.
func (f *Former) fill() {
	room, gap := f.listGaps()
	f.some = f.some[:0]
	covered, last := int64(0), int32(-1) // of those who cover it, in order
	for k, i := range f.queue {
		it := &f.Items[i]
		if f.placed[i] >= 0 || f.Dense(it) {
			continue
		}
		if covered < room {
			last = int32(k)
		} else {
			f.some = append(f.some, i)
		}
		covered += it.Left
	}
	for _, i := range f.largest {
		if f.turnOf[i] <= last && f.placed[i] < 0 {
			f.fillWith(i, &room, &gap)
		}
	}
	for _, i := range f.some {
		f.fillWith(i, &room, &gap)
	}
}

// startIdle starts on ranks that have nothing yet the oldest that they may take, dense or
// not: those before it in their turn are for other ranks.
func (f *Former) startIdle() {
	f.gaps = f.gaps[:0]
	for _, g := range f.Open {
		if f.load[g].tokens == 0 {
			f.gaps = append(f.gaps, g)
		}
	}
	for _, i := range f.queue {
		if len(f.gaps) == 0 {
			return
		}
		if it := &f.Items[i]; f.placed[i] < 0 {
			w := f.goal(it)
			for k, r := range f.gaps {
				g := int(r)
				pos, _, seconds := f.on(it, g)
				left := it.tokens() - pos
				if !f.takes(g, it) || !f.reaches(w, &f.load[g], seconds) {
					continue
				}
				if n := f.cut(g, left, pos, f.Expand*pos); n >= min(leastChunk, left) {
					f.put(i, g, n, pos)
					f.gaps = slices.Delete(f.gaps, k, k+1)
					break
				}
			}
		}
	}
}

// listGaps lists the ranks that tokens are left on, those that any prompt suits best
// first, and says how many are left in all and on one.
func (f *Former) listGaps() (room, most int64) {
	f.gaps = f.gaps[:0]
	for _, g := range f.Open {
		l := &f.load[g]
		if left := l.capTokens - l.tokens; left > 0 {
			room += left
			most = max(most, left)
			f.gaps = append(f.gaps, g)
			f.ill[g] = illness(l)
		}
	}
	slices.SortStableFunc(f.gaps, func(x, y int32) int { return cmp.Compare(f.ill[x], f.ill[y]) })
	return room, most
}

// fillWith puts a light prompt where it suits best, if it fits. gap is what no rank
// has more left than.
func (f *Former) fillWith(i int32, room, gap *int64) {
	it := &f.Items[i]
	if *room <= 0 || len(f.gaps) == 0 || !it.local() && *gap < min(leastChunk, it.Left) {
		return
	}
	// Where a token more costs less than one that is left over, whole is best; then no
	// rank is less ill than by all of the prompt.
	own := 0.0
	if pairs := float64(f.load[f.gaps[0]].capPairs); f.plain && !it.local() && .3*float64(it.tokens())*float64(f.caps.tokens) < pairs {
		own = .3 * float64(it.Pairs) / pairs
	}
	w := f.goal(it)
	best, bestAt, bestN, bestPos, bestScore := -1, 0, int64(0), int64(0), math.Inf(1)
	for k, r := range f.gaps {
		g := int(r)
		if f.ill[g]+own > bestScore {
			break
		}
		if !f.takes(g, it) {
			continue
		}
		pos, _, seconds := f.on(it, g)
		if !f.reaches(w, &f.load[g], seconds) {
			continue
		}
		if n, score := f.fit(it, g, pos); n > 0 && (score < bestScore || score == bestScore && f.sooner(g, best)) {
			best, bestAt, bestN, bestPos, bestScore = g, k, n, pos, score
		}
	}
	if best < 0 {
		f.claim(i, w)
		*gap = 0
		for _, g := range f.gaps {
			*gap = max(*gap, f.load[g].capTokens-f.load[g].tokens)
		}
		return
	}
	f.put(i, best, bestN, bestPos)
	*room -= bestN
	if l := &f.load[best]; l.tokens >= l.capTokens {
		f.gaps = slices.Delete(f.gaps, bestAt, bestAt+1)
		return
	}
	f.ill[best] = illness(&f.load[best])
	for k := bestAt + 1; k < len(f.gaps) && f.ill[f.gaps[k]] < f.ill[best]; k++ {
		f.gaps[k-1], f.gaps[k] = f.gaps[k], int32(best)
	}
}

// sooner reports whether a rank's turn comes before another's; none's comes last.
func (f *Former) sooner(g, than int) bool {
	if than < 0 || (g < f.Turn) == (than < f.Turn) {
		return than < 0 || g < than
	}
	return g >= f.Turn
}

// illness is how ill any prompt at all suits a rank at least, and a bit less.
func illness(l *load) float64 {
	return float64(.3*float64(l.pairs))/float64(max(l.capPairs, 1)) - float64(l.capTokens-l.tokens)/float64(l.capTokens) - 1e-9
}

// fit returns how much of a light prompt rank g takes, 0 = too little, and how ill
// that suits it: the emptiest first; attention even; whole, or else where little is
// left over; where the prefix is.
func (f *Former) fit(it *Item, g int, pos int64) (int64, float64) {
	l := &f.load[g]
	need := it.Pos + it.Left - pos
	left := l.capTokens - l.tokens
	if left < min(leastChunk, need) {
		return 0, 0
	}
	n, own := need, it.Pairs
	if pos != it.Pos {
		own = f.pairsOf(n, pos)
	}
	if need > left || l.pairs+own > l.capPairs || l.seconds < math.Inf(1) {
		if n = f.chunk(g, pos, need, need); n < min(leastChunk, need) {
			return 0, 0
		}
		own = f.pairsOf(n, pos)
	}
	tokens, pairs := float64(l.capTokens), float64(max(l.capPairs, 1))
	all := float64(l.pairs + own)
	score := float64(.3*all)/pairs - float64(left)/tokens + float64(need-n)/tokens
	score += float64(dear*max(0, all-float64(l.speed*float64(f.caps.pairs)))) / pairs
	if n < need {
		score += float64(.1*float64(l.stock+pairsOf(need-n, pos+n))) / pairs
	}
	return n, score + float64(need-it.Left)/tokens
}

// trade makes up for attention that a rank lacks though its tokens are used: it
// moves tokens to its densest chunk that can grow, from one that is just starting.
func (f *Former) trade() {
	if f.Page > 1 {
		return
	}
	f.sortPieces()
	for g := range f.load {
		l := &f.load[g]
		if l.seconds < math.Inf(1) {
			continue
		}
		for range 8 {
			up, down := f.pair(g)
			if down < 0 || l.pairs >= l.capPairs {
				break
			}
			u, d := &f.Pieces[up], &f.Pieces[down]
			gain := func(m int64) int64 { return pairsOf(m, u.Pos+u.N) - pairsOf(m, d.Pos+d.N-m) }
			lo, hi := int64(0), min(d.N, u.Left-u.N)
			for lo < hi {
				if m := (lo + hi + 1) / 2; l.pairs+gain(m) <= l.capPairs {
					lo = m
				} else {
					hi = m - 1
				}
			}
			if lo <= 0 {
				break
			}
			l.pairs += gain(lo)
			u.N += lo
			if d.N -= lo; d.N == 0 {
				l.pairs -= f.Expand * d.Pos
			}
		}
	}
	kept := f.Pieces[:0]
	for _, p := range f.Pieces {
		if p.N == 0 && p.Left > 0 { // traded away whole
			f.placed[p.Item] = -1
			continue
		}
		f.placed[p.Item] = int32(len(kept))
		kept = append(kept, p)
	}
	f.Pieces = kept
}

// pair picks the chunks of a rank between which tokens move; -1 = none.
func (f *Former) pair(g int) (up, down int32) {
	up, down = -1, -1
	for _, i := range f.Of(g) {
		p := &f.Pieces[i]
		if p.N < p.Left && (up < 0 || p.Pos+p.N > f.Pieces[up].Pos+f.Pieces[up].N) {
			up = i
		}
	}
	if up < 0 {
		return -1, -1
	}
	end := f.Pieces[up].Pos + f.Pieces[up].N
	for _, i := range f.Of(g) {
		p := &f.Pieces[i]
		it := &f.Items[p.Item]
		if i == up || it.Rank >= 0 || it.Seq <= f.Late || p.N == 0 || p.Pos+p.N >= end {
			continue
		}
		if down >= 0 {
			d := &f.Pieces[down]
			if c := p.N < p.Left; c != (d.N < d.Left) && !c || c == (d.N < d.Left) && p.N >= d.N {
				continue
			}
		}
		down = i
	}
	return up, down
}
