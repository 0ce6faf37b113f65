package prefill

import (
	"cmp"
	"math"
	"slices"
)

// item is a request that may run in the step that is being formed.
type item struct {
	slot    int32
	rank    int32 // where it has started; -1 = nowhere yet
	left    int64
	pos     int64
	pairs   int64   // of all that is left in one chunk
	seconds float64 // of that
	urgency float64
	passed  float64 // seconds since its turn came
	seq     int64
	first   bool // before all that are not: of a higher priority, or critical
	local   bool // what is left depends on the rank
	pinned  bool
}

// tokens are all of the request.
func (it *item) tokens() int64 { return it.pos + it.left }

// load is what a rank has in the step that is being formed.
type load struct {
	tokens int64
	pairs  int64   // with what prefixes cost to re-expand
	kv     int64   // tokens of its prompts in full
	tail   int64   // tokens that its unfinished prompts need after this step
	stock  int64   // pairs that they need from this step on
	rest   float64 // seconds
	least  float64 // the same of the shortest of them
	busy   int     // how many they are
	lead   int32   // the oldest of them, an item; -1 = none
	due    float64 // seconds that are to be given yet
	closed bool    // takes nothing from the queue: its room is kept

	speed      float64
	mostTokens int64 // what the rank may take at all
	capTokens  int64 // what it may take within the caps that are tried
	capPairs   int64
	seconds    float64 // of tokens and pairs together that it may take
}

// observed is what the steps so far say of the unit: sums that decay from step to
// step.
type observed struct {
	steps    float64
	seconds  float64 // that they took
	work     float64 // seconds of work in them
	arrivals float64
	recent   float64 // seconds of the steps that arrivals counts, the last few
	silent   float64 // seconds since a request came
	inflow   float64 // seconds of work that come in a second
	came     int     // since the last step
	brought  float64 // seconds of work, since the last step
}

// memory is how many steps the sums go back, about.
const memory = 16

// add counts a step. What comes is averaged over about as long as the longest prompt
// takes: that is how far ahead it is of use.
func (o *observed) add(seconds, work, longest float64) {
	const keep, fresh = 1 - 1./memory, .5
	o.steps = float64(o.steps*keep) + 1
	o.seconds = float64(o.seconds*keep) + seconds
	o.work = float64(o.work*keep) + work
	o.arrivals = float64(o.arrivals*fresh) + float64(o.came)
	o.recent = float64(o.recent*fresh) + seconds
	if o.silent += seconds; o.came > 0 {
		o.silent = 0
	}
	if over := seconds + longest; over > 0 {
		o.inflow = max(0, o.inflow+(o.brought-float64(o.inflow*seconds))/over)
	}
	o.came, o.brought = 0, 0
}

// step is how long steps are, and rate how many requests come in a second: as many as
// came lately, and the next after about as long as none has, a second at least.
func (o *observed) step() float64 { return o.seconds / max(o.steps, 1) }
func (o *observed) rate() float64 {
	next := 1 / (1 + o.silent)
	if o.recent > 0 {
		return max(next, o.arrivals/o.recent)
	}
	return next
}

// survey clears the last step and lists what may run in this one: all that has
// started, and the most urgent of the queue that could fill the longest step.
func (b *Balancer) survey(left []Budget) {
	f := &b.former
	f.items = f.items[:0]
	f.base = max(b.cost.Step, 1e-9) + b.observed.step()
	b.surveyRanks(left)
	b.letGo()
	b.depth()
	f.from = len(f.items)
	room := int64(len(f.open)) * f.tokens
	if f.deep {
		b.collectDeep()
	} else {
		b.collect(room)
	}
	f.urgent = len(f.items)
	b.oldest()
	b.putBack()
	b.arrange()
}

// surveyRanks sets what each rank may take and lists what it has started.
func (b *Balancer) surveyRanks(left []Budget) {
	f := &b.former
	f.open, f.tokens = f.open[:0], 0
	for i := range b.ranks {
		g := b.turned(i)
		k := &b.ranks[g]
		l := &f.fresh[g]
		*l = load{kv: k.kv, least: math.Inf(1), lead: -1, speed: k.speed, mostTokens: b.mostTokens(), seconds: math.Inf(1)}
		if k.speed <= 0 {
			l.speed = 1
		}
		if len(left) > 0 {
			l.mostTokens = min(l.mostTokens, left[g].Tokens)
			l.seconds = left[g].Seconds * l.speed
		}
		for _, s := range k.started {
			q := &b.requests[s]
			it := b.item(s, q)
			it.rank, it.local = int32(g), false
			l.rest += it.seconds
			l.stock += it.pairs
			l.least = min(l.least, it.seconds)
			l.tail += it.left
			l.busy++
			if l.lead < 0 || q.seq < f.items[l.lead].seq {
				l.lead = int32(len(f.items))
			}
			f.items = append(f.items, it)
		}
		if k.open && l.mostTokens > 0 {
			f.open = append(f.open, int32(g))
		}
		if k.open || l.busy > 0 {
			f.tokens = max(f.tokens, l.mostTokens)
		}
	}
}

func (b *Balancer) mostTokens() int64 {
	if b.cfg.MaxTokens == 0 {
		return defaultTokens
	}
	return b.cfg.MaxTokens
}

