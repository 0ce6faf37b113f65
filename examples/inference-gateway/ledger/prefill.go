package ledger

import (
	"sync"

	"github.com/moelb/moelb/prefill"
)

// Prefill is the ledger of a prefill unit.
type Prefill struct {
	cfg Config

	mu     sync.Mutex
	unit   growing
	seats  seats
	book   book
	id     uint64
	cached []int64 // scratch of Pick
}

// growing is a prefill balancer whose number of ranks can change.
type growing struct {
	*prefill.Balancer
	cfg  prefill.Config
	book *book
}

// Resize makes a balancer of so many ranks, the new ones in service, and puts what
// is held where it was. O(requests and ranks); units seldom grow.
func (u *growing) Resize(ranks int) error {
	cfg := u.cfg
	cfg.Ranks = ranks
	b, err := prefill.New(cfg)
	if err != nil {
		return err
	}
	for g := range ranks {
		if err := b.Drain(g); err != nil {
			return err
		}
	}
	for h := range u.book.all {
		// On the only rank in service.
		if err := b.Restore(h.rank); err != nil {
			return err
		}
		if _, err := b.Add(h.prompt); err != nil {
			return err
		}
		if err := b.Drain(h.rank); err != nil {
			return err
		}
	}
	for g := range ranks {
		if g < u.Ranks() && u.Rank(g).State != prefill.Serving {
			continue
		}
		if err := b.Restore(g); err != nil {
			return err
		}
	}
	u.Balancer, u.cfg = b, cfg
	return nil
}

func (*growing) clear(int) {} // nothing was told

// NewPrefill returns the ledger of an empty unit of no endpoints. unit.Ranks is not
// read. Errors: a bad configuration.
func NewPrefill(unit prefill.Config, cfg Config) (*Prefill, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	unit.Ranks = 1
	b, err := prefill.New(unit)
	if err != nil {
		return nil, err
	}
	p := &Prefill{cfg: cfg, book: newBook()}
	p.unit = growing{b, unit, &p.book}
	p.seats = newSeats(&p.unit, cfg.Present)
	return p, nil
}

// Pick places a prompt of so many tokens on one of the candidates and returns
// which. The request, known by its key from here on, holds its place until Done.
// One that holds a place already gives it up first. Errors: a bad request, or more
// endpoints than a balancer can have.
func (p *Prefill) Pick(key any, tokens int64, candidates []Candidate) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.cfg.Now()
	p.release(key)
	for h := p.book.overdue(now, p.cfg.MaxAge); h != nil; h = p.book.overdue(now, p.cfg.MaxAge) {
		p.release(h.key)
	}
	if err := p.seats.call(candidates, now); err != nil {
		return -1, err
	}
	p.id++
	r := prefill.Request{ID: prefill.ID(p.id), Tokens: tokens}
	p.cached = append(p.cached[:0], make([]int64, p.unit.Ranks())...)
	for i := range candidates {
		if c := candidates[i].Cached; c > 0 {
			p.cached[p.seats.rank[candidates[i].Name]] = min(c, tokens)
			r.CachedAt = p.cached
		}
	}
	g, err := p.unit.Add(r)
	if err != nil || g < 0 {
		return -1, err
	}
	if r.CachedAt != nil {
		r.Cached, r.CachedAt = r.CachedAt[g], nil
	}
	p.book.add(&held{key: key, rank: g, id: p.id, prompt: r, since: now})
	p.seats.seat[g].held++
	return p.seats.seat[g].at, nil
}

// Sent says that a request that was picked is on its way.
func (p *Prefill) Sent(key any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.book.send(key, p.cfg.Now())
}

// Done takes a request off whose prefill has ended. One that holds nothing is
// ignored.
func (p *Prefill) Done(key any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.release(key)
}

func (p *Prefill) release(key any) {
	if h := p.book.take(key); h != nil {
		_ = p.unit.Done(prefill.ID(h.id))
		p.seats.leave(h.rank)
	}
}

// Stats returns how many requests are held and each rank's ledger. Ranks that were
// no candidates of the latest pick are Drained.
func (p *Prefill) Stats() (requests int, ranks []prefill.RankStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := range p.unit.Ranks() {
		ranks = append(ranks, p.unit.Rank(g))
	}
	return len(p.book.at), ranks
}
