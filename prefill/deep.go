package prefill

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
	// supply is how many steps' tokens of light prompts are at hand to choose from,
	// and search how many of all prompts are looked at for them.
	supply = 3
	search = 12
)

// depth sees whether the queue is deep: whether what is here takes longer than a full
// step, and than the part of the longest prompt that what comes meanwhile would leave
// alone. Where others come all the time, a long prompt may wait: it will have company.
// Where none do, one that is left to the end has the unit to itself.
func (b *Balancer) depth() {
	f := &b.former
	longest, started := 0.0, 0.0
	for i := range f.items {
		longest = max(longest, f.items[i].seconds)
		started += f.items[i].seconds
	}
	for _, l := range b.levels {
		for c := classCount - 1; c >= 0; c-- {
			if h := l.classes[c]; len(h) > 0 {
				longest = max(longest, b.cost.of(b.ownWork(&b.requests[h[0]])))
				break
			}
		}
	}
	f.longest, f.density = longest, 0
	power := max(b.power, 1/MaxSpeed)
	company := min(1, (b.observed.inflow+b.observed.brought/max(longest, 1e-9))/power)
	started = min(started/power, b.ahead())
	queued := b.ahead() - started
	f.deep = len(b.levels) == 1 && queued > b.cost.of(Work{f.tokens, 0}) && queued+float64((1-company)*started) > float64(company*longest) && len(f.open) > 0 && b.cost.Pair > 0 && b.cost.Token > 0
	if f.deep {
		f.density = float64(b.total.Pairs) / float64(max(1, b.total.Tokens))
	}
}

// collectDeep lists the oldest of the queue, as many as have the light prompts for
// some steps among them, and the longest.
func (b *Balancer) collectDeep() {
	f := &b.former
	add := func(s int32, later bool) int64 {
		q := &b.requests[s]
		if q.class < 0 || q.item >= 0 || q.leader >= 0 && q.shared > q.pos && (later || b.hold(s)) {
			return 0
		}
		if q.turn == unknownSince && !later {
			q.turn = b.clock
		}
		it := b.item(s, q)
		if q.turn != unknownSince {
			it.passed = b.clock - q.turn
		}
		q.item = int32(len(f.items))
		f.items = append(f.items, it)
		return max(it.left, 1)
	}
	full := int64(len(f.open)) * f.tokens
	seen, light := int64(0), int64(0)
	for _, s := range b.queue {
		if light >= supply*full || seen >= search*full {
			break
		}
		if s >= 0 {
			n := add(s, seen > full)
			seen += n
			if n > 0 && !b.dense(&f.items[len(f.items)-1]) {
				light += n
			}
		}
	}
	b.longestOf(2*len(f.open), func(s int32) { add(s, true) })
}

