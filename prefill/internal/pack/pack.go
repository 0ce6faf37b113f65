package pack

import "math"

// caps bound what a rank of speed 1 takes in a step.
type caps struct{ tokens, pairs int64 }

func (c caps) work() Work { return Work{c.tokens, c.pairs} }

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
func (f *Former) pack(c caps) {
	f.Pieces = f.Pieces[:0]
	for i := range f.placed {
		f.placed[i], f.waits[i].rank = -1, -1
	}
	copy(f.load, f.fresh)
	clear(f.weight)
	f.caps = f.bounded(c)
	f.calmest = math.Inf(1)
	f.giveShares()
	cover := f.cover()
	f.startShort()
	f.allow(f.load, f.caps)
	for _, i := range f.running {
		f.goOn(i, &f.Items[i])
	}
	for _, i := range f.queue[:cover] {
		if it := &f.Items[i]; f.placed[i] < 0 && !f.short(it) {
			if w := f.goal(it); !f.begin(i, it, w) {
				f.claim(i, w)
			}
		}
	}
	for _, i := range f.largest {
		if it := &f.Items[i]; f.placed[i] < 0 && int(f.turnOf[i]) < cover && f.short(it) {
			if w := f.goal(it); !f.startWhole(i, it, w) {
				f.claim(i, w)
			}
		}
	}
	f.fillGaps(cover)
	f.lengthen()
}

// allow sets what the ranks may take in all, if they have not more already.
func (f *Former) allow(load []load, c caps) {
	for g := range load {
		l := &load[g]
		l.capTokens, l.capPairs = c.tokens, c.pairs
		if l.speed != 1 {
			l.capTokens, l.capPairs = int64(max(1, l.speed*float64(c.tokens))), whole(l.speed*float64(c.pairs))
		}
		l.capTokens = min(l.capTokens, l.mostTokens)
	}
}

// startShort starts the most urgent short prompts, up to a share of the step on
// each rank, before long ones take what they can. In a deep queue, which is served oldest
// first, they are only those that some rank caches a part of: by their turn none may.
func (f *Former) startShort() {
	if f.Cost.Token == 0 {
		return
	}
	n := whole(f.shortShare / f.Cost.Token)
	tries := len(f.Open)
	for g := range f.load {
		l := &f.load[g]
		l.capTokens = min(l.mostTokens, l.tokens+int64(l.speed*float64(n)))
	}
	for i := int32(f.From); i < int32(f.Urgent); i++ {
		it := &f.Items[i]
		if tries == 0 {
			break
		}
		if f.Deep && !(it.local() && it.Pos > 0) {
			continue
		}
		if it.Rank < 0 && f.placed[i] < 0 && it.Left <= n && it.Pairs <= f.caps.pairs {
			tries--
			f.startWhole(i, it, f.goal(it))
		}
	}
}

// short reports whether a prompt fits into the step.
func (f *Former) short(it *Item) bool {
	c := &f.caps
	return it.Left <= c.tokens && it.Pairs <= c.pairs
}

// cover counts those of the queue, in order, whose short prompts fill the caps, and
// adds these up.
func (f *Former) cover() int {
	var w Work
	n := int64(max(1, len(f.Open)))
	end := len(f.queue)
	for k, i := range f.queue {
		if it := &f.Items[i]; f.short(it) {
			w = w.plus(Work{it.Left, it.Pairs})
			if w.Tokens >= n*f.caps.tokens || w.Pairs >= n*f.caps.pairs {
				end = k + 1
				break
			}
		}
	}
	f.light = f.mixOf(w)
	return end
}

// mix is light work: pairs a token, and the tokens that each open rank may have of it.
type mix struct {
	density float64
	share   int64
}

func (f *Former) mixOf(w Work) mix {
	return mix{float64(w.Pairs) / float64(max(w.Tokens, 1)), w.Tokens / int64(max(len(f.Open), 1))}
}

