package prefill

import (
	"math"
	"slices"

	"github.com/moelb/moelb/prefill/internal/pack"
)

// observed is what the steps so far say of the unit: sums that decay from step to
// step.
type observed struct {
	steps    float64
	seconds  float64 // that they took
	work     float64 // seconds of work in them
	arrivals float64
	recent   float64 // seconds of the steps that arrivals counts, the last few
	last     float64 // seconds of the last step
	silent   float64 // seconds since a request came
	pause    float64 // the longest of late until one came
	clump    float64 // how many come together after a silence
	came     int     // since the last step
}

// memory is how many steps the sums go back, about.
const memory = 16

// add counts a step.
func (o *observed) add(seconds, work float64) {
	const keep, fresh = 1 - 1./memory, .5
	o.steps = float64(o.steps*keep) + 1
	o.seconds = float64(o.seconds*keep) + seconds
	o.work = float64(o.work*keep) + work
	o.arrivals = float64(o.arrivals*fresh) + float64(o.came)
	o.recent = float64(o.recent*fresh) + seconds
	if o.came > 0 {
		if o.silent > 0 {
			o.clump += float64(fresh / 2 * (float64(o.came) - o.clump))
		}
		o.pause = max(o.pause*keep, o.silent+o.last)
		o.silent = 0
	} else {
		o.silent += seconds
		o.clump *= 1 - 1./(4*memory)
	}
	o.last, o.came = seconds, 0
}

// busy is the share of the unit's time that was work, step how long steps are, and rate how many requests come in a second: as many as
// came lately, and the next after about as long as none has, a second at least.
func (o *observed) busy(power float64) float64 {
	if o.seconds > 0 {
		return o.work / (power * o.seconds)
	}
	return 0
}
func (o *observed) step() float64 { return o.seconds / max(o.steps, 1) }
func (o *observed) rate() float64 {
	next := max(1, o.clump) / (1 + o.silent)
	if o.recent > 0 {
		return max(next, o.arrivals/o.recent)
	}
	return next
}

// survey clears the last step and lists what may run in this one: all that has
// started, and the most urgent of the queue that could fill the longest step.
func (b *Balancer) survey(left []Budget) {
	f := &b.former
	f.Base = max(b.cost.Step, 1e-9) + b.observed.step()
	f.Power = max(b.power, 1/MaxSpeed)
	f.Busy, f.Rate = b.observed.busy(f.Power), b.observed.rate()
	b.surveyRanks(left)
	b.letGo()
	b.depth()
	f.From = len(f.Items)
	room := int64(len(f.Open)) * f.Tokens
	if !f.Deep {
		b.collect(room)
	} else if n := len(b.levels); f.local || b.levels[n-1].home >= 0 {
		b.collect(room / 2) // short prompts have a share of an eighth, and each rank what it may take
	}
	f.Urgent = len(f.Items)
	if f.Deep {
		b.collectDeep()
	}
	b.oldest()
	b.putBack()
	f.Turn, f.Unlike, f.Late = b.turn, b.unlike, b.late.youngest
	f.Ahead, f.Pairs = b.ahead(), b.total.Pairs
	f.Waiting = float64(f.From + b.Queued())
}

// surveyRanks sets what each rank may take and lists what it has started.
func (b *Balancer) surveyRanks(left []Budget) {
	f := &b.former
	f.Clear(len(b.ranks))
	for i := range b.ranks {
		g := b.turned(i)
		k := &b.ranks[g]
		r := pack.Rank{Open: k.open, Speed: k.speed, Tokens: b.mostTokens(), Seconds: math.Inf(1), KV: k.kv, Room: k.room(), Owed: k.owed}
		if k.speed <= 0 {
			r.Speed = 1
		}
		if len(left) > 0 {
			r.Tokens = min(r.Tokens, left[g].Tokens)
			r.Seconds = left[g].Seconds * r.Speed
		}
		f.SetRank(g, r)
		for _, s := range k.started {
			it := b.item(s, &b.requests[s])
			it.Rank, it.Where = int32(g), nil
			f.GoesOn(it)
		}
	}
}

// defaultTokens is what a rank takes in a step if Config.MaxTokens is 0.
const defaultTokens = 16384

func (b *Balancer) mostTokens() int64 {
	if b.cfg.MaxTokens == 0 {
		return defaultTokens
	}
	return b.cfg.MaxTokens
}

