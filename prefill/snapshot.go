package prefill

import (
	"fmt"
	"math"
	"strings"

	"github.com/moelb/moelb/internal/ledger"
	"github.com/moelb/moelb/prefill/internal/pack"
)

// A snapshot starts with its kind and the version of its format.
const (
	snapshotKind  = "moelb prefill "
	snapshotMagic = snapshotKind + "5\n"
)

// AppendSnapshot appends the whole state to dst: FromSnapshot makes a balancer of
// it that decides exactly as this one. The same state gives the same bytes. O(ranks
// and requests).
func (b *Balancer) AppendSnapshot(dst []byte) []byte {
	w := ledger.NewWriter(dst, snapshotMagic)
	c := &b.cfg
	w.Int(int64(len(b.ranks)), c.MaxTokens, int64(c.Routers), int64(c.Router), int64(b.turn), b.seq)
	w.Float(c.Cost.Pair, c.Cost.Token, c.Cost.Step, c.Cost.Prefix, c.Patience, b.clock)
	w.Bool(c.KeepKV)
	o := &b.observed
	w.Int(c.Page, int64(b.former.Last.Tokens), int64(b.former.Last.Pairs), int64(o.came))
	w.Float(c.StepSeconds, o.steps, o.seconds, o.work, o.arrivals, o.recent, o.silent, o.clump, o.pause, o.last)
	marks := b.late.marks[b.late.from:]
	w.Int(b.late.youngest, int64(len(marks)))
	for _, m := range marks {
		w.Int(m.seq)
		w.Float(m.at)
	}
	for g := range b.ranks {
		k := &b.ranks[g]
		w.Int(int64(k.state), k.maxKV, k.others.Tokens, k.others.Pairs, int64(k.version), int64(k.reported))
		w.Float(k.speed, k.owed)
		w.Bool(k.heard)
		w.Uint(k.epoch)
		w.Int(int64(len(k.past)))
		for _, x := range k.past {
			w.Int(x.Tokens, x.Pairs)
		}
	}
	slots := b.all(nil)
	place := make([]int32, len(b.requests))
	for i, s := range slots {
		place[s] = int32(i)
	}
	w.Int(int64(len(slots)))
	for _, s := range slots {
		q := &b.requests[s]
		leader := int64(-1)
		if q.leader >= 0 {
			leader = int64(place[q.leader])
		}
		w.Uint(uint64(q.id))
		w.Int(int64(q.state), int64(q.rank), q.tokens, q.pos, q.cached, q.seq, leader, q.shared, q.priority, q.from)
		w.Float(q.came, q.until)
		w.Bool(q.class == heldBack)
		if q.class == heldBack {
			w.Float(q.key)
		}
		w.Bool(q.where.Local)
		if q.where.Local {
			w.Int(int64(len(q.where.CachedAt)))
			w.Int(q.where.CachedAt...)
		}
		w.Bool(q.where.Pinned)
		if q.where.Pinned {
			w.Int(int64(len(q.where.Among)))
			for _, g := range q.where.Among {
				w.Int(int64(g))
			}
		}
	}
	n := int64(0)
	for _, c := range b.credits {
		if b.pending(c) {
			n++
		}
	}
	w.Int(n)
	for _, c := range b.credits {
		if !b.pending(c) {
			continue
		}
		w.Int(int64(place[c.slot]), int64(c.rank), c.old)
	}
	return w.Sealed()
}

// FromSnapshot returns the balancer whose state AppendSnapshot wrote. A snapshot
// may be older than what the ranks know by now: Report and Sync say what has
// changed. Errors: ErrSnapshot, which names the version of a format that is not read. What
// it allocates is in proportion to the bytes there are.
func FromSnapshot(data []byte) (*Balancer, error) {
	r, wrong := ledger.NewReader(data, snapshotMagic)
	if wrong != "" {
		if rest, ok := strings.CutPrefix(string(data[:min(len(data), 40)]), snapshotKind); ok && !strings.HasPrefix(string(data), snapshotMagic) {
			if version, _, ok := strings.Cut(rest, "\n"); ok {
				wrong = fmt.Sprintf("version %.20q of the format is not read, 5 is", version)
			}
		}
		return nil, bad(ErrSnapshot, "state", -1, "%s", wrong)
	}
	b := read(r)
	if r.Bad() || r.Left() > 0 {
		return nil, bad(ErrSnapshot, "state", -1, "its figures contradict each other")
	}
	return b, nil
}

