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

// former is what Step works with. It is kept so as not to be allocated anew.
type former struct {
	items   []item
	from    int     // the first of the queue among the items
	urgent  int     // the end of the most urgent of the queue, in this order from there on
	order   []int32 // items, the most urgent first
	largest []int32 // items, the most work first
	turnOf  []int32 // the place in order of each
	old     []int32 // the oldest of the queue, one a rank in service at most
	heads   []head
	open    []int32 // ranks that take new requests, the one whose turn it is first
	base    float64 // seconds: an empty step and a usual one
	waiting float64 // how many wait or run
	tokens  int64   // what any rank may take in a step
	longest float64 // seconds of the longest that waits or runs
	deep    bool    // steps are to waste least
	density float64 // pairs a token of all that is ahead
	some    []int32 // items at hand
	pairs   int64   // what the densest of the items would fill a rank with
	share   float64 // seconds that the oldest of each rank are due

	fresh  []load // what the ranks have before the step is packed
	load   []load
	weight []float64 // seconds that each rank has in the step, at its speed
	ill    []float64 // how ill a rank suits any more
	gaps   []int32   // ranks at hand
	pieces []piece
	placed []int32 // the piece of each item; -1 = none
	caps   caps
	light  Work // of the short prompts that fill the caps
	worth  [tokenCaps][pairCaps]float64
	at     []int32 // where each rank's pieces begin in byRank
	byRank []int32
}

// Budget is what a rank may compute in one step.
type Budget struct {
	Tokens  int64   // new ones, at most; Config.MaxTokens bounds them too
	Seconds float64 // for tokens and attention together
}

// Step forms the next lockstep step of all ranks jointly: who runs now, where,
// and how long a chunk. It appends the chunks to dst, by rank, and enters them
// into the ledgers as computed; an empty step means that nothing can run. A started
// request stays on its rank. No rank gets more than MaxTokens.
//
// Every second of a step is waited by all who wait. So a step is what is worth most
// a second: the work in it, weighed by how urgent it is to whom it belongs and how
// many wait behind it, and each prompt that it ends, less what its length costs
// those who end in it and those who come. Urgent is who has waited for long compared
// with its own work: of alike prompts the first, and a short one before a long one
// until that has waited as many times its own length.
//
// Waiting is bounded. Late is who has waited for twice as long as the unit could have
// done in full all that was there before it came; then whoever is older is, too. An
// eighth of each step's seconds, on each rank, or all the tokens that it may take, go
// to the oldest that has started there and is late, or to those late ones that are
// older than all that are left in the queue. So, where KV room and Request.Among leave
// the choice, whoever comes has ended, after that wait, once the unit could have done, in
// an eighth of the time, the work that came before it and was not done, and one rank its
// own work and twice the longest's of those before: nothing that comes later adds to
// it. As much of each step is open to short prompts: they do not wait for long ones. One
// that waits for another's prefix, or the rank that caches its own, does so for as
// long as computing the prefix would take, or would cost all who wait, and a step or
// two.
//
// The cost is linear in what could fill the longest step, and in what has started.
func (b *Balancer) Step(dst []Chunk) []Chunk { return b.form(dst, nil) }

// StepWithin is Step where the ranks have other work to do beside, as in engines
// that decode on the same ranks: left[g] is what rank g has left for prefill in this
// step. Errors: ErrValue, and nothing has changed.
func (b *Balancer) StepWithin(dst []Chunk, left []Budget) ([]Chunk, error) {
	if len(left) != len(b.ranks) {
		return dst, bad(ErrValue, "budgets", -1, "%d values for %d ranks", len(left), len(b.ranks))
	}
	for g := range left {
		if left[g].Tokens < 0 || !(left[g].Seconds >= 0) {
			return dst, bad(ErrValue, "budgets", g, "%v: neither may be negative", left[g])
		}
	}
	return b.form(dst, left), nil
}

