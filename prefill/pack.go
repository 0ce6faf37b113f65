package prefill

import "math"

// caps bound what a rank of speed 1 takes in a step.
type caps struct{ tokens, pairs int64 }

func (c caps) work() Work { return Work{c.tokens, c.pairs} }

// piece is a chunk in the making.
type piece struct {
	item int32
	rank int32
	n    int64 // tokens of the chunk
	pos  int64 // tokens of the request before it
	half int8
}

// mostPairs leaves room to add to.
const mostPairs = math.MaxInt64 / 8

// leastChunk is the shortest chunk that is cut from a longer prompt, in tokens:
// shorter ones cost more in overhead than they even out.
const leastChunk = 512

// nested: a prompt is cut on a rank whose unfinished prompts are so many times as
// long at least: then a rank has few unfinished prompts, each half of the one before,
// and a short one never stands behind a long one.
const nested = 2

// pack forms the step within caps. First the oldest of each rank have their share,
// and so have short prompts; then what has started goes on, in order of urgency, as
// far as the short prompts beside it leave attention; then the most urgent of the
// queue that fill the caps start: those that are too long for one step on the ranks
// with least to do, the others whole, the largest first; then others fill the gaps,
// cut if need be.
func (b *Balancer) pack(c caps) {
	f := &b.former
	f.pieces = f.pieces[:0]
	for i := range f.placed {
		f.placed[i] = -1
	}
	copy(f.load, f.fresh)
	clear(f.weight)
	f.caps = b.bounded(c)
	b.allow(caps{f.tokens, mostPairs})
	b.giveShares()
	cover := b.cover()
	b.shortShare()
	b.allow(f.caps)
	for _, i := range f.order {
		if it := &f.items[i]; it.rank >= 0 {
			b.goOn(i, it)
		}
	}
	for _, i := range f.order[:cover] {
		if it := &f.items[i]; it.rank < 0 && f.placed[i] < 0 && !b.short(it) {
			b.begin(i, it)
		}
	}
	for _, i := range f.largest {
		if it := &f.items[i]; it.rank < 0 && f.placed[i] < 0 && int(f.turnOf[i]) < cover && b.short(it) {
			b.startWhole(i, it)
		}
	}
	b.fillGaps(cover)
	b.lengthen()
}

// allow sets what the ranks may take in all, if they have not more already.
func (b *Balancer) allow(c caps) {
	f := &b.former
	for g := range f.load {
		l := &f.load[g]
		l.capTokens, l.capPairs = c.tokens, c.pairs
		if l.speed != 1 {
			l.capTokens, l.capPairs = int64(max(1, l.speed*float64(c.tokens))), whole(l.speed*float64(c.pairs))
		}
		l.capTokens = min(l.capTokens, l.mostTokens)
	}
}

// shortShare starts the most urgent short prompts, up to a share of the step on
// each rank, before long ones take what they can.
func (b *Balancer) shortShare() {
	f := &b.former
	if b.cost.Token == 0 {
		return
	}
	n := whole(f.share / b.cost.Token)
	tries := len(f.open)
	for g := range f.load {
		l := &f.load[g]
		l.capTokens = min(l.mostTokens, l.tokens+int64(l.speed*float64(n)))
	}
	for i := int32(f.from); i < int32(f.urgent); i++ {
		it := &f.items[i]
		if tries == 0 {
			break
		}
		if it.rank < 0 && f.placed[i] < 0 && it.left <= n && it.pairs <= f.caps.pairs {
			tries--
			b.startWhole(i, it)
		}
	}
}

// short reports whether a prompt fits into the step.
func (b *Balancer) short(it *item) bool {
	c := &b.former.caps
	return it.left <= c.tokens && it.pairs <= c.pairs
}

