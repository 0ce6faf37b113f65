package prefill

import (
	"cmp"
	"math"
	"slices"
)

// The queue in order of urgency. Requests of a priority, and of a set of ranks that alone
// may take them, are put into classes by what is left of their own work, four an octave,
// and each class is first come, first served. The most urgent of all is then the head of
// some class, and finding it costs as many comparisons as there are classes, however many
// requests wait.
const (
	perOctave    = 4
	leastOctave  = -24 // of seconds; shorter ones share the first class
	octaves      = 64
	classCount   = octaves * perOctave
	notWaiting   = -1
	heldBack     = -2 // waits for the prefix of another: in sharers
	unable       = -3 // no rank in service may take it
	unknownUntil = -1 // its turn has not come yet
)

// level is the queue of one priority and home. Those that only some ranks may take wait
// apart, so that none that can run now is behind more of them than could run.
type level struct {
	priority int64
	home     int32
	n        int
	classes  [classCount][]entry // heaps by seq
}

// homes of larger sets of ranks than one: some share one, which costs them only that.
const largerHomes = 64

// homeOf is where a request waits: -1 = with all that any rank may take.
func homeOf(q *request) int32 {
	among := q.where.Among
	switch {
	case !q.where.Pinned:
		return -1
	case len(among) == 1:
		return among[0]
	}
	h := uint32(len(among))
	for _, g := range among {
		h = 31*h + uint32(g)
	}
	return int32(MaxRanks + h%largerHomes)
}

// levelOf finds the level of a priority and home, or where it belongs.
func (b *Balancer) levelOf(priority int64, home int32) (int, bool) {
	return slices.BinarySearchFunc(b.levels, head{}, func(l *level, _ head) int {
		if l.priority != priority {
			return cmp.Compare(priority, l.priority)
		}
		return cmp.Compare(l.home, home)
	})
}

// priorities reports whether the queue has more than one.
func (b *Balancer) priorities() bool {
	n := len(b.levels)
	return n > 0 && b.levels[0].priority != b.levels[n-1].priority
}

// classOf is the class of so many seconds of work.
func classOf(seconds float64) int16 {
	if !(seconds > 0) {
		return 0
	}
	mantissa, exponent := math.Frexp(seconds)
	c := (exponent-leastOctave)*perOctave + int(math.Floor((mantissa-.5)*2*perOctave))
	return int16(min(max(c, 0), classCount-1))
}

// leastOf is the seconds from which on a class is another's than those below.
func leastOf(c int16) float64 {
	return math.Ldexp(.5+float64(c%perOctave)/(2*perOctave), int(c)/perOctave+leastOctave)
}

// wait puts a request of the queue where Step looks for it.
func (b *Balancer) wait(s int32) {
	q := &b.requests[s]
	if q.where.Pinned && !slices.ContainsFunc(q.where.Among, func(g int32) bool { return b.ranks[g].open }) {
		q.class = unable
		return
	}
	q.home = homeOf(q)
	i, there := b.levelOf(q.priority, q.home)
	if !there {
		if len(b.spare) == 0 {
			b.spare = append(b.spare, new(level))
		}
		last := len(b.spare) - 1
		b.levels = slices.Insert(b.levels, i, b.spare[last])
		b.spare = b.spare[:last]
		b.levels[i].priority, b.levels[i].home = q.priority, q.home
	}
	l := b.levels[i]
	l.n++
	q.class = classOf(b.cost.of(b.ownWork(q)))
	q.key = float64(q.seq)
	b.push(&l.classes[q.class], s)
}

// unwait takes it out again.
func (b *Balancer) unwait(s int32) {
	q := &b.requests[s]
	switch q.class {
	case notWaiting, unable:
	case heldBack:
		b.pull(&b.sharers, q.spot)
	default:
		i, _ := b.levelOf(q.priority, q.home)
		l := b.levels[i]
		b.pull(&l.classes[q.class], q.spot)
		if l.n--; l.n == 0 {
			b.spare = append(b.spare, l)
			b.levels = slices.Delete(b.levels, i, i+1)
		}
	}
	q.class = notWaiting
}

