package decode

import (
	"slices"

	"github.com/moelb/moelb/decode/internal/levels"
	"github.com/moelb/moelb/decode/internal/shares"
	"github.com/moelb/moelb/internal/ledger"
)

// ID is what the caller calls a request. It is known from the call that enters it
// until the request ends; the same may come again afterwards.
type ID uint64

// Full is the rank of a request that fits nowhere now.
const Full = -1

// Request is what a rank takes on.
type Request struct {
	ID ID
	KV int64 // tokens of KV cache it holds now: its prompt, and what it generated before
	// Tokens it is expected to generate from now on; 0 = unknown. It is believed until
	// most requests that declare about as much fall far short of it.
	Output int64

	// Generated is how many of its tokens it had generated before it was evicted
	// or lost and is now added again: its life counts from there.
	Generated int64

	// Width is how many tokens it verifies in a step, and grows by; 0 = 1. It
	// counts as so many requests. With speculative decoding, take back what was
	// not accepted with Grow and a negative number.
	Width int

	// The first Shared tokens of its KV cache are held once for all requests of
	// the same Prefix on a rank. Samples that name different lengths hold the
	// largest once. 0 = it shares nothing.
	Prefix uint64
	Shared int64

	Waiting bool  // its KV cache is on the way: room is taken, but it neither runs nor grows before Start
	Among   []int // only these ranks may take it; nil = all. Copied where it is kept
}

// Scheduler is what an engine or a gateway holds, so that a policy can be
// swapped. Add places a request, for as long as it runs, on the rank it returns
// (Full = it fits nowhere now). Done releases it. Step says that every running
// request grew by its width.
type Scheduler interface {
	Add(Request) (rank int, err error)
	Done(ID) error
	Step()
}

// Batcher is a Scheduler that places what arrived within a step jointly. It
// appends one rank a request to dst, in their order.
type Batcher interface {
	Scheduler
	Batch(dst []int, requests []Request) ([]int, error)
}

var _ Batcher = (*Balancer)(nil)

// Balancer places requests on the ranks of one decode unit, and is its ledger.
// It is not safe for concurrent use: see Safe. Add, Done and Grow cost O(log
// ranks) for each width in use (nearly all ranks share a few), where capacity is
// scarce also O(requests of a rank); Step costs O(1), and O(log ranks) for each
// rank on which requests wait; none allocates once the slabs have grown to the
// unit's size.
type Balancer struct {
	cfg     Config
	clock   int64 // steps made
	turn    int   // the rank that comes first among equals
	waiting int   // requests whose KV cache is on the way

	ids      ledger.Table // slots of the requests
	requests []request
	free     []int32         // slots that are free, the next one last
	among    map[int32][]int // of the slots that may not be anywhere: ascending
	prefixes prefixes
	ranks    []rank
	base     []int64        // KV use of each rank - its width * clock
	mine     *levels.Levels // the active ranks of the own share
	others   *levels.Levels // those of other routers' shares; nil = the only router
	active   int64          // active ranks, their
	sumBase  int64          // bases
	sumWidth int64          // and widths
	sumOwn   int64          // of them, of this router's requests
	shares   *shares.Shares // nil = the only router
	unlike   bool           // ranks differ in capacity or speed
	lives    lives          // how long they are
	foreseen foreseen
	prompts  tally     // KV use of what was added
	long     int64     // of the long ones
	batch    batchWork // scratch of Batch
	refused  refusal
	barred   bool // the margin kept the latest request off some rank
	model    model
}

// New returns a balancer of an empty unit. Errors: ErrValue.
func New(cfg Config) (*Balancer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	b := &Balancer{cfg: cfg, among: map[int32][]int{}}
	b.ranks, b.base = make([]rank, cfg.Ranks), make([]int64, cfg.Ranks)
	for g := range b.ranks {
		b.ranks[g] = rank{state: Serving, capacity: cfg.capacityOf(g), speed: cfg.speedOf(g)}
	}
	b.cfg.KVCapacity, b.cfg.Speed = nil, nil // each rank has its own
	b.draw()
	b.index()
	return b, nil
}

