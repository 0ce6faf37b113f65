package prefill

import "github.com/moelb/moelb/prefill/internal/pack"

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
	pack.Former
	heads   []head
	pinned  []pinned // of each rank
	some    []int32  // requests at hand
	longest float64  // seconds of the longest that waits or runs
	local   bool     // each rank caches its own of what waits
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
// done in full all that was there before it came; then whoever is older is, too. A
// sixteenth of each step's seconds, on each rank, and as much again of the time that the
// unit has to spare, or all the tokens that the rank may take, go to the oldest that has
// started there and is late, or to those late ones that are older than all that are left
// in the queue. Where it takes long to see a prefix again, the shares of several steps go
// into one chunk, so that half of it is of use. So, where KV room and Request.Among leave
// the choice, whoever comes has ended, after that wait, once the unit could have done, in
// a sixteenth of the time, the work that came before it and was not done, and one rank its
// own work and twice the longest's of those before, all as without caches where each rank
// has its own, and twice if prefixes are seen again: nothing that comes later adds to it.
// An eighth of each step is open to short prompts: they do not wait for long ones. Nor
// does whoever comes wait long for a step's end: while others come its attention takes
// at most four times as long as full tokens or eight empty steps, or twice as long as it
// takes to see the longest prefix again. One that waits for another's prefix does so for
// as long as computing the prefix would take, or would cost all who wait, and a step or
// two. Where each rank caches its own, a prompt starts on the rank where it would end
// first, after what has started there and what else waits for it, or as soon on any.
//
// Prompts that only some ranks may take, however many, keep no others from theirs.
//
// The cost is linear in what could fill the longest step, in what has started, and in the
// sets of ranks that alone may take what waits.
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
	f.Form()
	if len(f.Pieces) == 0 {
		b.unstick()
	}
	f.Halve()
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
	if f.Least() {
		return
	}
	for _, sharing := range [2]bool{false, true} {
		for _, s := range b.queue {
			if s >= 0 && sharing == (b.requests[s].class == heldBack) && f.LeastOf(b.item(s, &b.requests[s])) {
				return
			}
		}
	}
}

// commit enters the step into the ledgers and appends its chunks to dst.
func (b *Balancer) commit(dst []Chunk) []Chunk {
	f := &b.former
	if len(f.Pieces) == 0 {
		return dst
	}
	seconds, work := f.Seconds(), 0.0
	for i := range f.Pieces {
		p := &f.Pieces[i]
		work += f.Useful(p)
		if it := &f.Items[p.Item]; it.Rank < 0 {
			b.start(it.Slot, int(p.Rank))
		}
	}
	b.clock += seconds
	b.observed.add(seconds, work)
	for g := range b.ranks {
		of := f.Of(g)
		b.ranks[g].owed = f.Owed(g)
		if len(of) == 0 {
			continue
		}
		for _, i := range of {
			p := &f.Pieces[i]
			s := f.Items[p.Item].Slot
			q := &b.requests[s]
			k := &b.ranks[g]
			w := WorkOf(p.N, p.Pos)
			q.pos += p.N
			k.work = k.work.less(w)
			b.total = b.total.less(w)
			last := q.pos == q.tokens
			dst = append(dst, Chunk{ID: q.id, Rank: g, Tokens: p.N, Last: last, Half: p.Half})
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
