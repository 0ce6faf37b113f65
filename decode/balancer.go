package decode

import "math"

// Cost is what a lockstep step takes, in seconds: Step, and KV for each token of
// KV cache on the rank that holds most, and Request for each request on the rank
// that runs most. Only the ratios matter to decisions.
type Cost struct {
	KV      float64 `json:"kv"`
	Request float64 `json:"request"`
	Step    float64 `json:"step"`
}

// DeepSeekV3H800 is the cost of DeepSeek-V3 on a decode unit of 144 H800 GPUs:
// 48 ms at 88 requests of 4,989 tokens, of which KV use and request count each
// make 11.4.
var DeepSeekV3H800 = Cost{KV: 2.6e-8, Request: 1.3e-4, Step: 0.02515}

// Config describes a decode unit. The zero value of every field but Ranks is its
// default.
type Config struct {
	Ranks       int  // data-parallel ranks, 1 to MaxRanks
	KVCapacity  int  // tokens of KV cache a rank holds; 0 = no limit
	MaxRequests int  // requests a rank runs at once, each counted Width times; 0 = no limit
	Cost        Cost // zero = DeepSeekV3H800

	// Output is how many tokens a request is expected to generate that does not
	// say; 0 = what those that finished did.
	Output int

	// Of Routers that share a unit, this is number Router, from 0: it tries the
	// ranks of its own share first (rank % Routers == Router), so that routers
	// which do not see each other's latest placements do not meet on one rank.
	// 0 = the only one, whose ledger is complete. See Report.
	Routers, Router int

	// Link is the bandwidth over which a running request's KV cache moves, in
	// tokens a second; 0 = 700,000 (50 GB/s at DeepSeek-V3's 70,272 bytes).
	Link float64
}

// Limits of what is accepted.
const (
	MaxRanks  = 1 << 16
	MaxTokens = 1 << 30 // of one request
	MaxWidth  = 256
)

// Request is what a rank takes on.
type Request struct {
	KV     int // tokens of KV cache it holds now: its prompt
	Output int // tokens it is expected to generate from now on; 0 = unknown

	// Width is how many tokens it verifies in a step, and grows by; 0 = 1. It
	// counts as so many requests. With speculative decoding, take back what was
	// not accepted with Grow and a negative number.
	Width int
}

// ID names a running request. It is never 0, and none is used again.
type ID uint64

// Assignment is where a request went. Rank -1 with ID 0: it fits nowhere now, and
// nothing has changed.
type Assignment struct {
	ID   ID
	Rank int
}

// Scheduler is what an engine or a gateway holds, so that a policy can be
// swapped. Add places a request, for as long as it runs, on the rank it returns
// (-1 = it fits nowhere now). Done releases it. Step says that every running
// request grew by its width.
type Scheduler interface {
	Add(Request) (ID, int, error)
	Done(ID) error
	Step()
}

// Batcher is a Scheduler that places what arrived within a step jointly. It
// appends one assignment a request to dst, in their order.
type Batcher interface {
	Scheduler
	Batch(dst []Assignment, requests []Request) ([]Assignment, error)
}

var _ Batcher = (*Balancer)(nil)

// Balancer places requests on the ranks of one decode unit, and is its ledger.
// It is not safe for concurrent use: see Safe. Add, Done and Grow cost O(log
// ranks) for each width in use (nearly all ranks share a few), Step O(1); none
// allocates once the slabs have grown to the unit's size.
type Balancer struct {
	cfg   Config
	clock int64 // steps made

	requests []request
	free     []int32 // requests' indices, the next one last
	ranks    []rank
	base     []int64   // KV use of each rank - its width * clock
	mine     *levels   // the active ranks of the own share
	others   *levels   // those of other routers' shares; nil = the only router
	active   int64     // active ranks, their
	sumBase  int64     // bases
	sumWidth int64     // and widths
	learned  tally     // outputs of what finished
	prompts  tally     // KV use of what was added
	long     int64     // of the long ones
	batch    batchWork // scratch of Batch
	refused  refusal
}

// request is one running request. Its KV use is base + width * clock.
type request struct {
	generation uint32
	rank       int32 // -1 = free
	at         int32 // in its rank's members
	width      int32
	base       int64
	born       int64 // clock when it was added
	start      int64 // KV use when it was added
	output     int64 // expected output
	told       bool  // the output was given, not guessed
	placed     uint64
}

func (q *request) kv(clock int64) int64 { return q.base + int64(q.width)*clock }

type rankState uint8