// index puts the serving ranks in their sets.
func (b *Balancer) index() {
	b.mine, b.others = levels.New(b.base), nil
	if b.cfg.Routers > 1 {
		b.others, b.shares = levels.New(b.base), shares.New(b.cfg.Routers, b.cfg.Router, b.cfg.Ranks, b.cfg.Cost.KV, b.cfg.Cost.Request)
	}
	b.active, b.sumBase, b.sumWidth, b.sumOwn, b.unlike = 0, 0, 0, 0, false
	b.room()
	for g := range b.ranks {
		k := &b.ranks[g]
		if k.open() {
			b.enter(g)
		}
		b.unlike = b.unlike || k.capacity != b.ranks[0].capacity || k.speed != b.ranks[0].speed
	}
	if min(b.cfg.Ranks, modelled) == b.model.ranks {
		return
	}
	b.model.resize(b.cfg.Ranks)
	for i := range b.requests {
		b.requests[i].model = modelRanks{}
	}
	came := b.model.came
	for i := range b.requests {
		if b.requests[i].rank >= 0 {
			b.imagine(int32(i), 0, 0)
		}
	}
	b.model.came = came
}

// check returns a new request with its defaults filled in. index is its place in a
// batch; -1 = it comes alone.
func (b *Balancer) check(r Request, index int) (Request, error) {
	r, err := b.values(r, index)
	if err == nil && b.ids.Find(uint64(r.ID)) >= 0 {
		err = errorf(ErrKnown, "id", index, "%d is known already", uint64(r.ID))
	}
	return r, err
}

// values is check of all but the id.
func (b *Balancer) values(r Request, index int) (Request, error) {
	if r.Width == 0 {
		r.Width = 1
	}
	for _, n := range [...]struct {
		field       string
		value, most int64
	}{{"kv", r.KV, MaxTokens}, {"output", r.Output, MaxTokens}, {"generated", r.Generated, MaxTokens}, {"width", int64(r.Width), MaxWidth}, {"shared", r.Shared, r.KV}} {
		if n.value < 0 || n.value > n.most {
			return r, errorf(ErrValue, n.field, index, "%d is not from 0 to %d", n.value, n.most)
		}
	}
	for _, g := range r.Among {
		if g < 0 || g >= len(b.ranks) {
			return r, errorf(ErrValue, "among", index, "%d is not from 0 to %d", g, len(b.ranks)-1)
		}
	}
	return r, nil
}

// possible is an error for a request that no rank could hold even if it were idle.
func (b *Balancer) possible(r *Request, index int) error {
	most := int64(0)
	switch {
	case b.cfg.MaxRequests > 0 && r.Width > b.cfg.MaxRequests:
		return errorf(ErrNever, "width", index, "%d is more than the %d requests that a rank runs", r.Width, b.cfg.MaxRequests)
	case r.Among != nil:
		for _, g := range r.Among {
			most = max(most, b.ranks[g].capacity)
		}
		if len(r.Among) == 0 {
			return errorf(ErrNever, "among", index, "no rank may take it")
		}
	case b.unlike:
		for g := range b.ranks {
			most = max(most, b.ranks[g].capacity)
		}
	case len(b.ranks) > 0: // which New makes
		most = b.ranks[0].capacity
	}
	if r.KV+max(r.Output, leastOut) > most {
		return errorf(ErrNever, "kv", index, "%d, and %d to come, are more than the %d that any rank holds", r.KV, max(r.Output, leastOut), most)
	}
	return nil
}

// Add places one request now, on the rank where it is expected to cost the unit
// least, and returns its rank; Full = no serving rank has room for it to finish, or most
// have none and it would make one of the rest run more requests than any does. Who is
// refused comes again under the same ID: while more wait than ranks hold more than they
// have room for, less room is spared. Errors: ErrValue, ErrKnown, ErrNever.
func (b *Balancer) Add(r Request) (int, error) {
	r, err := b.check(r, -1)
	if err == nil {
		err = b.possible(&r, -1)
	}
	if err != nil {
		return Full, err
	}
	g := b.take(b.rule(r.KV), &r, int64(r.Width))
	if g >= 0 {
		b.imagine(b.put(g, &r), 0, 0)
	}
	return g, nil
}

