package ledger

import (
	"errors"
	"sync"

	"github.com/moelb/moelb/prefill"
)

// Prefill is the ledger of a prefill unit.
type Prefill struct {
	cfg Config

	mu     sync.Mutex
	unit   *prefill.Balancer
	seats  seats
	book   book
	id     uint64
	cached []int64 // scratch of Pick
}

// prefillRanks is a prefill unit whose ranks change hands.
type prefillRanks struct{ *prefill.Balancer }

func (u prefillRanks) vacate(g int) { _, _ = u.Dead(nil, g) } // until Restore

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
	return &Prefill{cfg: cfg, unit: b, seats: newSeats(prefillRanks{b}, cfg.Present), book: newBook()}, nil
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
	among, err := p.seats.call(candidates, now)
	if err != nil {
		return -1, err
	}
	p.id++
	r := prefill.Request{ID: prefill.ID(p.id), Tokens: tokens, Among: among}
	p.cached = append(p.cached[:0], make([]int64, p.unit.Ranks())...)
	for i := range candidates {
		if c := candidates[i].Cached; c > 0 {
			p.cached[p.seats.rank[candidates[i].Name]] = min(c, tokens)
			r.CachedAt = p.cached
		}
	}
	g, err := p.unit.Add(r)
	if err == nil && g == prefill.Full {
		err = errors.New("no endpoint has room")
	}
	if err != nil {
		return -1, err
	}
	p.book.add(&held{key: key, rank: g, id: p.id, since: now})
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

// Stats returns how many requests are held and each rank's ledger. Ranks that no
// endpoint has are dead.
func (p *Prefill) Stats() (requests int, ranks []prefill.RankStats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for g := range p.unit.Ranks() {
		ranks = append(ranks, p.unit.Rank(g))
	}
	return len(p.book.at), ranks
}