// longestOf visits the longest of the queue, so many, the oldest of a class first.
func (b *Balancer) longestOf(n int, visit func(s int32)) {
	f := &b.former
	for _, l := range b.levels {
		for c := classCount - 1; c >= 0 && n > 0; c-- {
			h := &l.classes[c]
			f.some = f.some[:0]
			for ; len(*h) > 0 && n > 0; n-- {
				s := (*h)[0]
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

func (b *Balancer) dense(it *item) bool {
	return float64(it.pos)+float64(it.left)/2 > b.former.density
}

// planDeep forms the step of a deep queue: with attention in proportion, or more
// where that wastes less.
func (b *Balancer) planDeep() {
	f := &b.former
	most, best := 0.0, 0
	for i := range more {
		b.packDeep(more[i])
		m := f.most()
		work := 0.0
		for k := range f.pieces {
			p := &f.pieces[k]
			work += b.useful(p, &f.items[p.item])
		}
		if x := work / (b.cost.Step + float64(b.cost.Token*m.tokens) + float64(b.cost.Pair*m.pairs)); x > most {
			most, best = x, i
		}
	}
	if best < len(more)-1 {
		b.packDeep(more[best])
	}
}

// more are the multiples of the attention in proportion that are tried.
var more = [...]float64{1, 1.1, 1.25, 1.5}

// packDeep forms the step of a deep queue, with so many times its attention.
func (b *Balancer) packDeep(times float64) {
	f := &b.former
	f.pieces = f.pieces[:0]
	for i := range f.placed {
		f.placed[i] = -1
	}
	copy(f.load, f.fresh)
	clear(f.weight)
	f.caps = b.bounded(caps{f.tokens, whole(times * float64(b.deepPairs()))})
	b.allow(caps{f.tokens, mostPairs})
	b.giveShares()
	b.allow(f.caps)
	f.light = Work{}
	for i := range f.items {
		if it := &f.items[i]; it.rank < 0 && !b.dense(it) {
			f.light = f.light.plus(Work{it.left, it.pairs})
		}
	}
	for _, dense := range [2]bool{true, false} {
		for _, i := range f.order {
			if it := &f.items[i]; it.rank >= 0 && b.dense(it) == dense {
				b.goOn(i, it)
			}
		}
	}
	b.startDense()
	c := f.caps
	c.pairs += whole(spare * b.cost.of(c.work()) / b.cost.Pair)
	b.allow(c)
	b.fill()
	b.allow(f.caps)
	b.trade()
	b.lengthen()
}

// deepPairs is the attention of a deep step: in proportion, give or take what the
// oldest that fill it ask for.
func (b *Balancer) deepPairs() int64 {
	f := &b.former
	var w Work
	for _, i := range f.order {
		if w.Tokens >= int64(len(f.open))*f.tokens {
			break
		}
		w = w.plus(Work{f.items[i].left, f.items[i].pairs})
	}
	even := f.density * float64(f.tokens)
	own := float64(w.Pairs) / float64(max(w.Tokens, 1)) * float64(f.tokens)
	step := b.cost.of(Work{f.tokens, whole(even)}) / b.cost.Pair
	return whole(max(min(own, even+float64(turn*step)), even-float64(turn*step)))
}

// startDense starts dense prompts of the queue on the ranks that have least
// attention ahead: those whose turn it is nearly, and longer ones while there is
// still time to even them out.
func (b *Balancer) startDense() {
	f := &b.former
	least := int64(mostPairs)
	for _, g := range f.open {
		least = min(least, f.load[g].stock)
	}
	after := int64(late*float64(b.total.Pairs)/float64(len(f.open))) - least
	near := int64(reach * float64(f.tokens) * float64(len(f.open)))
	f.some = f.some[:0]
	for _, i := range f.order {
		it := &f.items[i]
		if it.rank >= 0 || f.placed[i] >= 0 {
			continue
		}
		near -= it.left
		if b.dense(it) && (near > 0 || it.pairs > after) {
			f.some = append(f.some, i)
		}
	}
	slices.SortStableFunc(f.some, func(x, y int32) int {
		p, q := &f.items[x], &f.items[y]
		if p.pairs > after || q.pairs > after {
			return cmp.Compare(q.pairs, p.pairs)
		}
		return 0
	})
	for _, i := range f.some {
		it := &f.items[i]
		best, bestN, bestPos := -1, int64(0), int64(0)
		for _, r := range f.open {
			g := int(r)
			l := &f.load[g]
			if l.tokens >= l.capTokens || best >= 0 && l.stock >= f.load[best].stock || it.pairs <= after && l.stock >= stockSteps*f.caps.pairs || !b.takes(g, it) {
				continue
			}
			pos, _, _, ok := b.on(it, g)
			left := it.pos + it.left - pos
			n := b.cut(g, left, pos, b.expand*pos)
			if !ok || n < min(leastChunk, left) {
				continue
			}
			best, bestN, bestPos = g, n, pos
		}
		if best >= 0 {
			b.put(i, best, bestN, bestPos)
		}
	}
}

// fill fills the tokens that are left with light prompts: the oldest that cover
// them, the largest of these first, then more.
func (b *Balancer) fill() {
	f := &b.former
	room, gap := b.listGaps()
	f.some = f.some[:0]
	covered, last := int64(0), int32(-1) // of those who cover it, in order
	for k, i := range f.order {
		it := &f.items[i]
		if it.rank >= 0 || f.placed[i] >= 0 || b.dense(it) {
			continue
		}
		if covered < room {
			last = int32(k)
		} else {
			f.some = append(f.some, i)
		}
		covered += it.left
	}
	for _, i := range f.largest {
		if it := &f.items[i]; f.turnOf[i] <= last && it.rank < 0 && f.placed[i] < 0 && !b.dense(it) {
			b.fillWith(i, &room, &gap)
		}
	}
	for _, i := range f.some {
		b.fillWith(i, &room, &gap)
	}
}

// listGaps lists the ranks that tokens are left on, those that any prompt suits best
// first, and says how many are left in all and on one.
func (b *Balancer) listGaps() (room, most int64) {
	f := &b.former
	f.gaps = f.gaps[:0]
	for _, g := range f.open {
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
func (b *Balancer) fillWith(i int32, room, gap *int64) {
	f := &b.former
	it := &f.items[i]
	if *room <= 0 || !it.local && *gap < min(leastChunk, it.left) {
		return
	}
	best, bestAt, bestN, bestPos, bestScore := -1, 0, int64(0), int64(0), math.Inf(1)
	for k, r := range f.gaps {
		g := int(r)
		if f.ill[g] > bestScore {
			break
		}
		if !b.takes(g, it) {
			continue
		}
		pos, _, _, ok := b.on(it, g)
		if !ok {
			continue
		}
		if n, score := b.fit(it, g, pos); n > 0 && (score < bestScore || score == bestScore && b.sooner(g, best)) {
			best, bestAt, bestN, bestPos, bestScore = g, k, n, pos, score
		}
	}
	if best < 0 {
		*gap = 0
		for _, g := range f.gaps {
			*gap = max(*gap, f.load[g].capTokens-f.load[g].tokens)
		}
		return
	}
	b.put(i, best, bestN, bestPos)
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
func (b *Balancer) sooner(g, than int) bool {
	if than < 0 || (g < b.turn) == (than < b.turn) {
		return than < 0 || g < than
	}
	return g >= b.turn
}

// illness is how ill any prompt at all suits a rank at least, and a bit less.
func illness(l *load) float64 {
	return float64(.3*float64(l.pairs))/float64(max(l.capPairs, 1)) - float64(l.capTokens-l.tokens)/float64(l.capTokens) - 1e-9
}

// fit returns how much of a light prompt rank g takes, 0 = too little, and how ill
// that suits it: the emptiest first; attention even; whole, or else where little is
// left over; where the prefix is.
func (b *Balancer) fit(it *item, g int, pos int64) (int64, float64) {
	f := &b.former
	l := &f.load[g]
	need := it.pos + it.left - pos
	left := l.capTokens - l.tokens
	if left < min(leastChunk, need) {
		return 0, 0
	}
	n, own := need, it.pairs
	if pos != it.pos {
		own = b.pairsOf(n, pos)
	}
	if need > left || l.pairs+own > l.capPairs || l.seconds < math.Inf(1) {
		if n = b.chunk(g, pos, need, need); n < min(leastChunk, need) {
			return 0, 0
		}
		own = b.pairsOf(n, pos)
	}
	tokens, pairs := float64(l.capTokens), float64(max(l.capPairs, 1))
	all := float64(l.pairs + own)
	score := float64(.3*all)/pairs - float64(left)/tokens + float64(need-n)/tokens
	score += float64(dear*max(0, all-float64(l.speed*float64(f.caps.pairs)))) / pairs
	if n < need {
		score += float64(.1*float64(l.stock+pairsOf(need-n, pos+n))) / pairs
	}
	return n, score + float64(need-it.left)/tokens
}

// trade makes up for attention that a rank lacks though its tokens are used: it
// moves tokens to its densest chunk that can grow, from one that is just starting.
func (b *Balancer) trade() {
	f := &b.former
	if b.cfg.Page > 1 {
		return
	}
	b.sortPieces()
	for g := range f.load {
		l := &f.load[g]
		if l.seconds < math.Inf(1) {
			continue
		}
		for range 8 {
			up, down := b.pair(g)
			if down < 0 || l.pairs >= l.capPairs {
				break
			}
			u, d := &f.pieces[up], &f.pieces[down]
			gain := func(m int64) int64 { return pairsOf(m, u.pos+u.n) - pairsOf(m, d.pos+d.n-m) }
			lo, hi := int64(0), min(d.n, b.needs(u)-u.n)
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
			u.n += lo
			if d.n -= lo; d.n == 0 {
				l.pairs -= b.expand * d.pos
			}
		}
	}
	kept := f.pieces[:0]
	for _, p := range f.pieces {
		if p.n == 0 && b.needs(&p) > 0 { // traded away whole
			f.placed[p.item] = -1
			continue
		}
		f.placed[p.item] = int32(len(kept))
		kept = append(kept, p)
	}
	f.pieces = kept
}

// pair picks the chunks of a rank between which tokens move; -1 = none.
func (b *Balancer) pair(g int) (up, down int32) {
	f := &b.former
	up, down = -1, -1
	for _, i := range f.of(g) {
		p := &f.pieces[i]
		if p.n < b.needs(p) && (up < 0 || p.pos+p.n > f.pieces[up].pos+f.pieces[up].n) {
			up = i
		}
	}
	if up < 0 {
		return -1, -1
	}
	end := f.pieces[up].pos + f.pieces[up].n
	for _, i := range f.of(g) {
		p := &f.pieces[i]
		it := &f.items[p.item]
		if i == up || it.rank >= 0 || it.seq <= b.late.youngest || p.n == 0 || p.pos+p.n >= end {
			continue
		}
		if down >= 0 {
			d := &f.pieces[down]
			if c := p.n < b.needs(p); c != (d.n < b.needs(d)) && !c || c == (d.n < b.needs(d)) && p.n >= d.n {
				continue
			}
		}
		down = i
	}
	return up, down
}