// Enter says that a request is on a rank already, as one that was adopted, pinned
// by its client or brought there by the engine: it is entered there whatever the
// limits. Errors: ErrValue, ErrKnown; ErrState where the rank is dead.
func (b *Balancer) Enter(r Request, rank int) error {
	r, err := b.check(r, -1)
	if err == nil {
		err = b.alive("rank", rank)
	}
	if err == nil {
		b.imagine(b.put(rank, &r), 0, 0)
	}
	return err
}

// put writes a request into the ledger, and returns its slot.
func (b *Balancer) put(g int, r *Request) int32 {
	i := b.slot()
	q := &b.requests[i]
	*q = request{
		id: r.ID, width: int32(r.Width), born: b.clock, start: r.KV - r.Generated, since: r.Generated, output: r.Generated + r.Output, told: r.Output > 0,
		waiting: r.Waiting, prefix: -1,
	}
	q.base = r.KV
	if !q.waiting {
		q.base -= int64(r.Width) * b.clock
	}
	if r.Shared > 0 {
		q.prefix, q.shared = b.prefixes.find(r.Prefix), r.Shared
	}
	if r.Among != nil {
		b.among[i] = slices.Compact(slices.Sorted(slices.Values(r.Among)))
	}
	b.ids.Add(uint64(r.ID), i)
	b.lives.waits.placed(r.ID)
	b.prompts.add(r.KV)
	b.long = b.prompts.top(long)
	b.turn = g + 1
	b.join(i, g)
	if b.lives.comes(r.Generated); b.lives.stale(b.ids.Len()) {
		b.draw()
	}
	return i
}

// Done releases a request that has finished: what it generated is learned from.
// Errors: ErrUnknown.
func (b *Balancer) Done(id ID) error {
	i, err := b.find(id)
	if err == nil {
		b.learn(&b.requests[i], true)
		b.release(i)
	}
	return err
}

// Cancel releases a request whose client went away. It teaches nothing but that
// it was at least so long. Errors: ErrUnknown.
func (b *Balancer) Cancel(id ID) error {
	i, err := b.find(id)
	if err == nil {
		b.learn(&b.requests[i], false)
		b.release(i)
	}
	return err
}

// Evict releases a request that the engine preempted, as Cancel does: add it
// again with what it had Generated. Errors: ErrUnknown.
func (b *Balancer) Evict(id ID) error { return b.Cancel(id) }

// learn takes in the life of a request that leaves.
func (b *Balancer) learn(q *request, finished bool) {
	b.lives.over(q, b.clock, finished)
	q.since = max(q.since, q.generated(b.clock)) // all of it has been taken in
	if b.lives.stale(b.ids.Len()) {
		b.draw()
	}
}

// Start says that the KV cache of a waiting request has come: it runs from now
// on. Errors: ErrUnknown; ErrState where it runs already.
func (b *Balancer) Start(id ID) error {
	i, err := b.find(id)
	if err != nil {
		return err
	}
	q := &b.requests[i]
	if !q.waiting {
		return errorf(ErrState, "id", -1, "request %d runs already", uint64(id))
	}
	q.waiting = false
	q.base -= int64(q.width) * b.clock
	b.ranks[q.rank].waiting -= int64(q.width)
	b.waiting--
	b.imagine(i, 0, 0)
	return nil
}

// imagine puts a request that runs into the model, where it is drawn. It was placed
// with so many requests of so much width still to come.
func (b *Balancer) imagine(i int32, more int, width int64) {
	q := &b.requests[i]
	left := 0.0
	if more > 0 {
		left = float64(more + 1)
	}
	if q.waiting || !b.model.draws(int64(b.ids.Len()-b.waiting), b.active, left) {
		return
	}
	width = (b.sumWidth + width) * int64(b.model.ranks) / b.active
	b.model.place(q, b.rule(q.kv(b.clock)), &b.cfg.Cost, b.clock, width, b.long, b.limit())
}