const (
	mostWork  = math.MaxInt64 / 4
	mostTime  = 1e15
	rankBytes = 17 // of a rank in a snapshot, at least
)

func read(r *ledger.Reader) *Balancer {
	var c Config
	c.Ranks = int(r.Int(1, MaxRanks))
	c.MaxTokens = r.Int(0, MaxPrompt)
	c.Routers, c.Router = int(r.Int(1, math.MaxInt32)), int(r.Int(0, math.MaxInt32))
	turn, seq := int(r.Int(0, int64(c.Ranks)-1)), r.Int(0, mostWork)
	c.Cost = Cost{r.Float(0, 1), r.Float(0, 1), r.Float(0, 1e6), r.Float(0, 1)}
	c.Patience = r.Float(0, 1e12)
	clock := r.Float(0, mostTime)
	c.KeepKV = r.Bool()
	c.Page = r.Int(0, MaxPrompt)
	last := pack.Trial{Tokens: int8(r.Int(0, pack.TokenCaps-1)), Pairs: int8(r.Int(0, pack.PairCaps-1))}
	seen := observed{came: int(r.Int(0, math.MaxInt32))}
	c.StepSeconds = r.Float(0, 1e12)
	for _, x := range [...]*float64{&seen.steps, &seen.seconds, &seen.work, &seen.arrivals, &seen.recent, &seen.silent, &seen.clump, &seen.pause, &seen.last} {
		*x = r.Float(0, mostTime)
	}
	late := lateness{youngest: r.Int(-1, seq-1)}
	for range r.Length(math.MaxInt32) {
		m := mark{r.Int(late.youngest+1, seq-1), r.Float(0, math.MaxFloat64)}
		if n := len(late.marks); n > 0 {
			r.Fail(m.seq > late.marks[n-1].seq && m.at > late.marks[n-1].at)
		}
		if r.Bad() {
			return nil
		}
		late.marks = append(late.marks, m)
	}
	r.Fail(c.Ranks <= r.Left()/rankBytes && c.Cost != (Cost{}))
	if r.Bad() {
		return nil
	}
	if c.Patience == 0 {
		c.Patience = -1
	}
	b, err := New(c)
	if err != nil {
		r.Fail(false)
		return nil
	}
	for g := range b.ranks {
		readRank(r, &b.ranks[g])
	}
	b.turn, b.seq, b.clock, b.former.Last, b.observed, b.late = turn, seq, clock, last, seen, late
	b.serving()
	readRequests(r, b)
	if r.Bad() {
		return nil
	}
	for g := range b.ranks {
		b.look(g)
	}
	return b
}

func readRank(r *ledger.Reader, k *rank) {
	k.state = State(r.Int(int64(Serving), int64(Dead)))
	k.maxKV = r.Int(0, math.MaxInt64)
	k.others = Work{r.Int(-mostWork, mostWork), r.Int(-mostWork, mostWork)}
	k.version, k.reported = uint64(r.Int(0, 2*mostWork)), uint64(r.Int(0, mostWork))
	k.speed, k.owed = r.Float(0, MaxSpeed), r.Float(0, math.MaxFloat64)
	k.heard, k.epoch, k.restored = r.Bool(), r.Uint(), true
	r.Fail((k.speed == 0 || k.speed >= 1/MaxSpeed) && k.reported <= k.version)
	n := r.Length(pastLedgers)
	r.Fail(n&(n-1) == 0)
	if n > 0 {
		k.past = make([]Work, n)
	}
	for i := range k.past {
		k.past[i] = Work{r.Int(0, mostWork), r.Int(0, mostWork)}
	}
}

