package decode

import (
	"math"
	"math/bits"

	"github.com/moelb/moelb/internal/ledger"
)

// modelled is how many ranks a model has at most: so few that it costs little, and
// enough for their maxima to tell rules apart as the unit's do.
const modelled = 48

// model is the unit in small, once for every rule: a share of the requests, in
// proportion to its ranks, is placed by each rule on ledgers of its own, and leaves
// them when it leaves the unit, since when it ends hardly depends on where it runs.
// What a step would have taken under each rule, averaged over a life, says
// which rule to follow. Ranks of the model that are full by what the unit's own
// admitted are passed over, but a rule is never refused: it would be judged by that.
// A model knows nothing of ranks that are drained, dead or unlike the others.
// O(ranks of the model × rules) a request that is in it, and a step.
type model struct {
	ranks  int // 0 = there is nothing to choose
	chosen int // the rule that is followed
	drawn  uint64
	turn   int     // the rank that comes first among equals
	steps  int64   // that it was averaged over
	came   int64   // requests since the latest step
	usual  float64 // in a step
	n      int64   // requests in it
	kv     int64   // their KV use
	width  int64   // and width
	of     [rules]modelLedger
}

// modelLedger is what the ranks hold under one rule.
type modelLedger struct {
	kv, width    [modelled]int64
	most, widest int64   // of a rank
	stale        bool    // they may be less
	cost         float64 // of a step, on average over a life
	lately       float64 // and over the latest part of one
	error        float64 // mean square of how far parts differ from a life, beside the rule that is followed
}

// parts is into how many a life is divided, to see by how much averages over them
// differ.
const parts = 8

// modelRanks are a request's ranks in the model under each rule, from 1; 0 = it is
// not in it.
type modelRanks [rules]uint8

// lately is over how many steps it is averaged how many requests come in one.
const lately = 16

// resize makes the model one of a unit of so many ranks. What rules have cost is still
// known, but the requests in it are not: the caller puts them in again.
func (m *model) resize(ranks int) {
	if ranks < 2 {
		ranks = 0
	}
	m.ranks, m.turn, m.n, m.kv, m.width = min(ranks, modelled), 0, 0, 0, 0
	for e := range m.of {
		o := &m.of[e]
		*o = modelLedger{cost: o.cost, lately: o.lately, error: o.error}
	}
}

// draws says whether the next request is to be in the model, as one of left, where
// with it so many run on so many ranks. It is drawn from what comes in a step, not
// the first that would fill the model's share: requests may come in order of length.
// left = 0: as many as usual come, see usual.
func (m *model) draws(running, ranks int64, left float64) bool {
	if m.ranks == 0 || ranks == 0 {
		return false
	}
	m.came++
	if int64(m.ranks) >= ranks {
		return true
	}
	if left == 0 {
		left = max(m.usual-float64(m.came-1), 1)
	}
	m.drawn++
	x := m.drawn * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x ^= x >> 27
	short := float64((float64(running)+left-1)*float64(m.ranks))/float64(ranks) - float64(m.n)
	return float64(short*(1<<32)) > left*float64(x>>32)
}

// place puts a request into the model, by each of the rules; before the first step by
// the one that fills the unit, so that all begin alike. width is what the unit would
// run on so many ranks when all are placed that come together.
func (m *model) place(q *request, fill *rule, c *Cost, clock, width, long int64, limit float64) {
	kv, own := q.kv(clock), int64(q.width)
	x := load{ranks: int64(m.ranks), kv: m.kv + kv, width: m.width + own, long: long, limit: limit}
	x.batch = max(0, width-x.width)
	x.spread()
	for e := range m.of {
		o, r := &m.of[e], &each[e]
		if m.steps == 0 {
			r = fill
		}
		o.look(m.ranks)
		x.most, x.widest = o.most, o.widest
		l := levelOf(r, c, &x)
		q.model[e] = uint8(o.best(m.ranks, m.turn, &l, kv, own) + 1)
	}
	m.turn = int(q.model[whenAlike]) % m.ranks
	m.add(q, clock)
}

// best returns the rank for a request: of those with room for it where it costs
// least, and of those that cost the same the one of most KV use; where none has room,
// the emptiest.
func (o *modelLedger) best(ranks, turn int, l *level, kv, width int64) int {
	widths, kvs := o.width[:ranks], o.kv[:ranks]
	kvs = kvs[:len(widths)]
	best, most, fits := -1, int64(-1), int64(l.limit)-kv
	slots, room := l.even-width, min(l.room(kv), fits)
	if l.count == 0 {
		slots = unlimited
	}
	switch {
	case l.turns && l.count > 0:
		fewest := int64(unlimited)
		for i := range widths {
			g := (turn + i) % len(widths)
			if n := widths[g]; n < fewest && kvs[g] <= room {
				best, fewest = g, n
			}
		}
	case l.fewest && l.count > 0:
		fewest := slots + 1
		for g, n := range widths {
			if at := kvs[g]; at <= room && (n < fewest || n == fewest && at > most) {
				best, most, fewest = g, at, n
			}
		}
	case l.low:
		least := room + 1
		for g, n := range widths {
			if at := kvs[g]; n <= slots && at < least {
				best, least = g, at
			}
		}
	case !l.turns:
		for g, n := range widths {
			if at := kvs[g]; n <= slots && at <= room && at > most {
				best, most = g, at
			}
		}
	}
	if best >= 0 {
		return best
	}
	c, emptiest := choice{rank: Full}, 0
	if l.turns {
		c.turn = turn
	}
	for g, n := range widths {
		if at := kvs[g]; at <= fits {
			cost := l.overCount(n+width) + l.overKV(at+kv)
			if l.turns {
				at = 0 // as much as any
			}
			c.offer(g, cost, at)
		} else if at < kvs[emptiest] {
			emptiest = g
		}
	}
	if c.rank < 0 {
		return emptiest
	}
	return c.rank
}