// cover counts the items, in order, whose short prompts fill the caps, and adds
// these up.
func (b *Balancer) cover() int {
	f := &b.former
	f.light = Work{}
	n := int64(max(1, len(f.open)))
	for k, i := range f.order {
		it := &f.items[i]
		if it.rank < 0 && b.short(it) {
			f.light = f.light.plus(Work{it.left, it.pairs})
			if f.light.Tokens >= n*f.caps.tokens || f.light.Pairs >= n*f.caps.pairs {
				return k + 1
			}
		}
	}
	return len(f.order)
}

// chunk is the longest chunk at pos, at most most, that rank g may still take,
// whole pages unless it is all that is left.
func (b *Balancer) chunk(g int, pos, left, most int64) int64 {
	l := &b.former.load[g]
	n := longest(pos, l.capPairs-l.pairs-b.expand*pos, min(left, most, l.capTokens-l.tokens))
	if l.seconds < math.Inf(1) {
		n = b.within(pos, l.seconds-b.cost.of(Work{l.tokens, l.pairs}), n)
	}
	return b.paged(n, left)
}

// within is the longest chunk at pos, at most most, of so many seconds.
func (b *Balancer) within(pos int64, seconds float64, most int64) int64 {
	if b.cost.Pair == 0 {
		return max(0, min(most, int64(min(seconds/b.cost.Token, 1<<40))))
	}
	// a token is so many pairs more
	also := int64(math.Ceil(min(b.cost.Token/b.cost.Pair, 1<<30)))
	return longest(pos+also, whole(seconds/b.cost.Pair)-b.expand*pos, most)
}

func (b *Balancer) paged(n, left int64) int64 {
	if n < left && b.cfg.Page > 1 {
		n -= n % b.cfg.Page
	}
	return max(n, 0)
}

// put adds a chunk to the step.
func (b *Balancer) put(i int32, g int, n, pos int64) {
	f := &b.former
	it := &f.items[i]
	if n <= 0 && it.left > 0 {
		return
	}
	l := &f.load[g]
	f.placed[i] = int32(len(f.pieces))
	f.pieces = append(f.pieces, piece{item: i, rank: int32(g), n: n, pos: pos})
	b.burden(g, n, b.pairsOf(n, pos))
	if it.rank < 0 {
		left, w := it.left, it.seconds
		if pos != it.pos {
			left = it.tokens() - pos
			w = b.cost.of(Work{left, b.pairsOf(left, pos)})
		}
		l.kv += it.tokens()
		l.tail += left
		l.rest += w
		l.stock += pairsOf(left, pos)
		if n < left {
			l.least = min(l.least, w)
			l.busy++
		}
	}
}

// burden adds to what a rank has in the step.
func (b *Balancer) burden(g int, tokens, pairs int64) {
	f := &b.former
	l := &f.load[g]
	l.tokens += tokens
	l.pairs += pairs
	l.tail -= tokens
	w := b.cost.of(Work{l.tokens, l.pairs})
	if l.speed != 1 {
		w /= l.speed
	}
	f.weight[g] = w
}

// goOn lets a started request go on, beside its share if it has had one.
func (b *Balancer) goOn(i int32, it *item) {
	f := &b.former
	g := int(it.rank)
	if at := f.placed[i]; at >= 0 {
		p := &f.pieces[at]
		b.extend(p, b.cut(g, it.left-p.n, p.pos+p.n, 0))
		return
	}
	if n := b.cut(g, it.left, it.pos, b.expand*it.pos); n == it.left || n >= leastChunk/4 {
		b.put(i, g, n, it.pos)
	}
}

// extend lengthens a chunk.
func (b *Balancer) extend(p *piece, n int64) {
	if n = b.paged(p.n+n, b.needs(p)) - p.n; n > 0 {
		b.burden(int(p.rank), n, pairsOf(n, p.pos+p.n))
		p.n += n
	}
}

// needs is how many tokens the request of a piece needs from the piece on.
func (b *Balancer) needs(p *piece) int64 {
	return b.former.items[p.item].tokens() - p.pos
}

