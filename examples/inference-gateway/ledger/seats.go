package ledger

import (
	"cmp"
	"slices"
	"time"
)

// ranked is what units need of a balancer.
type ranked interface {
	Drain(rank int) error
	Restore(rank int) error
	Resize(ranks int) error
	vacate(rank int) // takes an empty rank out of service, with all that it was told
}

// unit is a lockstep unit: the ranks of a balancer, and which endpoint has which. An
// endpoint that was not known takes a free rank, the lowest; several take theirs in
// the order of their names. It keeps it until it no longer exists and what ran on it
// has ended; a rank that nobody has is out of service.
type unit struct {
	ranked
	name  string
	of    map[Name]int
	seat  []seat
	among []int // the candidates' ranks; nil = all in service
	turn  uint64
	// candidates is how many of the latest are its own.
	candidates int
	strangers  []int // scratch
}

type seat struct {
	name   Name
	taken  bool
	gone   bool // its endpoint no longer exists
	drain  bool // its endpoint is to get nothing more
	closed bool // the rank is out of service, for that or because it fails
	ill    bool // it is among the pool's
	health
	held []*held // by requests on it
	turn uint64  // the latest list of candidates that it stood in
	at   int     // its place there
	report
}

// newUnit takes over a balancer of one rank in service.
func newUnit(name string, b ranked) *unit {
	return &unit{ranked: b, name: name, of: map[Name]int{}, seat: make([]seat, 1)}
}

// open puts a rank in or out of service, as its endpoint's state wants it.
func (u *unit) open(g int) {
	s := &u.seat[g]
	if closed := s.drain || s.state == shut || s.state == tried; closed != s.closed && s.taken {
		u.set(g, closed)
	}
}

func (u *unit) set(g int, closed bool) {
	u.seat[g].closed = closed
	if closed {
		_ = u.Drain(g)
	} else {
		_ = u.Restore(g)
	}
}

