package decode

import (
	"math"
	"strings"

	"github.com/moelb/moelb/internal/ledger"
)

const (
	snapshotFamily  = "moelb decode "
	snapshotVersion = "9"
	snapshotMagic   = snapshotFamily + snapshotVersion + "\n"
)

// AppendSnapshot appends the whole state to dst: FromSnapshot makes a balancer of
// it that decides exactly as this one. The same state gives the same bytes.
// O(requests and ranks).
func (b *Balancer) AppendSnapshot(dst []byte) []byte {
	w := ledger.NewWriter(dst, snapshotMagic)
	c := &b.cfg
	w.Int(int64(c.Ranks), int64(c.MaxRequests), c.Output, int64(c.Routers), int64(c.Router))
	w.Float(c.Cost.KV, c.Cost.Request, c.Cost.Step, c.Link)
	w.Int(b.clock, int64(b.turn), int64(len(b.requests)))
	b.model.append(w)
	for g := range b.ranks {
		k := &b.ranks[g]
		r := &k.reported
		w.Int(int64(k.state), k.capacity, b.base[g], k.width, k.heard[0], k.heard[1])
		w.Float(k.speed)
		w.Int(int64(r.placed), int64(r.finished), int64(r.seenPlaced), int64(r.seenFinished))
		w.Uint(r.epoch)
		w.Bool(r.settled)
		w.Int(int64(len(r.gone)))
		for _, q := range r.gone {
			w.Int(q.base, int64(q.width), int64(q.placed), int64(q.finished))
		}
		w.Int(int64(len(k.members)))
		for _, i := range k.members {
			b.writeRequest(w, i)
		}
	}
	for _, i := range b.free {
		w.Int(int64(i))
	}
	w.Int(b.prompts.count[:]...)
	w.Int(b.prompts.sum[:]...)
	b.lives.write(w)
	return w.Sealed()
}

func (b *Balancer) writeRequest(w *ledger.Writer, i int32) {
	q := &b.requests[i]
	w.Int(int64(i))
	w.Uint(uint64(q.id))
	w.Int(int64(q.width), q.base, q.born, q.start, q.since, q.output, int64(q.placed))
	w.Uint(q.model.pack())
	w.Bool(q.waiting)
	w.Bool(q.told)
	w.Bool(q.vague)
	w.Bool(q.prefix >= 0)
	if q.prefix >= 0 {
		w.Uint(b.prefixes.slots[q.prefix].id)
		w.Int(q.shared)
	}
	among, ok := b.among[i]
	w.Bool(ok)
	if ok {
		w.Int(int64(len(among)))
		for _, g := range among {
			w.Int(int64(g))
		}
	}
}

// FromSnapshot returns the balancer whose state AppendSnapshot wrote. A state that
// is a moment old heals by the next Sync or Report of each rank. The time and the
// memory that it takes are in proportion to len(data), whatever data says. Errors:
// ErrSnapshot, with the version of one that this package no longer reads.
func FromSnapshot(data []byte) (*Balancer, error) {
	r, wrong := ledger.NewReader(data, snapshotMagic)
	if wrong != "" {
		if rest, ok := strings.CutPrefix(string(data[:min(len(data), len(snapshotMagic)+8)]), snapshotFamily); ok {
			if version, _, ok := strings.Cut(rest, "\n"); ok && version != snapshotVersion {
				wrong = "it is of version " + version + ", and version " + snapshotVersion + " is read"
			}
		}
		return nil, errorf(ErrSnapshot, "state", -1, "%.80q", wrong)
	}
	b := (&snapshotReader{r}).balancer()
	if b == nil || r.Bad() || r.Left() > 0 {
		return nil, errorf(ErrSnapshot, "state", -1, "its figures contradict each other")
	}
	return b, nil
}

type snapshotReader struct{ *ledger.Reader }

const (
	mostSteps = 1 << 38 // steps a unit makes in its life: at 1 ms each, 8 years
	mostBase  = 1 << 60
)