// cut returns how much of a long prompt at pos rank g takes, at most most, so that
// the short prompts of the step still have the pairs to fill the rest of its
// tokens: of the tokens left beside n, they fill a share at their mean density d,
// n*pos + n(n+1)/2 + d*min(share, room-n) <= pairs.
func (b *Balancer) cut(g int, left, pos, extra int64) int64 {
	f := &b.former
	l := &f.load[g]
	room := l.capTokens - l.tokens
	most := min(left, room)
	pairs := l.capPairs - l.pairs - extra
	if most <= 0 || pairs <= 0 {
		return 0
	}
	density := float64(f.light.Pairs) / float64(max(f.light.Tokens, 1))
	share := min(room, f.light.Tokens/int64(max(len(f.open), 1)))
	few := min(most, room-share)
	n := longest(pos, pairs-whole(float64(density*float64(share))), few)
	if n == few && few < most {
		h := float64(pos) + .5 - density
		rest := float64(pairs) - float64(density*float64(room))
		if d := float64(h*h) + 2*rest; d >= 0 {
			n = max(n, min(whole(max(0, math.Sqrt(d)-h)), most))
		}
	}
	if l.seconds < math.Inf(1) {
		n = b.within(pos, l.seconds-b.cost.of(Work{l.tokens, l.pairs}), n)
	}
	return b.paged(n, left)
}

// takes reports whether a queued request may start on a rank.
func (b *Balancer) takes(g int, it *item) bool {
	l := &b.former.load[g]
	if l.closed || it.pinned && !b.requests[it.slot].may(g) {
		return false
	}
	return !b.limited || it.tokens() <= b.ranks[g].room()-l.kv
}

// on is what a queued request needs on a rank: tokens from pos on, and seconds.
// It is not ok if that takes longer than where its prefix is by more than it has
// waited since its turn came.
func (b *Balancer) on(it *item, g int) (pos, pairs int64, seconds float64, ok bool) {
	if !it.local {
		return it.pos, it.pairs, it.seconds, true
	}
	q := &b.requests[it.slot]
	pos = q.on(g)
	if pos == it.pos {
		return it.pos, it.pairs, it.seconds, true
	}
	n := q.tokens - pos
	pairs = b.pairsOf(n, pos)
	seconds = b.cost.of(Work{n, pairs})
	return pos, pairs, seconds, seconds-it.seconds <= it.passed
}

// crowded reports whether a rank has as many unfinished prompts as it should when
// one of so many seconds comes: none shorter than twice that.
func (b *Balancer) crowded(l *load, seconds float64) bool {
	return l.busy > 0 && l.least < nested*seconds
}

// begin starts a prompt that is longer than the step: where it would end first.
func (b *Balancer) begin(i int32, it *item) {
	f := &b.former
	best, bestN, bestPos, bestEnd := -1, int64(0), int64(0), 0.0
	for _, r := range f.open {
		g := int(r)
		l := &f.load[g]
		if l.tokens >= l.capTokens || !b.takes(g, it) {
			continue
		}
		pos, _, seconds, ok := b.on(it, g)
		end := (l.rest + seconds) / l.speed
		if !ok || best >= 0 && end >= bestEnd || b.crowded(l, seconds) {
			continue
		}
		left := it.tokens() - pos
		least := min(left, leastChunk)
		if l.capTokens-l.tokens < least {
			continue
		}
		n := b.cut(g, left, pos, b.expand*pos)
		if n < least {
			continue
		}
		best, bestN, bestPos, bestEnd = g, n, pos, end
	}
	if best >= 0 {
		b.put(i, best, bestN, bestPos)
	}
}