// rewait puts a request whose work has changed into the class that is now right,
// and lets one go on that is held back.
func (b *Balancer) rewait(s int32) {
	if b.requests[s].class != notWaiting {
		b.unwait(s)
		b.wait(s)
	}
}

// reorder follows a change of a request's work.
func (b *Balancer) reorder(q *request) {
	if q.class != notWaiting {
		b.rewait(b.ids.Find(uint64(q.id)))
	}
}

// hold takes a request whose turn has come out of the order until its leader's
// prefix is cached, but for no longer than computing the prefix itself would take,
// and a step or two: on a rank of its own while the leader has not started, and after
// that with a share of one. Where so many wait that each would wait longer for the
// prefix's being computed again than the one here for its leader, it waits as long as all of
// them would together: all that wait when its turn comes, and not those that keep coming
// behind a leader that does not start. A prefix on one rank only is not worth that.
func (b *Balancer) hold(s int32) bool {
	q := &b.requests[s]
	if q.leader < 0 || q.shared <= q.pos {
		return false
	}
	saved := Work{q.shared - q.pos, b.pairsOf(q.left(), q.pos) - b.pairsOf(q.tokens-q.shared, q.shared)}
	worth := b.cost.of(saved)
	if !q.where.Local {
		// all who wait would wait for its work to be done
		worth *= max(1, float64(b.Queued())/max(b.power, 1/MaxSpeed))
	}
	if q.until == unknownUntil {
		q.until = b.clock + worth + 2*b.former.Base // it is seen at steps' ends
	}
	until := q.until
	// a leader that has started goes on, with a share of its rank at least; one that is
	// held back itself waits for such a one
	if l := &b.requests[q.leader]; l.state == started || l.class == heldBack {
		until += worth * (1/b.former.Share() - 1)
	}
	if until <= b.clock {
		return false
	}
	b.holdUntil(s, until)
	return true
}

func (b *Balancer) holdUntil(s int32, until float64) {
	b.unwait(s)
	q := &b.requests[s]
	q.class, q.key = heldBack, until
	b.push(&b.sharers, s)
}

// letGo lets those go on that have been held back for as long as it is worth.
func (b *Balancer) letGo() {
	for len(b.sharers) > 0 && b.sharers[0].key <= b.clock {
		b.rewait(b.sharers[0].slot)
	}
}

// ownWork is what is left of a request, with what its prefix costs.
func (b *Balancer) ownWork(q *request) Work { return Work{q.left(), b.pairsOf(q.left(), q.pos)} }

// entry is a request in a heap, with its order there.
type entry struct {
	key  float64
	slot int32
}

func (b *Balancer) push(h *[]entry, s int32) {
	*h = append(*h, entry{b.requests[s].key, s})
	b.rise(*h, len(*h)-1)
}

// pull removes the i-th of a heap.
func (b *Balancer) pull(h *[]entry, i int32) {
	last := len(*h) - 1
	moved := (*h)[last]
	*h = (*h)[:last]
	if int(i) == last {
		return
	}
	(*h)[i] = moved
	if b.rise(*h, int(i)) == int(i) {
		b.sink(*h, int(i))
	}
}

func (b *Balancer) before(x, y entry) bool {
	return x.key < y.key || x.key == y.key && b.requests[x.slot].seq < b.requests[y.slot].seq
}

func (b *Balancer) rise(h []entry, i int) int {
	x := h[i]
	for i > 0 {
		up := (i - 1) / 2
		if !b.before(x, h[up]) {
			break
		}
		b.set(h, i, h[up])
		i = up
	}
	b.set(h, i, x)
	return i
}

func (b *Balancer) sink(h []entry, i int) {
	x := h[i]
	for c := 2*i + 1; c < len(h); c = 2*i + 1 {
		if c+1 < len(h) && b.before(h[c+1], h[c]) {
			c++
		}
		if !b.before(h[c], x) {
			break
		}
		b.set(h, i, h[c])
		i = c
	}
	b.set(h, i, x)
}

func (b *Balancer) set(h []entry, i int, x entry) {
	h[i] = x
	b.requests[x.slot].spot = int32(i)
}