// balancer reads all; nil = the figures contradict each other.
func (d *snapshotReader) balancer() *Balancer {
	b := &Balancer{among: map[int32][]int{}}
	c := &b.cfg
	c.Ranks, c.MaxRequests, c.Output = int(d.Int(1, MaxRanks)), int(d.Int(0, MaxTokens)), d.Int(0, MaxTokens)
	c.Routers, c.Router = int(d.Int(0, MaxRanks)), int(d.Int(0, MaxRanks))
	c.Cost.KV, c.Cost.Request, c.Cost.Step, c.Link = d.Float(0, 1e12), d.Float(0, 1e12), d.Float(0, 1e12), d.Float(0, 1e12)
	b.clock, b.turn = d.Int(0, mostSteps), int(d.Int(0, int64(c.Ranks)))
	n := d.Length(math.MaxInt32)
	if d.Bad() || c.check() != nil || c.Ranks > d.Left() {
		return nil
	}
	b.model.read(d.Reader, c.Ranks)
	b.requests = make([]request, n)
	for i := range b.requests {
		b.requests[i].rank = -1
	}
	b.ranks, b.base = make([]rank, c.Ranks), make([]int64, c.Ranks)
	running := 0
	for g := range b.ranks {
		running += d.rank(b, g)
		if d.Bad() {
			return nil
		}
	}
	b.free = make([]int32, n-running)
	for j := range b.free {
		i := int32(d.Int(0, int64(n)-1))
		if d.Bad() || b.requests[i].rank != -1 {
			return nil
		}
		b.free[j] = i
		b.requests[i].rank = -2
	}
	for _, i := range b.free {
		b.requests[i].rank = -1
	}
	d.tally(&b.prompts)
	d.lives(&b.lives, b.clock)
	if d.Bad() {
		return nil
	}
	b.long = b.prompts.top(long)
	b.index()
	return b
}

func (d *snapshotReader) tally(s *tally) {
	for i := range s.count {
		s.count[i] = d.Int(0, memory)
		s.all += s.count[i]
	}
	for i := range s.sum {
		s.sum[i] = d.Int(0, memory*MaxTokens)
		n := s.count[i]
		d.Fail(n > 0 && s.sum[i] >= n && tallyBin(s.sum[i]/n) == i || n == 0 && s.sum[i] == 0)
	}
	d.Fail(s.all < memory)
}

// rank reads a rank and what is there, and returns how many requests those are.
func (d *snapshotReader) rank(b *Balancer, g int) int {
	k := &b.ranks[g]
	state := State(d.Int(int64(Serving), int64(Dead)))
	k.state = Dead // in no set
	k.capacity = d.Int(1, unlimited)
	d.Fail(k.capacity <= MaxCapacity || k.capacity == unlimited)
	base, width := d.Int(-mostBase, mostBase), d.Int(0, mostReported*2)
	k.heard = [2]int64{d.Int(-mostBase, mostBase), d.Int(0, mostReported*2)}
	k.speed = d.Float(0, MaxSpeed)
	r := &k.reported
	r.placed = uint64(d.Int(0, math.MaxInt64))
	r.finished, r.seenPlaced = uint64(d.Int(0, math.MaxInt64)), uint64(d.Int(0, int64(r.placed)))
	r.seenFinished = uint64(d.Int(0, int64(r.seenPlaced)))
	r.epoch = d.Uint()
	r.settled = d.Bool()
	for range d.Length(remembered) {
		r.gone = append(r.gone, gone{d.Int(-mostBase, mostBase), int32(d.Int(1, MaxWidth)), uint64(d.Int(0, math.MaxInt64)), uint64(d.Int(0, math.MaxInt64))})
	}
	n := d.Length(len(b.requests))
	for range n {
		if !d.request(b, g) {
			d.Fail(false)
			return 0
		}
	}
	k.state = state
	d.Fail(state != Dead || n == 0)
	if b.cfg.Routers == 0 {
		d.Fail(base == b.base[g] && width == k.width)
	}
	b.base[g], k.width = base, width
	d.Fail(b.kv(g) >= 0)
	return n
}