// look brings the largest figures up to date.
func (o *modelLedger) look(ranks int) {
	if !o.stale {
		return
	}
	o.most, o.widest, o.stale = 0, 0, false
	for g, n := range o.width[:ranks] {
		o.most, o.widest = max(o.most, o.kv[g]), max(o.widest, n)
	}
}

// add books a request on its ranks in the model, if it is in it.
func (m *model) add(q *request, clock int64) {
	if q.model[0] == 0 {
		return
	}
	kv, width := q.kv(clock), int64(q.width)
	m.n++
	m.kv += kv
	m.width += width
	for e, r := range q.model {
		o := &m.of[e]
		o.kv[r-1] += kv
		o.width[r-1] += width
		o.most, o.widest = max(o.most, o.kv[r-1]), max(o.widest, o.width[r-1])
	}
}

// drop takes it off them.
func (m *model) drop(q *request, clock int64) {
	if q.model[0] == 0 {
		return
	}
	kv, width := q.kv(clock), int64(q.width)
	m.n--
	m.kv -= kv
	m.width -= width
	for e, r := range q.model {
		o := &m.of[e]
		o.stale = o.stale || o.kv[r-1] == o.most || o.width[r-1] == o.widest
		o.kv[r-1] -= kv
		o.width[r-1] -= width
	}
}

// begin says which rule to follow before anything is known of what they cost.
func (m *model) begin(alike bool) {
	m.chosen = toBegin
	if alike {
		m.chosen = whenAlike
	}
}

// step makes a step, and averages over the latest span of them, a mean life. Another rule
// is followed once it has been cheaper by more than the standard error of that. How much
// parts of a life differ shows it: steps that follow each other cost about the same. The
// less of a life has passed, the larger it is; fewer than two parts tell nothing.
func (m *model) step(c *Cost, span int64) {
	m.usual += (float64(m.came) - m.usual) / lately
	m.came = 0
	if m.n == 0 {
		return
	}
	m.kv += m.width
	span = max(span, 1)
	m.steps = min(m.steps+1, span)
	for e := range m.of {
		o := &m.of[e]
		o.most, o.widest, o.stale = 0, 0, false
		for g, n := range o.width[:m.ranks] {
			o.kv[g] += n
			o.most, o.widest = max(o.most, o.kv[g]), max(o.widest, n)
		}
		x := c.Step + float64(c.KV*float64(o.most)) + float64(c.Request*float64(o.widest))
		o.cost += (x - o.cost) / float64(m.steps)
		o.lately += (x - o.lately) / float64(max(min(m.steps, span/parts), 1))
	}
	seen := float64(parts*m.steps) / float64(span)
	now, best, most := &m.of[m.chosen], m.chosen, 0.0
	for e := range m.of {
		o := &m.of[e]
		off := o.lately - o.cost - (now.lately - now.cost)
		o.error += (float64(off*off) - o.error) / float64(m.steps)
		if gain := now.cost - o.cost - math.Sqrt(o.error/seen); seen >= 2 && gain > most {
			best, most = e, gain
		}
	}
	m.chosen = best
}

// append writes what does not follow from the requests.
func (m *model) append(w *ledger.Writer) {
	w.Int(int64(m.chosen))
	w.Uint(m.drawn)
	w.Int(int64(m.turn), m.steps, m.came)
	w.Float(m.usual)
	for e := range m.of {
		w.Float(m.of[e].cost, m.of[e].lately, m.of[e].error)
	}
}

// read is its inverse, for a model that holds nothing.
func (m *model) read(r *ledger.Reader, ranks int) {
	m.resize(ranks)
	m.chosen = int(r.Int(0, rules-1))
	m.drawn, m.turn, m.steps, m.came = r.Uint(), int(r.Int(0, max(int64(m.ranks)-1, 0))), r.Int(0, 1<<40), r.Int(0, 1<<40)
	m.usual = r.Float(0, 1<<40)
	for e := range m.of {
		o := &m.of[e]
		o.cost, o.lately, o.error = r.Float(0, 1e30), r.Float(0, 1e30), r.Float(0, 1e60)
	}
}

// pack writes a request's ranks as one number.
func (k modelRanks) pack() (x uint64) {
	for e, r := range k {
		x |= uint64(r) << (8 * e)
	}
	return x
}

// unpack is its inverse; ok = the ranks exist.
func (m *model) unpack(x uint64) (k modelRanks, ok bool) {
	for e := range k {
		k[e] = uint8(x >> (8 * e))
		if int(k[e]) > m.ranks || (k[e] == 0) != (x == 0) {
			return modelRanks{}, false
		}
	}
	return k, bits.Len64(x) <= 8*rules
}