// Grow says that one request grew by so many tokens beyond what Step counts; a
// negative number shrinks it. What it grows by it has generated: a prompt that is
// still on its way is entered whole, as Waiting. Errors: ErrUnknown, ErrValue; ErrState where it
// waits.
func (b *Balancer) Grow(id ID, tokens int64) error {
	i, err := b.find(id)
	if err == nil {
		err = b.mayGrow(i, tokens, -1)
	}
	if err == nil {
		b.grow(i, tokens)
	}
	return err
}

// Generated says how many tokens a request has generated in its whole life, as the
// engine counts them; its KV use follows. Errors: ErrUnknown, ErrValue; ErrState
// where it waits.
func (b *Balancer) Generated(id ID, tokens int64) error {
	i, err := b.find(id)
	if err != nil {
		return err
	}
	q := &b.requests[i]
	if tokens < 0 || tokens > MaxTokens {
		return errorf(ErrValue, "generated", -1, "%d is not from 0 to %d", tokens, MaxTokens)
	}
	more := q.start + tokens - q.kv(b.clock)
	if err = b.mayGrow(i, more, -1); err == nil {
		b.grow(i, more)
	}
	return err
}

// Growth is how much one request grew.
type Growth struct {
	ID     ID
	Tokens int64
}

// GrowAll is Grow of many at once: all of it, or on an error, which names the
// index, nothing. Errors: as Grow.
func (b *Balancer) GrowAll(all []Growth) error {
	slots, err := b.batch.order[:0], error(nil)
	for n, x := range all {
		i := b.ids.Find(uint64(x.ID))
		if i < 0 {
			err = errorf(ErrUnknown, "tokens", n, "%d is unknown", uint64(x.ID))
		} else {
			err = b.mayGrow(i, x.Tokens, n)
		}
		if err != nil {
			break
		}
		b.requests[i].base += x.Tokens // until all are known to be good: one may stand there twice
		slots = append(slots, i)
	}
	b.batch.order = slots
	for n, i := range slots {
		b.requests[i].base -= all[n].Tokens
	}
	if err != nil {
		return err
	}
	for n, i := range slots {
		b.grow(i, all[n].Tokens)
	}
	return nil
}

func (b *Balancer) mayGrow(i int32, tokens int64, index int) error {
	q := &b.requests[i]
	kv := q.kv(b.clock)
	switch {
	case q.waiting:
		return errorf(ErrState, "id", index, "request %d waits for its KV cache", uint64(q.id))
	case tokens > MaxTokens || tokens < q.shared-kv || kv+tokens > MaxTokens:
		return errorf(ErrValue, "tokens", index, "%d beyond the %d it holds: not from %d to %d", tokens, kv, q.shared, MaxTokens)
	}
	return nil
}

func (b *Balancer) grow(i int32, tokens int64) {
	q := &b.requests[i]
	b.model.drop(q, b.clock)
	q.base += tokens
	q.start = min(q.start, q.kv(b.clock)) // less than its prompt: that has become shorter
	b.model.add(q, b.clock)
	b.room()
	if q.placed > 0 { // else the rank restarted without it
		g := int(q.rank)
		b.shift(g, max(tokens, -b.kv(g)), 0)
	}
}

// Step says that the unit made a step: every running request grew by its width.
func (b *Balancer) Step() {
	b.clock++
	if b.model.steps == 0 {
		b.model.begin(b.alike(b.long))
	}
	b.model.step(&b.cfg.Cost, b.expected(0))
	if b.waiting > 0 {
		for g := range b.ranks {
			k := &b.ranks[g]
			if n := min(k.waiting, k.width); n > 0 { // a report may know of fewer
				b.shift(g, -n, 0)
			}
		}
	}
	b.idle()
	if b.clock >= b.lives.due {
		b.draw()
	}
}

// Where returns where a request is. Errors: ErrUnknown.
func (b *Balancer) Where(id ID) (rank int, err error) {
	i, err := b.find(id)
	if err != nil {
		return -1, err
	}
	return int(b.requests[i].rank), nil
}

// KV returns the KV use of a request. Errors: ErrUnknown.
func (b *Balancer) KV(id ID) (int64, error) {
	i, err := b.find(id)
	if err != nil {
		return 0, err
	}
	return b.requests[i].kv(b.clock), nil
}
