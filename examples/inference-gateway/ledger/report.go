package ledger

import (
	"slices"
	"time"

	"github.com/moelb/moelb/decode"
)

// report is what an endpoint's loads have told of it.
type report struct {
	said     time.Time   // when it last said what it has
	left     []released  // since then
	heard    bool        // it has said so since this ledger began
	settled  bool        // nothing is left of what it ran before
	before   int         // requests that it ran before
	restored []decode.ID // of them, those that a snapshot told of, while it has said nothing
}

// released is a request that has left a rank.
type released struct {
	since, at time.Time // on the rank
	kv        int64
}

const (
	mostLeft    = 1024             // bounds what is remembered of a rank that says nothing
	mostBelieve = 1 << 16          // requests of a rank: what says more is broken
	mostRunning = 4096             // of a rank, where no limit is known
	mostTokens  = 1 << 30          // of a rank, where no limit is known
	oldLoad     = 10 * time.Second // tells nothing of what ran before
	silence     = 30 * time.Second // after which a rank is taken to say nothing
	mostHeir    = 10 * time.Minute // what ran before has ended by then
)

func (s *seat) leave(h *held, kv int64, now time.Time) {
	if len(s.left) == mostLeft {
		s.left = append(s.left[:0], s.left[mostLeft/2:]...)
	}
	s.left = append(s.left, released{h.since, now, kv})
}

// listen takes in what the candidates have said of themselves.
func (d *Decode) listen(candidates []Candidate, now time.Time) {
	for _, u := range d.called {
		for g := range u.seat {
			s := &u.seat[g]
			if s.turn != d.turn || !s.taken {
				continue
			}
			l := candidates[s.at].Load
			if !l.At.After(s.said) || !d.believe(u, g, &l) {
				continue
			}
			if d.several {
				d.report(u, g, l, now)
			} else if !s.settled && now.Sub(l.At) <= oldLoad {
				d.inherit(u, g, l, now)
			}
		}
	}
	if d.heir {
		d.settle(now)
	}
}

// believe bounds a load by what the rank can hold, and reports whether it makes any
// sense.
func (d *Decode) believe(u *unit, g int, l *Load) bool {
	k := balancerOf(u).Rank(g)
	requests, tokens := mostRunning, k.Capacity
	if d.most > 0 {
		requests = d.most
	}
	if tokens == 0 {
		tokens = mostTokens
	}
	if l.Requests < 0 || l.Requests > mostBelieve || l.KV > 2*tokens {
		return false
	}
	l.Requests, l.KV = min(l.Requests, requests), min(l.KV, tokens)
	return true
}

// report passes on what an endpoint has said since the last pick. What was placed
// less than a step before is taken as not seen by it, what was released since then
// as still in it.
func (d *Decode) report(u *unit, g int, l Load, now time.Time) {
	if l.KV < 0 {
		return
	}
	s := &u.seat[g]
	s.said = l.At
	s.left = slices.DeleteFunc(s.left, func(r released) bool { return !r.at.After(l.At) })
	for _, r := range s.left {
		l.Requests--
		l.KV -= r.kv
	}
	age := min(max(now.Sub(l.At), 0)/d.step+1, 1<<20)
	_ = balancerOf(u).Report(decode.Report{Rank: g, Requests: max(l.Requests, 0), KV: max(l.KV, 0), Age: int(age)})
}

// inherit takes over what an endpoint runs that was placed before this ledger began:
// what it says it has, less what was placed since. None of that comes any more, so
// it only grows fewer.
func (d *Decode) inherit(u *unit, g int, l Load, now time.Time) {
	s, b := &u.seat[g], balancerOf(u)
	s.said = l.At
	s.left = slices.DeleteFunc(s.left, func(r released) bool { return !r.at.After(l.At) })
	age := int64(max(now.Sub(l.At), 0) / d.step)
	then, thenKV, own := 0, int64(0), int64(0) // of this ledger's
	for _, h := range s.held {
		kv, _ := b.KV(decode.ID(h.id))
		own += kv
		if !h.since.After(l.At) {
			then, thenKV = then+1, thenKV+kv-age
		}
	}
	for _, r := range s.left {
		if !r.since.After(l.At) {
			then, thenKV = then+1, thenKV+r.kv
		}
	}
	before := max(l.Requests-then, 0)
	if s.heard {
		before = min(before, s.before)
	}
	for _, id := range s.restored {
		_ = b.Cancel(id)
	}
	s.heard, s.before, s.restored, s.settled = true, before, nil, before == 0
	kv := int64(before) * guessedKV
	if l.KV >= 0 {
		kv = max(l.KV-thenKV, int64(before))
	}
	if before == 0 {
		kv = 0
	}
	d.view(u, g, before, kv+int64(before)*age, own)
}

// guessedKV is what a request holds whose endpoint does not say how much.
const guessedKV = 4096

// view makes a rank's load this ledger's own requests, of so many tokens, and what
// ran before.
func (d *Decode) view(u *unit, g, before int, kv, own int64) {
	_ = balancerOf(u).Report(decode.Report{Rank: g, Requests: len(u.seat[g].held) + before, KV: own + kv})
}

// settle ends the taking over once nothing is left of what ran before, rank by rank
// and as a whole.
func (d *Decode) settle(now time.Time) {
	waited := now.Sub(d.began)
	over := waited > min(d.cfg.MaxAge, mostHeir)
	// What nothing is said of runs twice as long as requests do.
	quiet := max(silence, time.Duration(2*d.mean.value()*float64(d.step)))
	open := false
	for _, u := range d.units {
		for g := range u.seat {
			s := &u.seat[g]
			if !s.taken || s.settled {
				continue
			}
			if !over && (s.heard || waited <= quiet) {
				open = true
				continue
			}
			for _, id := range s.restored {
				_ = balancerOf(u).Cancel(id)
			}
			own := int64(0)
			for _, h := range s.held {
				kv, _ := balancerOf(u).KV(decode.ID(h.id))
				own += kv
			}
			d.view(u, g, 0, 0, own)
			s.settled, s.before, s.restored = true, 0, nil
		}
	}
	if !open && (over || waited > time.Second) {
		d.heir = false
		d.listens.Store(false)
		for _, u := range d.units {
			for g := range u.seat {
				u.seat[g].left = nil
			}
		}
	}
}