// startWhole starts a prompt that fits into the step, where least is.
func (b *Balancer) startWhole(i int32, it *item) bool {
	f := &b.former
	best, bestPos, bestScore := -1, int64(0), math.Inf(1)
	alike := !it.local && !b.unlike // it adds the same everywhere
	for _, r := range f.open {
		g := int(r)
		if f.weight[g] >= bestScore {
			continue
		}
		l := &f.load[g]
		pos, pairs, seconds, ok := b.on(it, g)
		tokens, all := l.tokens+it.tokens()-pos, l.pairs+pairs
		if !ok || tokens > l.capTokens || all > l.capPairs || !b.takes(g, it) {
			continue
		}
		if l.seconds < math.Inf(1) && b.cost.of(Work{tokens, all}) > l.seconds {
			continue
		}
		score := f.weight[g]
		if !alike {
			score = b.cost.of(Work{tokens, all}) / l.speed
			if pos != it.pos {
				score *= seconds / max(it.seconds, 1e-12)
			}
		}
		if score < bestScore {
			best, bestPos, bestScore = g, pos, score
		}
	}
	if best >= 0 {
		b.put(i, best, it.tokens()-bestPos, bestPos)
	}
	return best >= 0
}

// fillGaps starts more of the queue where tokens are left: whole, and then cut,
// where the rank has only longer ones unfinished, or the next step ends them all.
func (b *Balancer) fillGaps(cover int) {
	f := &b.former
	gap := int64(0)
	for _, g := range f.open {
		gap = max(gap, f.load[g].capTokens-f.load[g].tokens)
	}
	tries := 2 * len(f.open)
	for _, i := range f.order[cover:] {
		it := &f.items[i]
		if tries == 0 || gap <= 0 {
			break
		}
		if it.rank < 0 && f.placed[i] < 0 && it.left <= gap && b.short(it) && !b.startWhole(i, it) {
			tries--
		}
	}
	f.gaps = f.gaps[:0]
	for _, g := range f.open {
		if l := &f.load[g]; l.capTokens-l.tokens >= leastChunk {
			f.gaps = append(f.gaps, g)
		}
	}
	if len(f.gaps) == 0 {
		return
	}
	tries = 2 * len(f.open)
	for _, i := range f.order {
		it := &f.items[i]
		if it.rank >= 0 || f.placed[i] >= 0 {
			continue
		}
		if tries--; tries < 0 {
			break
		}
		best, bestN, bestPos := -1, int64(0), int64(0)
		for _, r := range f.gaps {
			g := int(r)
			l := &f.load[g]
			if l.capTokens-l.tokens < max(leastChunk, bestN+1) || !b.takes(g, it) {
				continue
			}
			pos, _, seconds, ok := b.on(it, g)
			left := it.tokens() - pos
			n := b.chunk(g, pos, left, left)
			if !ok || n <= bestN || n < leastChunk || l.tail+left-n > l.capTokens && b.crowded(l, seconds) {
				continue
			}
			best, bestN, bestPos = g, n, pos
		}
		if best >= 0 {
			b.put(i, best, bestN, bestPos)
		}
	}
}

// lengthen grows chunks into what costs nothing: tokens up to the most tokens of
// a rank, pairs up to the most pairs.
func (b *Balancer) lengthen() {
	f := &b.former
	most := f.most()
	for i := range f.pieces {
		p := &f.pieces[i]
		more := b.needs(p) - p.n
		if more <= 0 {
			continue
		}
		l := &f.load[p.rank]
		t, a := min(l.mostTokens, int64(float64(most.tokens*l.speed))), whole(most.pairs*l.speed)
		end := p.pos + p.n
		n := longest(end, a-l.pairs, min(more, t-l.tokens))
		if l.seconds < math.Inf(1) {
			n = b.within(end, l.seconds-b.cost.of(Work{l.tokens, l.pairs})+float64(b.cost.Pair*float64(b.expand*end)), n)
		}
		b.extend(p, n)
	}
}

// top is the most tokens and the most pairs of a rank, for its speed.
type top struct{ tokens, pairs float64 }

func (f *former) most() (t top) {
	for g := range f.load {
		l := &f.load[g]
		x, y := float64(l.tokens), float64(l.pairs)
		if l.speed != 1 {
			x, y = x/l.speed, y/l.speed
		}
		t.tokens, t.pairs = max(t.tokens, x), max(t.pairs, y)
	}
	return t
}

// whole converts to an integer that leaves room to add to.
func whole(x float64) int64 { return int64(min(x, 1<<61)) }