const (
	serving rankState = iota
	draining
	dead
)

type rank struct {
	state    rankState
	width    int64 // of its requests together
	outputs  int64 // its requests' expected outputs together
	members  []int32
	reported reported
}

// New returns a balancer of an empty unit.
func New(cfg Config) (*Balancer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	b := &Balancer{cfg: cfg}
	b.size(cfg.Ranks)
	return b, nil
}

// size makes the ranks' tables n long and puts the serving ones in their sets.
func (b *Balancer) size(n int) {
	ranks, base := make([]rank, n), make([]int64, n)
	copy(ranks, b.ranks)
	copy(base, b.base)
	b.ranks, b.base, b.cfg.Ranks = ranks, base, n
	b.mine, b.others = newLevels(base), nil
	if b.cfg.Routers > 1 {
		b.others = newLevels(base)
	}
	b.active, b.sumBase, b.sumWidth = 0, 0, 0
	b.room()
	for g := range ranks {
		if ranks[g].state == serving {
			b.enter(g)
		}
	}
}

func (c *Config) check() error {
	for _, n := range []struct {
		field              string
		value, least, most int
	}{
		{"ranks", c.Ranks, 1, MaxRanks},
		{"kv_capacity", c.KVCapacity, 0, math.MaxInt},
		{"max_requests", c.MaxRequests, 0, MaxTokens},
		{"output", c.Output, 0, MaxTokens},
		{"routers", c.Routers, 0, MaxRanks},
		{"router", c.Router, 0, max(c.Routers, 1) - 1},
	} {
		if n.value < n.least || n.value > n.most {
			return errorf(ErrValue, n.field, -1, "%d is not from %d to %d", n.value, n.least, n.most)
		}
	}
	if c.Cost == (Cost{}) {
		c.Cost = DeepSeekV3H800
	}
	if c.Link == 0 {
		c.Link = 7e5
	}
	for _, x := range []struct {
		field string
		value float64
	}{{"cost.kv", c.Cost.KV}, {"cost.request", c.Cost.Request}, {"cost.step", c.Cost.Step}, {"link", c.Link}} {
		if !(x.value >= 0 && x.value <= 1e12) {
			return errorf(ErrValue, x.field, -1, "%v is not from 0 to 1e12", x.value)
		}
	}
	if c.Cost.KV == 0 && c.Cost.Request == 0 {
		return errorf(ErrValue, "cost", -1, "neither KV nor requests cost anything: there is nothing to balance")
	}
	if c.Link == 0 {
		return errorf(ErrValue, "link", -1, "0 tokens a second move nothing")
	}
	return nil
}

// check returns the request with its defaults filled in.
func (b *Balancer) check(r Request, index int) (Request, error) {
	if r.Width == 0 {
		r.Width = 1
	}
	switch {
	case r.KV < 0 || r.KV > MaxTokens:
		return r, errorf(ErrValue, "kv", index, "%d is not from 0 to %d", r.KV, MaxTokens)
	case r.Output < 0 || r.Output > MaxTokens:
		return r, errorf(ErrValue, "output", index, "%d is not from 0 to %d", r.Output, MaxTokens)
	case r.Width < 0 || r.Width > MaxWidth:
		return r, errorf(ErrValue, "width", index, "%d is not from 1 to %d", r.Width, MaxWidth)
	}
	return r, nil
}

// Add places one request now, on the rank where it is expected to cost the unit
// least, and returns its name and its rank. Rank -1 with ID 0: no serving rank
// has room for it to finish. Errors: ErrValue.
func (b *Balancer) Add(r Request) (ID, int, error) {
	r, err := b.check(r, -1)
	if err != nil {
		return 0, -1, err
	}
	g := b.place(b.alone(), r)
	if g < 0 {
		return 0, -1, nil
	}
	return b.put(g, r), g, nil
}

// put writes a request into the ledger.
func (b *Balancer) put(g int, r Request) ID {
	i := b.slot()
	q := &b.requests[i]
	*q = request{
		generation: q.generation + 1, rank: int32(g), width: int32(r.Width), base: int64(r.KV) - int64(r.Width)*b.clock,
		born: b.clock, start: int64(r.KV), output: int64(r.Output), told: r.Output > 0,
	}
	if !q.told {
		q.output = b.expected(0)
	}
	b.prompts.add(int64(r.KV))
	b.long = b.prompts.top(long)
	b.join(i, g)
	return q.id(i)
}