// chunk is the longest chunk at pos, at most most, that rank g may still take,
// whole pages unless it is all that is left.
func (f *Former) chunk(g int, pos, left, most int64) int64 {
	l := &f.load[g]
	n := longest(pos, l.capPairs-l.pairs-f.Expand*pos, min(left, most, l.capTokens-l.tokens))
	if l.seconds < math.Inf(1) {
		n = f.within(pos, l.seconds-f.Cost.Of(Work{l.tokens, l.pairs}), n)
	}
	return f.paged(n, left)
}

// within is the longest chunk at pos, at most most, of so many seconds.
func (f *Former) within(pos int64, seconds float64, most int64) int64 {
	if f.Cost.Pair == 0 {
		return max(0, min(most, int64(min(seconds/f.Cost.Token, 1<<40))))
	}
	// a token is so many pairs more
	also := int64(math.Ceil(min(f.Cost.Token/f.Cost.Pair, 1<<30)))
	return longest(pos+also, whole(seconds/f.Cost.Pair)-f.Expand*pos, most)
}

func (f *Former) paged(n, left int64) int64 {
	if n < left && f.Page > 1 {
		n -= n % f.Page
	}
	return max(n, 0)
}

// put adds a chunk to the step.
func (f *Former) put(i int32, g int, n, pos int64) {
	it := &f.Items[i]
	if n <= 0 && it.Left > 0 {
		return
	}
	l := &f.load[g]
	f.placed[i] = int32(len(f.Pieces))
	left := it.tokens() - pos
	f.Pieces = append(f.Pieces, Piece{Item: i, Rank: int32(g), N: n, Pos: pos, Left: left})
	f.burden(g, n, f.pairsOf(n, pos))
	if it.Rank < 0 {
		w := it.Seconds
		if pos != it.Pos {
			w = f.Cost.Of(Work{left, f.pairsOf(left, pos)})
		}
		l.kv += it.tokens()
		l.tail += left
		l.rest += w
		l.unfinished++
		l.stock += pairsOf(left, pos)
		if n < left {
			l.least = min(l.least, w)
		}
	}
}

// burden adds to what a rank has in the step.
func (f *Former) burden(g int, tokens, pairs int64) {
	l := &f.load[g]
	l.tokens += tokens
	l.pairs += pairs
	l.tail -= tokens
	w := f.Cost.Of(Work{l.tokens, l.pairs})
	if l.speed != 1 {
		w /= l.speed
	}
	f.weight[g] = w
}

// goOn lets a started request go on, beside its share if it has had one.
func (f *Former) goOn(i int32, it *Item) {
	g := int(it.Rank)
	if at := f.placed[i]; at >= 0 {
		p := &f.Pieces[at]
		f.extend(p, f.cut(g, it.Left-p.N, p.Pos+p.N, 0))
		return
	}
	if n := f.cut(g, it.Left, it.Pos, f.Expand*it.Pos); n == it.Left || n >= leastChunk/4 {
		f.put(i, g, n, it.Pos)
	}
}

// extend lengthens a chunk.
func (f *Former) extend(p *Piece, n int64) {
	if n = f.paged(p.N+n, p.Left) - p.N; n > 0 {
		f.burden(int(p.Rank), n, pairsOf(n, p.Pos+p.N))
		p.N += n
	}
}

// cut returns how much of a long prompt at pos rank g takes, at most most, so that
// the short prompts of the step still have the pairs to fill the rest of its
// tokens: of the tokens left beside n, they fill a share at their mean density d,
// n*pos + n(n+1)/2 + d*min(share, room-n) <= pairs.
func (f *Former) cut(g int, left, pos, extra int64) int64 {
	l := &f.load[g]
	room := l.capTokens - l.tokens
	most := min(left, room)
	pairs := l.capPairs - l.pairs - extra
	if most <= 0 || pairs <= 0 {
		return 0
	}
	density, share := f.light.density, min(room, f.light.share)
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
		n = f.within(pos, l.seconds-f.Cost.Of(Work{l.tokens, l.pairs}), n)
	}
	return f.paged(n, left)
}

