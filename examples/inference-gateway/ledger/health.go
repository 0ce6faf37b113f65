package ledger

import "time"

// health is what is known of whether an endpoint answers. One that fails is shut
// for a while, then open for a single request, which tries it: the while doubles
// with each try that fails. So an endpoint that answers errors at once, whose rank
// looks idle for that, draws a request now and then, and comes back by itself.
type health struct {
	strikes int // how often it failed, less how often it answered since
	doubts  int // ends in a row that may be its fault or not
	state   standing
	until   time.Time // shut: as long as this, and
	turn    uint64    // until so many picks were made
}

type standing uint8

const (
	sound standing = iota
	shut           // it failed, and gets nothing
	trial          // it gets the next request that suits it
	tried          // that request is there
)

const (
	firstShut  = time.Second
	mostShut   = 7 // doublings: two minutes, and as many picks in seconds
	mostDoubts = 3 // in a row are a failure
)

// fails notes a failure, by a request that tried it or while it was sound: those that
// came before it was shut say nothing new.
func (h *health) fails(now time.Time, turn uint64) {
	h.doubts = 0
	h.state = shut
	h.until = now.Add(firstShut << min(h.strikes, mostShut))
	h.strikes = min(h.strikes+1, mostShut+1)
	h.turn = turn + 1<<min(h.strikes, mostShut)
}

// answers notes that it has answered.
func (h *health) answers() {
	h.doubts, h.state = 0, sound
	h.strikes = max(h.strikes-1, 0)
}

// told takes in what a request's end, or its first answer, says of its endpoint.
func (p *pool) told(h *held, how End, now time.Time) {
	s := &h.unit.seat[h.rank]
	if s.state != sound && !h.probe {
		return
	}
	switch {
	case how == Finished:
		if s.answers(); h.probe && !p.sound(s) {
			p.retry() // what all suffered from may be over
		}
	case how == Failed:
		s.fails(now, p.picks)
	case how == Cut && h.answered.Load():
		return
	default: // cut before it was answered, or refused
		if s.doubts++; s.doubts >= mostDoubts || h.probe {
			s.fails(now, p.picks)
		}
	}
	h.probe = false
	p.attend(h.unit, h.rank)
}

// sound reports whether an endpoint other than one may be given requests.
func (p *pool) sound(but *seat) bool {
	for _, u := range p.units {
		for g := range u.seat {
			if s := &u.seat[g]; s != but && s.taken && !s.gone && !s.drain && s.state == sound {
				return true
			}
		}
	}
	return false
}

// retry lets all that are shut be tried now.
func (p *pool) retry() {
	for _, x := range p.ills {
		if s := &x.seat[x.rank]; s.state == shut {
			s.state = trial
			x.open(x.rank)
		}
	}
}

// attend puts a seat that fails among those that are looked at with each pick, and
// its rank in or out of service.
func (p *pool) attend(u *unit, rank int) {
	s := &u.seat[rank]
	if s.state != sound && !s.ill {
		s.ill = true
		p.ills = append(p.ills, ill{u, rank})
	}
	u.open(rank)
}

// ill is a seat that has failed and not answered since.
type ill struct {
	*unit
	rank int
}

// wake opens the seats that are to be tried.
func (p *pool) wake(now time.Time) {
	rest := p.ills[:0]
	for _, x := range p.ills {
		s := &x.seat[x.rank]
		if s.state == sound || !s.taken {
			s.ill = false
			continue
		}
		rest = append(rest, x)
		if s.state == shut && !now.Before(s.until) && p.picks >= s.turn {
			s.state = trial
			x.open(x.rank)
		}
	}
	clear(p.ills[len(rest):])
	p.ills = rest
}
