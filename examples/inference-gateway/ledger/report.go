package ledger

import (
	"math"
	"slices"
	"time"

	"github.com/moelb/moelb/decode"
)

// report is what an endpoint's loads have told of it.
type report struct {
	said    time.Time   // when it last said what it has
	left    []released  // since then
	heard   bool        // it has said so since this ledger began
	settled bool        // nothing is left of what it ran before
	before  []decode.ID // what it ran before, each as far as is known
	told    int         // how many of them a snapshot told of
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
			if !l.At.After(s.said) || !d.believe(&l) {
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
func (d *Decode) believe(l *Load) bool {
	requests, tokens := mostRunning, d.tokens
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
	then, thenKV := 0, int64(0) // of this ledger's own
	for _, h := range s.held {
		if !h.since.After(l.At) {
			kv, _ := b.KV(decode.ID(h.id))
			then, thenKV = then+1, thenKV+kv-age
		}
	}
	for _, r := range s.left {
		if !r.since.After(l.At) {
			then, thenKV = then+1, thenKV+r.kv
		}
	}
	n := max(l.Requests-then, 0)
	kv := int64(n) * guessedKV
	if l.KV >= 0 {
		kv = max(l.KV-thenKV, int64(n)) + int64(n)*age
	}
	if s.heard {
		n = min(n, len(s.before))
	} else { // what a snapshot told of is older
		for _, id := range s.before {
			_ = b.Cancel(id)
		}
		s.before = s.before[:0]
	}
	s.heard = true
	have := int64(0)
	for _, id := range s.before {
		k, _ := b.KV(id)
		have += k
	}
	for m := len(s.before) - n; m > 0; m-- {
		have -= d.forget(u, s, (have-kv)/int64(m))
	}
	if more := n - len(s.before); more > 0 {
		d.admit(u, s, g, more, max(kv-have, 0)/int64(more))
	} else if each := (kv - have) / int64(max(n, 1)); l.KV >= 0 {
		for _, id := range s.before {
			_ = b.Grow(id, each) // one that makes no sense is not believed
		}
	}
	s.settled = len(s.before) == 0
}

// guessedKV is what a request holds whose endpoint does not say how much.
const guessedKV = 4096

// admit enters requests of so many tokens each that an endpoint runs.
func (d *Decode) admit(u *unit, s *seat, g, n int, each int64) {
	b := balancerOf(u)
	all := make([]decode.Request, 0, len(s.held)+len(s.before)+n)
	list := func(id decode.ID) {
		kv, _ := b.KV(id)
		all = append(all, decode.Request{ID: id, KV: kv})
	}
	for _, h := range s.held {
		list(decode.ID(h.id))
	}
	for _, id := range s.before {
		list(id)
	}
	for i := range n {
		all = append(all, decode.Request{ID: d.id + 1 + decode.ID(i), KV: min(each, decode.MaxTokens)})
	}
	changes, err := b.Sync(decode.Changes{}, g, all)
	if err == nil {
		d.id += decode.ID(n)
		s.before = append(s.before, changes.Entered...)
	}
}

// forget takes off, of the requests that ran before, the one that comes closest to so
// many tokens, and returns how many it held: one of them has ended, nobody says which.
func (d *Decode) forget(u *unit, s *seat, tokens int64) int64 {
	b := balancerOf(u)
	best, at, off := int64(0), -1, int64(0)
	for i, id := range s.before {
		kv, _ := b.KV(id)
		if o := max(kv-tokens, tokens-kv); at < 0 || o < off {
			best, at, off = kv, i, o
		}
	}
	_ = b.Cancel(s.before[at])
	s.before = slices.Delete(s.before, at, at+1)
	return best
}

// settle ends the taking over once nothing is left of what ran before, rank by rank
// and as a whole.
func (d *Decode) settle(now time.Time) {
	waited := now.Sub(d.began)
	over := waited > min(d.cfg.MaxAge, mostHeir)
	life := d.mean.Value() * float64(d.step)
	open := false
	for _, u := range d.units {
		for g := range u.seat {
			s := &u.seat[g]
			if !s.taken || s.settled {
				continue
			}
			n := len(s.before)
			switch {
			case over:
				n = 0
			case s.heard:
			case waited > max(silence, time.Duration(4*life)):
				n = 0
			case n > 0 && life > 0: // it says nothing, and some of them have ended
				n = int(float64(s.told) * math.Exp(-float64(waited)/life))
			}
			for len(s.before) > n {
				last := len(s.before) - 1
				_ = balancerOf(u).Cancel(s.before[last])
				s.before = s.before[:last]
			}
			if s.settled = n == 0 && (over || s.heard || waited > silence); !s.settled {
				open = true
			}
		}
	}
	if !open && (over || waited > time.Second) {
		d.heir = false
		d.listens.Store(d.several)
		for _, u := range d.units {
			for g := range u.seat {
				u.seat[g].left = nil
			}
		}
	}
}