// item describes a request as it stands now.
func (b *Balancer) item(s int32, q *request) pack.Item {
	w := b.ownWork(q)
	it := pack.Item{Slot: s, Rank: -1, Left: w.Tokens, Pos: q.pos, Pairs: w.Pairs, Seconds: b.cost.of(w), Waited: b.clock - q.came, Seq: q.seq}
	if q.where.Local || q.where.Pinned {
		it.Where = &q.where
	}
	own := it.Seconds
	if q.state == started {
		from := min(q.from, q.pos)
		own = b.cost.of(Work{q.tokens - from, b.pairsOf(q.tokens-from, from)})
	}
	it.Urgency = (it.Waited + it.Seconds + b.former.Base) / (own + b.former.Base)
	return it
}

// collect lists the most urgent of the queue, until they could fill so many tokens,
// whatever becomes of those that are too long for one, and of those that only ranks may
// take which others of that kind could fill already.
func (b *Balancer) collect(room int64) {
	f := &b.former
	if len(f.Open) == 0 {
		return
	}
	f.clearPinned(len(b.ranks))
	long := 2 * len(f.Open)
	full := float64(b.cost.Token * float64(f.Tokens))
	several := b.priorities()
	for at := 0; at < len(b.levels) && room > 0; {
		priority := b.levels[at].priority
		f.heads = f.heads[:0]
		for _, l := range b.levels[at:] {
			if l.priority != priority {
				break
			}
			for c := range l.classes {
				b.offer(l, int16(c))
			}
		}
		for len(f.heads) > 0 && room > 0 {
			h := f.heads[0]
			s := h.level.classes[h.class][0].slot
			q := &b.requests[s]
			if b.hold(s) {
				b.reoffer()
				continue
			}
			it := b.item(s, q)
			fits := false
			if it.Seconds > 2*full {
				fits = long > 0 && f.wanted(q, 1, 1, 2)
				long--
			} else if n := max(it.Left, 1); f.wanted(q, 0, n, f.Tokens) {
				fits = true
				room -= n
			}
			if !fits {
				b.drop()
				continue
			}
			it.First = several && priority == b.levels[0].priority
			q.item = int32(len(f.Items))
			f.Items = append(f.Items, it)
			b.pull(&h.level.classes[h.class], 0)
			q.spot = -1
			b.reoffer()
		}
		at, _ = b.levelOf(priority, math.MaxInt32)
	}
}

// pinned is what is listed of those that only some ranks may take, of two kinds.
type pinned struct {
	open   bool
	listed [2]int64
}

func (f *former) clearPinned(ranks int) {
	f.pinned = slices.Grow(f.pinned[:0], ranks)[:ranks]
	clear(f.pinned)
	for _, g := range f.Open {
		f.pinned[g].open = true
	}
}

// wanted reports whether less than most of a kind is listed for some rank that may take
// a request, of what only some ranks may take, and counts it there.
func (f *former) wanted(q *request, kind int, counts, most int64) bool {
	if !q.where.Pinned {
		return true
	}
	var least *pinned
	for _, g := range q.where.Among {
		if k := &f.pinned[g]; k.open && (least == nil || k.listed[kind] < least.listed[kind]) {
			least = k
		}
	}
	if least == nil || least.listed[kind] >= most {
		return false
	}
	least.listed[kind] += counts
	return true
}

// putBack returns what collect took from the classes.
func (b *Balancer) putBack() {
	f := &b.former
	for i := f.From; i < len(f.Items); i++ {
		s := f.Items[i].Slot
		q := &b.requests[s]
		q.item = -1
		if q.spot >= 0 {
			continue
		}
		l, _ := b.levelOf(q.priority, q.home)
		b.push(&b.levels[l].classes[q.class], s)
	}
}

// head is the first of a class.
type head struct {
	urgency float64
	level   *level
	class   int16
}

// offer enters a class's head into the heap of heads.
func (b *Balancer) offer(l *level, c int16) {
	f := &b.former
	if len(l.classes[c]) == 0 {
		return
	}
	s := l.classes[c][0].slot
	f.heads = append(f.heads, head{b.item(s, &b.requests[s]).Urgency, l, c})
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
	switch {
	case x.urgency != y.urgency:
		return x.urgency > y.urgency
	case x.class != y.class:
		return x.class < y.class
	}
	return x.level.home < y.level.home
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
func (b *Balancer) reoffer() {
	h := b.former.heads[0]
	b.drop()
	b.offer(h.level, h.class)
}