func (b *Balancer) form(dst []Chunk, left []Budget) []Chunk {
	b.forget()
	if 2*b.holes > len(b.queue) {
		b.compact()
	}
	b.survey(left)
	f := &b.former
	if len(f.items) > 0 {
		b.plan()
	} else {
		f.pieces = f.pieces[:0]
	}
	if len(f.pieces) == 0 {
		b.unstick()
	}
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

// unstick runs the smallest chunk there is of the first that can run, where no
// step within bounds would hold anything, or none of the most urgent has room: so a
// step is empty only if nothing can run. Whoever waits for a prefix comes last.
func (b *Balancer) unstick() {
	f := &b.former
	copy(f.load, f.fresh)
	for _, i := range f.order {
		if b.leastOf(i) {
			return
		}
	}
	for _, sharing := range [2]bool{false, true} {
		for _, s := range b.queue {
			if s < 0 || sharing != (b.requests[s].class == heldBack) {
				continue
			}
			i := int32(len(f.items))
			f.items = append(f.items, b.item(s, &b.requests[s]))
			f.placed = append(f.placed, -1)
			if b.leastOf(i) {
				return
			}
			f.items, f.placed = f.items[:i], f.placed[:i]
		}
	}
}

// leastOf puts the smallest chunk of an item into the step, if some rank takes it.
func (b *Balancer) leastOf(i int32) bool {
	f := &b.former
	it := &f.items[i]
	ranks := f.open
	if it.rank >= 0 {
		ranks = []int32{it.rank}
	}
	for _, r := range ranks {
		g := int(r)
		l := &f.load[g]
		if it.rank < 0 && !b.takes(g, it) {
			continue
		}
		pos := it.pos
		if it.rank < 0 {
			pos = b.requests[it.slot].at(g)
		}
		left := it.pos + it.left - pos
		n := min(left, max(1, b.cfg.Page))
		if n <= l.mostTokens && b.cost.of(Work{n, b.pairsOf(n, pos)}) <= l.seconds {
			b.put(i, g, n, pos)
			return true
		}
	}
	return false
}

// sortPieces lists the pieces by rank.
func (b *Balancer) sortPieces() {
	f := &b.former
	clear(f.at)
	for i := range f.pieces {
		f.at[f.pieces[i].rank+1]++
	}
	for g := range f.load {
		f.at[g+1] += f.at[g]
	}
	f.byRank = slices.Grow(f.byRank[:0], len(f.pieces))[:len(f.pieces)]
	for i := len(f.pieces) - 1; i >= 0; i-- {
		end := &f.at[f.pieces[i].rank+1]
		*end--
		f.byRank[*end] = int32(i)
	}
	// at[g+1] is now where rank g begins
}

// of is the pieces of a rank.
func (f *former) of(g int) []int32 {
	end := len(f.pieces)
	if g+2 < len(f.at) {
		end = int(f.at[g+2])
	}
	return f.byRank[f.at[g+1]:end]
}

// halve splits each rank's chunks into micro-batches: by falling pairs, each to
// the half that has fewer.
func (b *Balancer) halve() {
	f := &b.former
	b.sortPieces()
	for g := range f.load {
		at := f.of(g)
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
	if len(f.pieces) == 0 {
		return dst
	}
	m := f.most()
	seconds := b.cost.Step + float64(b.cost.Token*m.tokens) + float64(b.cost.Pair*m.pairs)
	work := 0.0
	for i := range f.pieces {
		p := &f.pieces[i]
		it := &f.items[p.item]
		work += b.useful(p, it)
		if it.rank < 0 {
			b.start(it.slot, int(p.rank))
		}
	}
	b.clock += seconds
	b.observed.add(seconds, work, f.longest)
	for g := range f.load {
		of := f.of(g)
		if len(of) == 0 {
			continue
		}
		for _, i := range of {
			p := &f.pieces[i]
			s := f.items[p.item].slot
			q := &b.requests[s]
			k := &b.ranks[g]
			w := WorkOf(p.n, p.pos)
			q.pos += p.n
			k.work = k.work.less(w)
			b.total = b.total.less(w)
			last := q.pos == q.tokens
			dst = append(dst, Chunk{ID: q.id, Rank: g, Tokens: p.n, Last: last, Half: p.half})
			if last {
				b.finish(s)
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