// item describes a request as it stands now.
func (b *Balancer) item(s int32, q *request) item {
	w := b.ownWork(q)
	it := item{slot: s, rank: -1, left: w.Tokens, pos: q.pos, pairs: w.Pairs, seconds: b.cost.of(w), seq: q.seq, local: q.local, pinned: q.pinned}
	own := it.seconds
	if q.state == started {
		from := min(q.from, q.pos)
		own = b.cost.of(Work{q.tokens - from, b.pairsOf(q.tokens-from, from)})
	}
	it.urgency = (b.clock - q.came + it.seconds + b.former.base) / (own + b.former.base)
	return it
}

// collect lists the most urgent of the queue, until they could fill so many tokens,
// whatever becomes of those that are too long for one.
func (b *Balancer) collect(room int64) {
	f := &b.former
	if len(f.open) == 0 {
		return
	}
	long := 2 * len(f.open)
	full := float64(b.cost.Token * float64(f.tokens))
	for i, l := range b.levels {
		f.heads = f.heads[:0]
		for c := range l.classes {
			b.offer(l, int16(c))
		}
		for len(f.heads) > 0 && room > 0 {
			h := f.heads[0]
			s := l.classes[h.class][0]
			q := &b.requests[s]
			if b.hold(s) {
				b.reoffer(l)
				continue
			}
			it := b.item(s, q)
			if it.seconds > 2*full {
				if long--; long < 0 {
					b.drop()
					continue
				}
			} else {
				room -= max(it.left, 1)
			}
			if q.turn == unknownSince {
				q.turn = b.clock
			}
			it.passed = b.clock - q.turn
			it.first = i == 0 && len(b.levels) > 1
			q.item = int32(len(f.items))
			f.items = append(f.items, it)
			b.pull(&l.classes[h.class], 0)
			q.spot = -1
			b.reoffer(l)
		}
	}
}

// putBack returns what collect took from the classes.
func (b *Balancer) putBack() {
	f := &b.former
	for i := f.from; i < len(f.items); i++ {
		s := f.items[i].slot
		q := &b.requests[s]
		q.item = -1
		if q.spot >= 0 {
			continue
		}
		for _, l := range b.levels {
			if l.priority == q.priority {
				b.push(&l.classes[q.class], s)
			}
		}
	}
}

// head is the first of a class.
type head struct {
	urgency float64
	class   int16
}

// offer enters a class's head into the heap of heads.
func (b *Balancer) offer(l *level, c int16) {
	f := &b.former
	if len(l.classes[c]) == 0 {
		return
	}
	s := l.classes[c][0]
	f.heads = append(f.heads, head{b.item(s, &b.requests[s]).urgency, c})
	h := f.heads
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if !nearer(h[i], h[up]) {
			break
		}
		h[i], h[up] = h[up], h[i]
		i = up
	}
}

func nearer(x, y head) bool {
	return x.urgency > y.urgency || x.urgency == y.urgency && x.class < y.class
}

// drop takes the first head off.
func (b *Balancer) drop() {
	f := &b.former
	h := f.heads
	last := len(h) - 1
	h[0] = h[last]
	h = h[:last]
	f.heads = h
	for i := 0; ; {
		most := i
		for c := 2*i + 1; c <= 2*i+2 && c < len(h); c++ {
			if nearer(h[c], h[most]) {
				most = c
			}
		}
		if most == i {
			return
		}
		h[i], h[most] = h[most], h[i]
		i = most
	}
}

// reoffer puts the next of the first head's class in its place.
func (b *Balancer) reoffer(l *level) {
	c := b.former.heads[0].class
	b.drop()
	b.offer(l, c)
}

// arrange puts the items in order.
func (b *Balancer) arrange() {
	f := &b.former
	f.order, f.placed = f.order[:0], f.placed[:0]
	if len(f.items) == 0 {
		return
	}
	sum := 0.0
	for i := range f.items {
		sum += f.items[i].urgency
	}
	mean := sum / float64(len(f.items))
	f.pairs = 1
	for i := range f.items {
		it := &f.items[i]
		n := max(1, min(it.left, f.tokens))
		f.pairs = max(f.pairs, whole(float64(it.pos+n)*float64(f.tokens))+b.expand*it.pos)
	}
	full, ahead := float64(b.cost.Token*float64(f.tokens)), b.ahead()
	for i := range f.items {
		it := &f.items[i]
		it.urgency /= mean
		if ahead > full && it.seconds <= ahead && it.seconds > ahead/2 {
			it.first = true
		}
	}
	f.waiting = float64(len(f.items) + b.Queued() - (len(f.items) - f.from))
	n := len(f.items)
	f.placed, f.turnOf = slices.Grow(f.placed[:0], n)[:n], slices.Grow(f.turnOf[:0], n)[:n]
	for i := range f.items {
		f.order = append(f.order, int32(i))
	}
	slices.SortFunc(f.order, func(x, y int32) int {
		p, q := &f.items[x], &f.items[y]
		if p.first != q.first {
			if p.first {
				return -1
			}
			return 1
		}
		if f.deep {
			return cmp.Compare(p.seq, q.seq)
		}
		if c := cmp.Compare(q.urgency, p.urgency); c != 0 {
			return c
		}
		return cmp.Compare(p.seq, q.seq)
	})
	for k, i := range f.order {
		f.turnOf[i] = int32(k)
	}
	f.largest = append(f.largest[:0], f.order...)
	slices.SortFunc(f.largest, func(x, y int32) int {
		p, q := &f.items[x], &f.items[y]
		if f.deep {
			return order(q.left, p.left, p.seq, q.seq)
		}
		if p.first != q.first {
			if p.first {
				return -1
			}
			return 1
		}
		if c := cmp.Compare(q.seconds, p.seconds); c != 0 {
			return c
		}
		return cmp.Compare(p.seq, q.seq)
	})
}