// join puts a request on a rank.
func (b *Balancer) join(i int32, g int) {
	q, k := &b.requests[i], &b.ranks[g]
	k.reported.placed++
	q.placed = k.reported.placed
	q.rank, q.at = int32(g), int32(len(k.members))
	k.members = append(k.members, i)
	k.outputs += q.output
	b.shift(g, q.base, int64(q.width))
}

// part takes a request off its rank; view = the rank still holds it as far as the
// balancer knows.
func (b *Balancer) part(i int32, view bool) {
	b.room()
	q := &b.requests[i]
	k := &b.ranks[q.rank]
	last := len(k.members) - 1
	moved := k.members[last]
	k.members[q.at] = moved
	b.requests[moved].at = q.at
	k.members = k.members[:last]
	k.outputs -= q.output
	if view {
		b.shift(int(q.rank), -q.base, -int64(q.width))
	}
}

func (q *request) id(i int32) ID { return ID(q.generation)<<32 | ID(uint32(i)) }

// slot returns a free place for a request.
func (b *Balancer) slot() int32 {
	if n := len(b.free); n > 0 {
		i := b.free[n-1]
		b.free = b.free[:n-1]
		return i
	}
	b.requests = append(b.requests, request{rank: -1})
	return int32(len(b.requests) - 1)
}

// release takes a request out of the ledger.
func (b *Balancer) release(i int32, view bool) {
	b.part(i, view)
	b.requests[i].rank = -1
	b.free = append(b.free, i)
}

// shift changes a rank's base and width, and its place in its set.
func (b *Balancer) shift(g int, base, width int64) {
	k := &b.ranks[g]
	if k.state == serving {
		b.leave(g)
	}
	b.base[g] += base
	k.width += width
	if k.state == serving {
		b.enter(g)
	}
}

func (b *Balancer) set(g int) *levels {
	if b.others != nil && g%b.cfg.Routers != b.cfg.Router {
		return b.others
	}
	return b.mine
}

func (b *Balancer) enter(g int) {
	w := b.ranks[g].width
	b.set(g).insert(w, int32(g))
	b.active++
	b.sumBase += b.base[g]
	b.sumWidth += w
}

func (b *Balancer) leave(g int) {
	w := b.ranks[g].width
	b.set(g).remove(w, int32(g))
	b.active--
	b.sumBase -= b.base[g]
	b.sumWidth -= w
}

// find returns the index of a running request.
func (b *Balancer) find(id ID) (int32, error) {
	if i := uint64(id) & (1<<32 - 1); i < uint64(len(b.requests)) {
		if q := &b.requests[i]; q.rank >= 0 && q.id(int32(i)) == id {
			return int32(i), nil
		}
	}
	return 0, errorf(ErrUnknown, "id", -1, "%d is not running", uint64(id))
}

// Done releases a request that has finished or was cancelled. Errors: ErrUnknown.
func (b *Balancer) Done(id ID) error {
	i, err := b.find(id)
	if err != nil {
		return err
	}
	q := &b.requests[i]
	b.learned.add(q.kv(b.clock) - q.start)
	b.release(i, b.finished(q))
	return nil
}

// Grow says that one request grew by so many tokens beyond what Step counts; a
// negative number shrinks it. Errors: ErrUnknown, ErrValue.
func (b *Balancer) Grow(id ID, tokens int) error {
	i, err := b.find(id)
	if err != nil {
		return err
	}
	q := &b.requests[i]
	kv := q.kv(b.clock)
	if tokens > MaxTokens || int64(tokens) < -kv || kv+int64(tokens) > MaxTokens {
		return errorf(ErrValue, "tokens", -1, "%d beyond the %d it holds: not from 0 to %d", tokens, kv, MaxTokens)
	}
	q.base += int64(tokens)
	b.room()
	b.shift(int(q.rank), int64(tokens), 0)
	return nil
}

// Step says that the unit made a step: every running request grew by its width.
func (b *Balancer) Step() { b.clock++ }

// Rank returns where a request runs. Errors: ErrUnknown.
func (b *Balancer) Rank(id ID) (int, error) {
	i, err := b.find(id)
	if err != nil {
		return -1, err
	}
	return int(b.requests[i].rank), nil
}

// KV returns the KV use of a request. Errors: ErrUnknown.
func (b *Balancer) KV(id ID) (int, error) {
	i, err := b.find(id)
	if err != nil {
		return 0, err
	}
	return int(b.requests[i].kv(b.clock)), nil
}

// kv is a rank's KV use.
func (b *Balancer) kv(g int) int64 { return b.base[g] + b.ranks[g].width*b.clock }
