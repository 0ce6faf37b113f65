package ledger

import (
	"errors"
	"sync"
	"time"

	"github.com/moelb/moelb/prefill"
)

// Prefill is the ledger of the prefill units of a pool.
type Prefill struct {
	pool

	mu     sync.Mutex
	id     uint64
	cached []int64 // scratch of Pick
}

// prefillUnit is a prefill balancer whose ranks change hands.
type prefillUnit struct{ *prefill.Balancer }

func (u prefillUnit) vacate(g int) { _, _ = u.Dead(nil, g) } // until Restore

func prefillOf(u *unit) *prefill.Balancer { return u.ranked.(prefillUnit).Balancer }

// NewPrefill returns the ledger of no endpoints, whose units are each as unit says;
// unit.Ranks is not read. Errors: a bad configuration.
func NewPrefill(unit prefill.Config, cfg Config) (*Prefill, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	unit.Ranks = 1
	p := &Prefill{}
	p.cfg = cfg
	p.make = func(string) (ranked, error) {
		b, err := prefill.New(unit)
		return prefillUnit{b}, err
	}
	_, err := p.unit("")
	p.units = nil
	return p, err
}

// Pick places a prompt of so many tokens on one of the candidates and returns
// which; -1 = none of them has room. The request, known by its key from here on,
// holds its place until End. One that holds a place already gives it up first.
// Errors: a bad request, or more endpoints than a balancer can have.
func (p *Prefill) Pick(key any, tokens int64, candidates []Candidate) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	if err := p.call(key, candidates, now, func(h *held) { p.release(h, now) }); err != nil {
		return -1, err
	}
	p.id++
	u, g, err := p.try(func() (*unit, int, error) { return p.add(tokens, candidates) })
	if err == nil && g < 0 {
		err = errors.New("no endpoint has room")
	}
	if err != nil {
		return -1, err
	}
	p.sit(u, g, key, p.id, now)
	return u.seat[g].at, nil
}

// add places a prompt on the unit that it costs the fewest seconds.
func (p *Prefill) add(tokens int64, candidates []Candidate) (*unit, int, error) {
	var best *unit
	least := 0.0
	var failed error
	if len(p.called) == 1 {
		best = p.called[0]
	} else {
		for _, u := range p.called {
			switch q, err := prefillOf(u).Quote(p.request(u, tokens, candidates)); {
			case err != nil:
				failed = err
			case q.Rank >= 0 && (best == nil || q.Seconds < least):
				best, least, failed = u, q.Seconds, nil
			}
		}
	}
	if best == nil {
		return nil, prefill.Full, failed
	}
	g, err := prefillOf(best).Add(p.request(best, tokens, candidates))
	return best, g, err
}

// request is a prompt as a unit sees it.
func (p *Prefill) request(u *unit, tokens int64, candidates []Candidate) prefill.Request {
	r := prefill.Request{ID: prefill.ID(p.id), Tokens: tokens, Among: u.among}
	p.cached = append(p.cached[:0], make([]int64, prefillOf(u).Ranks())...)
	for g := range u.seat {
		s := &u.seat[g]
		if s.turn != p.turn || !s.taken {
			continue
		}
		if c := candidates[s.at].Cached; c > 0 {
			p.cached[g] = min(c, tokens-1) // its last is computed in any case
			r.CachedAt = p.cached
		}
	}
	return r
}

// Sent says that a request that was picked is on its way.
func (p *Prefill) Sent(key any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.book.send(key, p.cfg.Now())
}

// Holds reports whether a request holds a place on an endpoint.
func (p *Prefill) Holds(key any, at Name) bool {
	if p.book.find(key) == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	h := p.book.find(key)
	return h != nil && h.unit.seat[h.rank].name == at
}

// End takes a request off whose prefill has ended. One that holds nothing is
// ignored.
func (p *Prefill) End(key any, how End) {
	if p.book.find(key) == nil {
		return // as with each piece of an answer but the first
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.book.find(key); h != nil {
		now := p.cfg.Now()
		p.told(h, how, now)
		p.release(h, now)
	}
}

func (p *Prefill) release(h *held, now time.Time) {
	p.book.take(h.key)
	_ = prefillOf(h.unit).Done(prefill.ID(h.id))
	if h.probe { // nobody knows
		p.told(h, Cut, now)
	}
	p.rise(h)
}

// Stats returns how many requests are held and each rank's ledger, unit after unit.
// Ranks that no endpoint has are dead.
func (p *Prefill) Stats() (requests int, ranks []prefill.RankStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range p.units {
		for g := range prefillOf(u).Ranks() {
			ranks = append(ranks, prefillOf(u).Rank(g))
		}
	}
	return p.book.len(), ranks
}