// admit gives ranks to candidates that have none.
func (u *unit) admit(candidates []Candidate, turn uint64) error {
	strangers := u.strangers
	free := 0
	for g := range u.seat {
		if !u.seat[g].taken {
			free++
		}
	}
	if n := len(u.seat) + len(strangers) - free; n > len(u.seat) {
		if err := u.Resize(n); err != nil {
			return err
		}
		for len(u.seat) < n {
			u.seat = append(u.seat, seat{})
		}
	}
	slices.SortFunc(strangers, func(i, j int) int {
		a, b := candidates[i].Name, candidates[j].Name
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	g := 0
	for _, i := range strangers {
		name := candidates[i].Name
		if _, ok := u.of[name]; ok {
			continue // named twice
		}
		for u.seat[g].taken {
			g++
		}
		if err := u.Restore(g); err != nil {
			return err
		}
		u.of[name] = g
		u.seat[g] = seat{name: name, taken: true, turn: turn, at: i}
	}
	return nil
}

// vacate frees the rank of an endpoint that no longer exists once it is empty, and
// reports whether it did.
func (u *unit) vacate(g int) bool {
	s := &u.seat[g]
	if !s.gone || len(s.held) > 0 {
		return false
	}
	delete(u.of, s.name)
	u.ranked.vacate(g)
	*s = seat{}
	return true
}

// pool is the units, and what requests hold there.
type pool struct {
	cfg   Config
	make  func(name string) (ranked, error) // a balancer of one rank in service
	units []*unit
	book  book
	ills  []ill
	picks uint64

	// The latest list of candidates, and what came of it.
	names  []Name
	places []place
	turn   uint64
	stale  bool    // seats have changed since
	called []*unit // with a candidate
	absent bool    // some endpoint that is known was no candidate
	looked time.Time
}

// place is what a candidate says of where it stands.
type place struct {
	unit  string
	drain bool
}

// lookEvery is how often it is asked which endpoints exist, while some of those
// known are no candidates.
const lookEvery = time.Second

// call makes ready to pick one of the candidates for a request: p.called are the units
// that have some, each with its among and its seats' places. What the request holds
// already, and those of which nothing was heard for too long, is released.
func (p *pool) call(key any, candidates []Candidate, now time.Time, release func(*held)) error {
	if h := p.book.find(key); h != nil {
		release(h)
	}
	for {
		h := p.book.overdue(now, p.cfg.MaxAge, p.cfg.MostHeld-1)
		if h == nil {
			break
		}
		release(h)
	}
	p.picks++
	if p.stale || !p.same(candidates) {
		if err := p.enroll(candidates); err != nil {
			return err
		}
	}
	if p.absent && p.cfg.Present != nil && now.Sub(p.looked) >= lookEvery {
		p.looked = now
		p.look()
	}
	if len(p.ills) > 0 {
		p.wake(now)
	}
	return nil
}

// same reports whether the candidates are those of the last time, in their order.
func (p *pool) same(candidates []Candidate) bool {
	if len(candidates) != len(p.names) {
		return false
	}
	for i := range candidates {
		c := &candidates[i]
		if c.Name != p.names[i] || c.Unit != p.places[i].unit || c.Drain != p.places[i].drain {
			return false
		}
	}
	return true
}

// enroll finds the candidates' seats, or gives them some.
func (p *pool) enroll(candidates []Candidate) error {
	p.turn++
	p.stale = true // until all is well
	p.names, p.places, p.called = p.names[:0], p.places[:0], p.called[:0]
	for i := range candidates {
		c := &candidates[i]
		p.names, p.places = append(p.names, c.Name), append(p.places, place{c.Unit, c.Drain})
		u, err := p.unit(c.Unit)
		if err != nil {
			return err
		}
		if u.turn != p.turn {
			u.turn, u.strangers = p.turn, u.strangers[:0]
			p.called = append(p.called, u)
		}
		if g, ok := u.of[c.Name]; ok {
			u.seat[g].turn, u.seat[g].at = p.turn, i
		} else {
			u.strangers = append(u.strangers, i)
		}
	}
	looked := false
	for _, u := range p.called {
		if len(u.strangers) == 0 {
			continue
		}
		if !looked && p.cfg.Present != nil && p.missing() { // they may come in the place of others
			looked = true
			p.look()
		}
		if err := u.admit(candidates, p.turn); err != nil {
			return err
		}
	}
	p.absent = false
	for _, u := range p.units {
		u.among = u.among[:0]
		others := false
		for g := range u.seat {
			s := &u.seat[g]
			if !s.taken {
				continue
			}
			if s.turn != p.turn {
				others = others || !s.closed
				p.absent = p.absent || !s.gone
				continue
			}
			s.gone, s.drain = false, candidates[s.at].Drain
			u.open(g)
			u.among = append(u.among, g)
		}
		u.candidates = len(u.among)
		if !others {
			u.among = nil
		}
	}
	p.stale = false
	return nil
}

// missing reports whether some endpoint that is known is no candidate.
func (p *pool) missing() bool {
	for _, u := range p.units {
		for g := range u.seat {
			if s := &u.seat[g]; s.taken && s.turn != p.turn {
				return true
			}
		}
	}
	return false
}

// unit returns the unit of a name, which is made where it is new.
func (p *pool) unit(name string) (*unit, error) {
	for _, u := range p.units {
		if u.name == name {
			return u, nil
		}
	}
	b, err := p.make(name)
	if err != nil {
		return nil, err
	}
	u := newUnit(name, b)
	p.units = append(p.units, u)
	return u, nil
}

// look finds out which endpoints that were no candidates no longer exist.
func (p *pool) look() {
	exist := map[Name]bool{}
	for _, n := range p.cfg.Present() {
		exist[n] = true
	}
	for _, u := range p.units {
		for g := range u.seat {
			if s := &u.seat[g]; s.taken && s.turn != p.turn && !exist[s.name] {
				s.gone = true
				p.stale = u.vacate(g) || p.stale
			}
		}
	}
}

// sit notes that a request is on a rank.
func (p *pool) sit(u *unit, g int, key any, id uint64, now time.Time) *held {
	s := &u.seat[g]
	h := &held{key: key, unit: u, rank: g, at: len(s.held), id: id, since: now}
	s.held = append(s.held, h)
	if s.state == trial || s.state == shut { // the latter where there was no other
		s.state, h.probe = tried, true
		u.open(g)
	}
	p.book.add(h)
	return h
}

// rise takes a request off its seat; the balancer has been told.
func (p *pool) rise(h *held) {
	s := &h.unit.seat[h.rank]
	last := len(s.held) - 1
	s.held[h.at] = s.held[last]
	s.held[h.at].at = h.at
	s.held[last] = nil
	s.held = s.held[:last]
	if s.gone {
		p.stale = h.unit.vacate(h.rank) || p.stale
	}
}

// try adds a request where it has room: among candidates that fail only where there are
// no others, since any may be better than none.
func (p *pool) try(add func() (*unit, int, error)) (*unit, int, error) {
	u, g, err := add()
	if err != nil || g >= 0 {
		return u, g, err
	}
	if undo := p.force(); undo != nil {
		u, g, err = add()
		undo()
	}
	return u, g, err
}

// force opens the candidates that fail, where there are no others. It returns how to
// undo it; nil = there is nothing to open.
func (p *pool) force() func() {
	var opened []ill
	for _, u := range p.called {
		for g := range u.seat {
			s := &u.seat[g]
			if s.turn != p.turn || !s.taken {
				continue
			}
			if !s.closed {
				return nil
			}
			if !s.drain {
				opened = append(opened, ill{u, g})
			}
		}
	}
	if len(opened) == 0 {
		return nil
	}
	for _, x := range opened {
		x.set(x.rank, false)
	}
	return func() {
		for _, x := range opened {
			x.open(x.rank)
		}
	}
}