// takes reports whether a queued request may start on a rank.
func (f *Former) takes(g int, it *Item) bool {
	l := &f.load[g]
	return !l.closed && (it.Where == nil || it.Where.May(g)) && it.tokens() <= l.room-l.kv
}

// on is what a queued request needs on a rank: tokens from pos on, and seconds.
func (f *Former) on(it *Item, g int) (pos, pairs int64, seconds float64) {
	if !it.local() {
		return it.Pos, it.Pairs, it.Seconds
	}
	pos = it.Where.On(g)
	if pos == it.Pos {
		return it.Pos, it.Pairs, it.Seconds
	}
	n := it.tokens() - pos
	pairs = f.pairsOf(n, pos)
	return pos, pairs, f.Cost.Of(Work{n, pairs})
}

// crowded reports whether a rank has as many unfinished prompts as it should when
// one of so many seconds comes: none shorter than twice that.
func (f *Former) crowded(l *load, seconds float64) bool { return l.least < nested*seconds }

// begin starts a prompt that is longer than the step: where it would end first.
func (f *Former) begin(i int32, it *Item, w goal) bool {
	best, bestN, bestPos, bestEnd := -1, int64(0), int64(0), math.Inf(1)
	local := it.local()
	if !local && f.calmest < nested*it.Seconds {
		return false
	}
	alike, calmest := !local && !f.Unlike, 0.0
	for _, r := range f.idlest {
		g := int(r)
		if alike && best >= 0 && f.end(&f.fresh[g], it.Seconds) > bestEnd {
			break
		}
		l := &f.load[g]
		pos, seconds := it.Pos, it.Seconds
		if local {
			pos, _, seconds = f.on(it, g)
		}
		if l.tokens < l.capTokens {
			calmest = max(calmest, l.least)
		}
		end := f.end(l, seconds)
		if end > bestEnd || end == bestEnd && !f.sooner(g, best) || !f.reaches(w, l, seconds) || f.crowded(l, seconds) || !f.takes(g, it) {
			continue
		}
		left := it.tokens() - pos
		least := min(left, leastChunk)
		if l.capTokens-l.tokens < least {
			continue
		}
		n := f.cut(g, left, pos, f.Expand*pos)
		if n < least {
			continue
		}
		best, bestN, bestPos, bestEnd = g, n, pos, end
	}
	if best >= 0 {
		f.put(i, best, bestN, bestPos)
	} else {
		f.calmest = calmest // all were looked at
	}
	return best >= 0
}

// end is when a rank would end a prompt of so many seconds after what it has started.
func (f *Former) end(l *load, seconds float64) float64 {
	if l.speed != 1 {
		return (l.rest + seconds) / l.speed
	}
	return l.rest + seconds
}

// startWhole starts a prompt that fits into the step, where least is.
func (f *Former) startWhole(i int32, it *Item, w goal) bool {
	alike := !it.local() && !f.Unlike // it adds the same everywhere
	best, bestPos, bestScore := -1, int64(0), math.Inf(1)
	for _, r := range f.Open {
		g := int(r)
		if f.weight[g] >= bestScore {
			continue
		}
		l := &f.load[g]
		pos, pairs, seconds := f.on(it, g)
		tokens, all := l.tokens+it.tokens()-pos, l.pairs+pairs
		if !f.reaches(w, l, seconds) || tokens > l.capTokens || all > l.capPairs || !f.takes(g, it) {
			continue
		}
		if l.seconds < math.Inf(1) && f.Cost.Of(Work{tokens, all}) > l.seconds {
			continue
		}
		score := f.weight[g]
		if !alike {
			score = f.Cost.Of(Work{tokens, all}) / l.speed
			if pos != it.Pos {
				score *= seconds / max(it.Seconds, 1e-12)
			}
		}
		if score < bestScore {
			if best, bestPos, bestScore = g, pos, score; score == 0 {
				break
			}
		}
	}
	if best >= 0 {
		f.put(i, best, it.tokens()-bestPos, bestPos)
	}
	return best >= 0
}