// request reads a request of rank g and puts it there.
func (d *snapshotReader) request(b *Balancer, g int) bool {
	i := int32(d.Int(0, int64(len(b.requests))-1))
	id := d.Uint()
	if d.Bad() || b.requests[i].rank != -1 || b.ids.Find(id) >= 0 {
		return false
	}
	q := &b.requests[i]
	*q = request{
		id: ID(id), rank: -1, prefix: -1, width: int32(d.Int(1, MaxWidth)), base: d.Int(-mostBase, mostBase), born: d.Int(0, b.clock),
		start: d.Int(-MaxTokens, MaxTokens), since: d.Int(0, MaxTokens), output: d.Int(0, 2*MaxTokens),
	}
	placed := uint64(d.Int(0, int64(b.ranks[g].reported.placed)))
	var ok bool
	q.model, ok = b.model.unpack(d.Uint())
	q.waiting, q.told, q.vague = d.Bool(), d.Bool(), d.Bool()
	d.Fail(ok && (!q.waiting || q.model == modelRanks{}))
	if kv := q.kv(b.clock); d.Bad() || kv < 0 || kv > mostBase {
		return false
	}
	if d.Bool() {
		prefix := d.Uint()
		q.shared = d.Int(0, q.kv(b.clock))
		if d.Bad() {
			return false
		}
		q.prefix = b.prefixes.find(prefix)
	}
	if d.Bool() {
		among := make([]int, d.Length(MaxRanks))
		for j := range among {
			among[j] = int(d.Int(0, MaxRanks-1))
			d.Fail(j == 0 || among[j] > among[j-1])
		}
		b.among[i] = among
	}
	if d.Bad() {
		return false
	}
	b.ids.Add(id, i)
	k := &b.ranks[g]
	before := k.reported.placed
	b.join(i, g)
	k.reported.placed = before
	b.requests[i].placed = placed
	b.model.add(&b.requests[i], b.clock)
	return true
}

func (l *lives) write(w *ledger.Writer) {
	w.Int(l.ends, l.sum, l.longest, l.aged, l.ages, l.news, l.at, l.due, l.bound, l.ended)
	w.Float(l.deviations, l.narrowed)
	w.Bool(l.barred)
	l.waits.write(w)
	w.Int(l.kept[:]...)
	w.Int(l.missed[:]...)
	w.Uint(l.doubted)
	for i := range l.finished {
		if l.entered[i]|l.finished[i]|l.left[i] != 0 {
			w.Int(int64(i), l.entered[i], l.finished[i], l.left[i], l.late[i], l.early[i])
		}
	}
	w.Int(lifeBins)
	for i := 1; i < len(l.curve); i++ {
		if l.curve[i] != l.curve[i-1] {
			w.Int(int64(i))
			w.Float(l.curve[i])
		}
	}
	w.Int(lifeBins + 1)
}

func (d *snapshotReader) lives(l *lives, clock int64) {
	const most = 1 << 40
	l.ends, l.sum, l.longest = d.Int(0, memory), d.Int(0, memory*MaxTokens), d.Int(0, MaxTokens)
	l.aged, l.ages, l.news = d.Int(0, memory), d.Int(0, memory*MaxTokens), d.Int(0, most)
	l.at, l.due, l.bound = d.Int(0, clock), d.Int(0, mostSteps+256), d.Int(0, math.MaxInt64)
	l.ended = d.Int(0, most)
	l.deviations, l.narrowed = d.Float(0, 2*widest), d.Float(0, widest-narrowest)
	l.barred = d.Bool()
	l.waits.read(d.Reader, clock)
	for _, n := range [...]*[hintOctaves]int64{&l.kept, &l.missed} {
		for o := range n {
			n[o] = d.Int(0, memory)
		}
	}
	l.doubted = d.Uint()
	for last := int64(-1); ; {
		i := d.Int(last+1, lifeBins)
		if d.Bad() || i == lifeBins {
			break
		}
		l.entered[i], l.finished[i], l.left[i] = d.Int(0, most), d.Int(0, most), d.Int(0, most)
		width := edge(int(i)+1, 4) - edge(int(i), 4)
		l.late[i], l.early[i] = d.Int(0, l.entered[i]*width), d.Int(0, l.left[i]*width)
		last = i
	}
	for i, share := 0, 1.0; !d.Bad(); i++ {
		for to := int(d.Int(int64(max(i, 1)), int64(len(l.curve)))); i < to; i++ {
			l.curve[i] = share
		}
		if i == len(l.curve) {
			break
		}
		least := faint
		if i == lifeBins {
			least = 0
		}
		share = d.Float(least, share)
		l.curve[i] = share
	}
	d.Fail(l.curve[lifeBins] == 0)
	l.version = 1
	if !d.Bad() {
		l.follow()
	}
}
