package decode

import "github.com/moelb/moelb/decode/internal/levels"

// request is one request of the ledger.
type request struct {
	id      ID
	rank    int32 // -1 = free
	at      int32 // in its rank's members
	width   int32
	prefix  int32 // its slot; -1 = it shares nothing
	waiting bool
	told    bool  // the output was given, not guessed
	vague   bool  // what it had generated when it was entered is not known
	base    int64 // KV use - width * clock; of a waiting one, KV use
	born    int64 // clock when it was added
	start   int64 // KV use when it had generated nothing
	since   int64 // tokens it had generated when it was added
	output  int64 // tokens it was told to generate in its whole life
	shared  int64 // of its KV use, what it shares with others of its prefix
	placed  uint64
	model   modelRanks
}

func (q *request) kv(clock int64) int64 {
	if q.waiting {
		return q.base
	}
	return q.base + int64(q.width)*clock
}

// generated is how many tokens it has generated in its life.
func (q *request) generated(clock int64) int64 { return max(q.kv(clock)-q.start, 0) }

type rank struct {
	state    State
	capacity int64   // tokens; unlimited = no limit
	speed    float64 // 0 = it takes nothing new
	width    int64   // of its requests together
	waiting  int64   // of those of them that wait
	outputs  int64   // outputs told of its requests, together
	guesses  int64   // requests of which nothing was told
	forecast *forecast
	members  []int32
	reported reported
	heard    [2]int64 // base and width, by its latest report
	own      int64    // width of what this router has there
}

// open reports whether the rank may be given requests.
func (k *rank) open() bool { return k.state == Serving && k.speed > 0 }

// find returns the slot of a request.
func (b *Balancer) find(id ID) (int32, error) {
	if i := b.ids.Find(uint64(id)); i >= 0 {
		return i, nil
	}
	return 0, errorf(ErrUnknown, "id", -1, "%d is unknown", uint64(id))
}

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

// join puts a request on a rank.
func (b *Balancer) join(i int32, g int) {
	q, k := &b.requests[i], &b.ranks[g]
	k.reported.placed++
	q.placed = k.reported.placed
	q.rank, q.at = int32(g), int32(len(k.members))
	k.members = append(k.members, i)
	bound := k.bound()
	k.count(q, 1)
	if q.waiting {
		k.waiting += int64(q.width)
		b.waiting++
	}
	b.claim(g, int64(q.width))
	more := q.kv(b.clock) - q.shared + b.hold(q, g)
	b.shift(g, more-int64(q.width)*b.clock, int64(q.width))
	if bound < unlimited {
		r := Request{Output: q.output - q.since, Generated: q.generated(b.clock), Width: int(q.width), Shared: q.shared, Waiting: q.waiting}
		k.forecast.bound = bound + b.most(&r, more)
	}
}

// part takes a request off its rank; view = the rank still holds it as far as the
// balancer knows.
func (b *Balancer) part(i int32, view bool) {
	b.room()
	q := &b.requests[i]
	g := int(q.rank)
	k := &b.ranks[g]
	last := len(k.members) - 1
	moved := k.members[last]
	k.members[q.at] = moved
	b.requests[moved].at = q.at
	k.members = k.members[:last]
	bound := k.bound()
	k.count(q, -1)
	if q.waiting {
		k.waiting -= int64(q.width)
		b.waiting--
	}
	b.claim(g, -int64(q.width))
	less := q.kv(b.clock) - q.shared + b.drop(q)
	if !view {
		return
	}
	width := int64(q.width)
	if b.cfg.Routers > 0 { // a report may have held less than the ledger
		width, less = min(width, k.width), min(less, b.kv(g))
	}
	if b.shift(g, width*b.clock-less, -width); b.cfg.Routers == 0 && bound < unlimited {
		k.forecast.bound = bound
	}
}

// count counts a request in or out of what the rank expects.
func (k *rank) count(q *request, sign int64) {
	if q.told {
		k.outputs += sign * q.output
	} else {
		k.guesses += sign
	}
	k.changed()
}

// changed says that the rank's forecast is out of date.
func (k *rank) changed() {
	if k.forecast != nil {
		k.forecast.version, k.forecast.bound = 0, unlimited
	}
}

// bound is what no peak of the rank's forecast is beyond; unlimited = it is not known.
func (k *rank) bound() float64 {
	if k.forecast == nil {
		return unlimited
	}
	return k.forecast.bound
}

// release takes a request out of the ledger.
func (b *Balancer) release(i int32) {
	q := &b.requests[i]
	b.part(i, b.finished(q))
	b.forget(i)
}

// forget frees the slot of a request that is on no rank.
func (b *Balancer) forget(i int32) {
	q := &b.requests[i]
	b.model.drop(q, b.clock)
	q.rank = -1
	b.prefixes.release(q.prefix)
	b.ids.Remove(uint64(q.id))
	b.idle()
	delete(b.among, i)
	b.free = append(b.free, i)
}

// idle lets the curve of lives stand for now where nothing runs whose age it knew.
func (b *Balancer) idle() {
	if b.ids.Len() == 0 && b.cfg.Routers == 0 {
		b.lives.at = b.clock
	}
}

// move brings a request to another rank.
func (b *Balancer) move(i int32, to int) {
	b.part(i, b.finished(&b.requests[i]))
	b.join(i, to)
}

// shift changes a rank's base and width, and its place in its set.
func (b *Balancer) shift(g int, base, width int64) {
	k := &b.ranks[g]
	if k.open() {
		b.leave(g)
	}
	b.base[g] += base
	k.width += width
	k.changed()
	if k.open() {
		b.enter(g)
	}
}

// own reports whether a rank is of the router's own share.
func (b *Balancer) own(g int) bool {
	return b.others == nil || g%b.cfg.Routers == b.cfg.Router
}

func (b *Balancer) set(g int) *levels.Levels {
	if b.own(g) {
		return b.mine
	}
	return b.others
}

func (b *Balancer) enter(g int) {
	b.set(g).Insert(b.ranks[g].width, int32(g))
	b.sum(g, 1)
}

func (b *Balancer) leave(g int) {
	b.set(g).Remove(b.ranks[g].width, int32(g))
	b.sum(g, -1)
}

// sum counts a rank in or out.
func (b *Balancer) sum(g int, sign int64) {
	k := &b.ranks[g]
	b.active += sign
	b.sumBase, b.sumWidth, b.sumOwn = b.sumBase+sign*b.base[g], b.sumWidth+sign*k.width, b.sumOwn+sign*k.own
	if b.shares != nil {
		b.shares.Count(g, sign, b.base[g], k.width, k.heard[0], k.heard[1])
	}
}

// claim counts width of this router's that joins a rank or leaves it.
func (b *Balancer) claim(g int, width int64) {
	k := &b.ranks[g]
	k.own += width
	if k.open() {
		b.sumOwn += width
	}
}

// hear takes in what a rank holds by its own report.
func (b *Balancer) hear(g int, base, width int64) {
	k := &b.ranks[g]
	if k.open() {
		b.sum(g, -1)
		defer b.sum(g, 1)
	}
	k.heard = [2]int64{base, width}
}

// kv is a rank's KV use.
func (b *Balancer) kv(g int) int64 { return b.base[g] + b.ranks[g].width*b.clock }