// fillGaps starts more of the queue where tokens are left: whole, and then cut,
// where the rank has only longer ones unfinished, or the next step ends them all.
func (f *Former) fillGaps(cover int) {
	gap := int64(0)
	for _, g := range f.Open {
		gap = max(gap, f.load[g].capTokens-f.load[g].tokens)
	}
	tries := 2 * len(f.Open)
	for _, i := range f.queue[cover:] {
		it := &f.Items[i]
		if tries == 0 || gap <= 0 {
			break
		}
		if f.placed[i] < 0 && it.Left <= gap && f.short(it) && !f.startWhole(i, it, f.goal(it)) {
			tries--
		}
	}
	f.gaps = append(f.gaps[:0], f.Open...)
	tries = 2 * len(f.Open)
	for _, i := range f.queue {
		it := &f.Items[i]
		if f.placed[i] >= 0 {
			continue
		}
		if tries--; tries < 0 || len(f.gaps) == 0 {
			break
		}
		w := f.waits[i]
		if w.rank < 0 {
			w = f.goal(it)
		}
		best, bestN, bestPos := -1, int64(0), int64(0)
		gaps := f.gaps[:0]
		for _, r := range f.gaps {
			g := int(r)
			l := &f.load[g]
			if l.capTokens-l.tokens < leastChunk || l.capPairs-l.pairs < pairsOf(leastChunk, 0) {
				continue // whatever else comes
			}
			gaps = append(gaps, r)
			if l.capTokens-l.tokens <= bestN || !f.takes(g, it) {
				continue
			}
			pos, _, seconds := f.on(it, g)
			left := it.tokens() - pos
			if left <= bestN || !f.reaches(w, l, seconds) || l.tail > l.capTokens && f.crowded(l, seconds) {
				continue
			}
			n := f.chunk(g, pos, left, left)
			if n <= bestN || n < leastChunk || l.tail+left-n > l.capTokens && f.crowded(l, seconds) {
				continue
			}
			best, bestN, bestPos = g, n, pos
		}
		if f.gaps = gaps; best >= 0 {
			f.put(i, best, bestN, bestPos)
		}
	}
}

// lengthen grows chunks into what costs nothing: tokens up to the most tokens of
// a rank, pairs up to the most pairs.
func (f *Former) lengthen() {
	most := f.most()
	f.top = most
	tokens, pairs := int64(most.tokens), whole(most.pairs)
	for i := range f.Pieces {
		p := &f.Pieces[i]
		more := p.Left - p.N
		if more <= 0 {
			continue
		}
		l := &f.load[p.Rank]
		t, a := tokens, pairs
		if l.speed != 1 {
			t, a = int64(float64(most.tokens*l.speed)), whole(most.pairs*l.speed)
		}
		t = min(t, l.mostTokens)
		end := p.Pos + p.N
		n := longest(end, a-l.pairs, min(more, t-l.tokens))
		if l.seconds < math.Inf(1) {
			n = f.within(end, l.seconds-f.Cost.Of(Work{l.tokens, l.pairs})+float64(f.Cost.Pair*float64(f.Expand*end)), n)
		}
		if n > 0 {
			f.extend(p, n)
			f.top.take(l)
		}
	}
}

// top is the most tokens and the most pairs of a rank, for its speed.
type top struct{ tokens, pairs float64 }

func (t *top) take(l *load) {
	x, y := float64(l.tokens), float64(l.pairs)
	if l.speed != 1 {
		x, y = x/l.speed, y/l.speed
	}
	t.tokens, t.pairs = max(t.tokens, x), max(t.pairs, y)
}

func (f *Former) most() (t top) {
	for g := range f.load {
		t.take(&f.load[g])
	}
	return t
}
