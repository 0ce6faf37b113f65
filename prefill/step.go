package prefill

import "slices"

// Chunk is what a rank computes of a request in one step.
type Chunk struct {
	ID     ID
	Rank   int
	Tokens int64
	// Last: the prefill ends with this chunk, and Step has forgotten the request.
	Last bool
	// Half is the micro-batch, 0 or 1, that should compute the chunk: a rank's
	// halves then carry about the same attention, so that one computes while the
	// other communicates.
	Half int8
}

// leastChunk is the shortest chunk that is cut from a longer prompt, in tokens:
// shorter ones cost more in overhead than they even out.
const leastChunk = 512

// piece is a chunk in the making.
type piece struct {
	slot  int32
	rank  int32
	n     int64 // tokens of the chunk
	pos   int64 // tokens of the request before it
	fresh bool  // of a request from the queue
	half  int8
}

// load is what a rank has in the step that is being formed.
type load struct {
	tokens int64
	pairs  int64   // with what prefixes cost to re-expand
	stock  int64   // pairs that its prompts need to their ends, with this step's
	kv     int64   // tokens of its prompts in full
	pieces []int32 // indices of the pieces on it
	closed bool    // takes nothing from the queue
}

// former is what Step works with. It is kept so as not to be allocated anew; only
// the queue's order outlives a step.
type former struct {
	pieces []piece
	load   []load
	ready  []int32 // requests of the queue that may run, oldest first
	order  []int32 // some of them in another order
	urgent []int64 // of the requests in order: how they rank before their age
	moved  mover

	started, all Work // unfinished: of prompts on ranks, and with the queue's

	pinned bool    // some of what is ready may not run everywhere
	local  bool    // some of what is ready has prefixes in the ranks' caches
	full   bool    // much is ready
	tokens int64   // what a rank takes in this step, at most
	pairs  int64   // the same; a rank that only runs what it must may have more
	dense  float64 // pairs a token above which a prompt is dense
	light  Work    // of the ready prompts that are not
}

// Step forms the next lockstep step of all ranks jointly: who runs now, where,
// and how long a chunk. It appends the chunks to dst, by rank, and enters them
// into the ledgers as computed; an empty step means that nothing is ready.
//
// A started request stays on its rank. No rank gets more than MaxTokens, and while
// nobody has waited for long a step takes only a share of what is ready: whoever
// comes next then waits for a short step. A step's pairs are to its tokens about as
// in all that is to be done, so that long prompts advance by chunks beside the
// short ones that fill the tokens. While much is ready, all ranks aim at the same
// of both; while little is, prompts are placed whole where the step allows it, so
// that its time is least.
//
// No request starves: the oldest request started on a rank advances in every
// step, and a queued one whose patience has ended (Config.Patience) starts before
// any other as soon as a rank has a token to spare, and KV room, which is then
// kept for it. One that waits for another's prefix is held back for up to
// holdFactor times as long.
//
// The cost is linear in the requests known, plus ranks times the requests that
// start.
func (b *Balancer) Step(dst []Chunk) []Chunk {
	b.forget()
	b.compact()
	b.survey()
	b.target()
	f := &b.former
	if f.full {
		b.carryFull()
		b.overdue()
		b.startDense()
		b.fill()
		b.trade()
	} else {
		b.carryAll()
		b.overdue()
		b.placeWhole()
		b.settle()
	}
	b.unstick()
	b.lengthen()
	b.halve()
	return b.commit(dst)
}

// compact closes the holes of the queue.
func (b *Balancer) compact() {
	if b.holes == 0 {
		return
	}
	k := 0
	for _, s := range b.queue {
		if s >= 0 {
			b.queue[k] = s
			b.requests[s].place = int32(k)
			k++
		}
	}
	b.queue = b.queue[:k]
	b.holes = 0
}

// pairsOf is what a chunk counts for a rank's pairs.
func (b *Balancer) pairsOf(n, p int64) int64 { return pairsOf(n, p) + b.expand*p }

// within returns the longest chunk at p, at most most, whose pairs stay within room.
func (b *Balancer) within(p, room, most int64) int64 { return longest(p, room-b.expand*p, most) }

// put adds a chunk to the step.
func (b *Balancer) put(s int32, g int, n, pos int64, fresh bool) {
	f := &b.former
	l := &f.load[g]
	l.pieces = append(l.pieces, int32(len(f.pieces)))
	f.pieces = append(f.pieces, piece{slot: s, rank: int32(g), n: n, pos: pos, fresh: fresh})
	l.tokens += n
	l.pairs += b.pairsOf(n, pos)
	if fresh {
		q := &b.requests[s]
		q.taken = true
		l.kv += q.tokens
		l.stock += pairsOf(q.tokens-pos, pos)
	}
}

// takes reports whether a queued request may start on a rank.
func (b *Balancer) takes(g int, q *request) bool {
	l := &b.former.load[g]
	return b.able(g, q) && !l.closed && q.tokens <= b.ranks[g].room()-l.kv
}