func readRequests(r *ledger.Reader, b *Balancer) {
	n := r.Length(math.MaxInt32)
	leaders := make([]int32, 0, n/8)
	for s := int32(0); s < int32(n) && !r.Bad(); s++ {
		b.requests = append(b.requests, request{})
		leaders = append(leaders, readRequest(r, b, s, n))
	}
	if r.Bad() {
		return
	}
	for s, l := range leaders {
		if l < 0 || r.Bad() {
			continue
		}
		q, lead := &b.requests[s], b.requests[l].state
		r.Fail(q.state == queued && l != int32(s) && (lead == added || lead == queued || lead == started))
		if !r.Bad() {
			b.link(int32(s), l)
		}
	}
	r.Fail(acyclic(leaders))
	for range r.Length(math.MaxInt32) {
		c := credited{slot: int32(r.Int(0, int64(n)-1)), rank: int32(r.Int(0, int64(len(b.ranks))-1)), old: r.Int(0, MaxPrompt)}
		if r.Bad() {
			return
		}
		q := &b.requests[c.slot]
		c.seq = q.seq
		r.Fail(q.state == queued && !q.where.Local && c.old <= q.tokens)
		b.credits = append(b.credits, c)
	}
}

// acyclic reports whether nobody waits for itself.
func acyclic(leaders []int32) bool {
	done := make([]int32, len(leaders)) // 0 = not seen, else seen from done-1 on
	for s := range leaders {
		for x := int32(s); x >= 0 && done[x] == 0; x = leaders[x] {
			done[x] = int32(s) + 1
			if l := leaders[x]; l >= 0 && done[l] == int32(s)+1 {
				return false
			}
		}
	}
	return true
}

// readRequest reads the request of slot s and enters it where it is; it returns its
// leader's slot.
func readRequest(r *ledger.Reader, b *Balancer, s int32, n int) int32 {
	q := &b.requests[s]
	*q = request{rank: -1, leader: -1, follower: -1, next: -1, prev: -1, class: notWaiting, item: -1}
	q.id = ID(r.Uint())
	state := uint8(r.Int(int64(added), int64(ended)))
	g := int(r.Int(-1, int64(len(b.ranks))-1))
	q.tokens = r.Int(1, MaxPrompt)
	pos := r.Int(0, q.tokens)
	q.cached = r.Int(0, q.tokens)
	q.seq = r.Int(0, b.seq-1)
	leader := int32(r.Int(-1, int64(n)-1))
	q.shared = r.Int(0, q.tokens)
	q.priority, q.from = r.Int(math.MinInt64, math.MaxInt64), r.Int(0, q.tokens)
	q.came, q.until = r.Float(0, b.clock), r.Float(unknownUntil, math.MaxFloat64)
	until := -1.
	if r.Bool() {
		until = r.Float(0, math.MaxFloat64)
		r.Fail(state == queued)
	}
	if q.where.Local = r.Bool(); q.where.Local {
		q.where.CachedAt = make([]int64, 0, r.Length(len(b.ranks)))
		for len(q.where.CachedAt) < cap(q.where.CachedAt) && !r.Bad() {
			q.where.CachedAt = append(q.where.CachedAt, r.Int(0, q.tokens))
		}
	}
	if q.where.Pinned = r.Bool(); q.where.Pinned {
		for range r.Length(len(b.ranks)) {
			g := int32(r.Int(0, int64(len(b.ranks))-1))
			r.Fail(len(q.where.Among) == 0 || g > q.where.Among[len(q.where.Among)-1])
			q.where.Among = append(q.where.Among, g)
		}
	}
	known := b.ids.Find(uint64(q.id)) >= 0
	r.Fail((g < 0) == (state == queued) && (state == ended || !known) && b.countable(&Request{Tokens: q.tokens}) == nil)
	if r.Bad() {
		return -1
	}
	b.bound = b.bound.plus(WorkOf(q.tokens, 0))
	if state != ended {
		b.ids.Add(uint64(q.id), s)
	}
	q.pos = pos
	b.total = b.total.plus(q.work())
	switch state {
	case queued:
		q.state, q.place = queued, int32(len(b.queue))
		r.Fail(s == 0 || len(b.queue) == int(s) && b.requests[s-1].seq < q.seq)
		b.queue = append(b.queue, s)
		b.recache(q)
		b.wait(s)
		if until >= 0 {
			b.holdUntil(s, until)
		}
	case ended:
		r.Fail(pos == q.tokens)
		q.state, q.rank = ended, int32(g)
		b.ended = append(b.ended, s)
	default:
		r.Fail(b.ranks[g].state != Dead)
		b.settleOn(s, g, pos, state)
	}
	return leader
}