// overdue starts the oldest request of the queue if its patience has ended: on
// the rank with the least stock that has a token to spare. If none has KV room for
// it, the rank that will have it soonest takes nothing else until then.
func (b *Balancer) overdue() {
	f := &b.former
	if len(f.ready) == 0 {
		return
	}
	s := f.ready[0]
	q := &b.requests[s]
	if q.due > b.clock {
		return
	}
	best, soonest := -1, -1
	least := int64(0)
	for i := range f.load {
		g := b.turned(i)
		l, k := &f.load[g], &b.ranks[g]
		if !b.able(g, q) {
			continue
		}
		// what must go first; what was added goes when its caller says so
		if over := l.kv + q.tokens - k.room(); over > 0 && over <= k.startedKV && (soonest < 0 || over < least) {
			soonest, least = g, over
		}
		if l.tokens < f.tokens && b.takes(g, q) && (best < 0 || l.stock < f.load[best].stock) {
			best = g
		}
	}
	switch {
	case best >= 0:
		l := &f.load[best]
		pos := q.at(best)
		most := min(q.tokens-pos, f.tokens-l.tokens)
		b.put(s, best, max(b.cut(best, most, pos), min(leastChunk, most)), pos, true)
	case soonest >= 0:
		f.load[soonest].closed = true
	}
}

// unstick starts the oldest request that can start at all where the step would be
// empty: nothing waits for what only a step can bring about.
func (b *Balancer) unstick() {
	f := &b.former
	if len(f.pieces) > 0 {
		return
	}
	for _, s := range b.queue {
		if s < 0 {
			continue
		}
		q := &b.requests[s]
		for i := range f.load {
			if g := b.turned(i); b.takes(g, q) {
				pos := q.at(g)
				b.put(s, g, min(q.tokens-pos, f.tokens, leastChunk), pos, true)
				return
			}
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
		l := &f.load[p.rank]
		end := p.pos + p.n
		if more := longest(end, most.Pairs-l.pairs, min(b.requests[p.slot].tokens-end, most.Tokens-l.tokens)); more > 0 {
			l.pairs += pairsOf(more, end)
			l.tokens += more
			p.n += more
		}
	}
}

// most is the most tokens and the most pairs of a rank.
func (f *former) most() Work {
	var w Work
	for g := range f.load {
		w.Tokens, w.Pairs = max(w.Tokens, f.load[g].tokens), max(w.Pairs, f.load[g].pairs)
	}
	return w
}

// halve splits each rank's chunks into micro-batches: by falling pairs, each to
// the half that has fewer.
func (b *Balancer) halve() {
	f := &b.former
	for g := range f.load {
		at := f.load[g].pieces
		slices.SortFunc(at, func(x, y int32) int {
			p, q := &f.pieces[x], &f.pieces[y]
			return order(b.pairsOf(q.n, q.pos), b.pairsOf(p.n, p.pos), int64(x), int64(y))
		})
		var have [2]Work
		for _, i := range at {
			p := &f.pieces[i]
			if order(have[1].Pairs, have[0].Pairs, have[1].Tokens, have[0].Tokens) < 0 {
				p.half = 1
			}
			have[p.half].Pairs += b.pairsOf(p.n, p.pos)
			have[p.half].Tokens += p.n
		}
		slices.Sort(at)
	}
}

// order compares x with y, and where they are equal u with v.
func order(x, y, u, v int64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	case u < v:
		return -1
	case u > v:
		return 1
	}
	return 0
}

// commit enters the step into the ledgers and appends its chunks to dst.
func (b *Balancer) commit(dst []Chunk) []Chunk {
	f := &b.former
	if len(f.pieces) > 0 {
		b.clock += b.cost.Seconds(f.most())
	}
	for i := range f.pieces {
		if p := &f.pieces[i]; p.fresh {
			b.requests[p.slot].taken = false
			if p.n > 0 || p.pos == b.requests[p.slot].tokens {
				b.start(p.slot, int(p.rank))
			}
		}
	}
	for g := range f.load {
		for _, i := range f.load[g].pieces {
			p := &f.pieces[i]
			q := &b.requests[p.slot]
			if q.state != started {
				continue // traded away whole
			}
			k := &b.ranks[g]
			w := WorkOf(p.n, p.pos)
			q.pos += p.n
			k.work = k.work.less(w)
			b.total = b.total.less(w)
			last := q.pos == q.tokens
			if p.n > 0 || last {
				dst = append(dst, Chunk{ID: q.id, Rank: g, Tokens: p.n, Last: last, Half: p.half})
			}
			if last {
				b.finish(p.slot)
			}
		}
		b.look(g)
	}
	return dst
}

// finish forgets a request whose last chunk is in the step, and lets those go on
// that waited for its prefix.
func (b *Balancer) finish(s int32) {
	q := &b.requests[s]
	b.credit(s, true)
	b.leave(s)
	if b.cfg.KeepKV {
		b.settleOn(s, int(q.rank), q.tokens, held)
		return
	}
	b.ids.Remove(uint64(q.id))
	q.state = ended
	b.ended = append(b.ended, s)
}
