package ledger

import (
	"cmp"
	"slices"
	"time"
)

// ranked is what seats need of a balancer.
type ranked interface {
	Restore(rank int) error
	Resize(ranks int) error
	vacate(rank int) // takes an empty rank out of service, with all that it was told
}

// seats gives endpoints ranks of a balancer. An endpoint that was not known takes
// a free rank, the lowest; several take theirs in the order of their names. It
// keeps it until it no longer exists and what ran on it has ended; a rank that
// nobody has is out of service.
type seats struct {
	unit    ranked
	present func() []Name // the endpoints that exist; nil = all
	rank    map[Name]int
	seat    []seat
	turn    uint64 // picks made
	among   []int  // the latest pick's ranks
	looked  time.Time
}

type seat struct {
	name  Name
	taken bool
	gone  bool       // its endpoint no longer exists
	held  int        // requests on it
	turn  uint64     // the latest pick that it was a candidate of
	at    int        // its place among the candidates then
	told  time.Time  // decode: when its endpoint last said what it has
	left  []released // since then
}

// lookEvery is how often it is asked which endpoints exist, while some of those
// known are no candidates.
const lookEvery = time.Second

// newSeats takes over a unit of one rank in service.
func newSeats(unit ranked, present func() []Name) seats {
	return seats{unit: unit, present: present, rank: map[Name]int{}, seat: make([]seat, 1)}
}

// call returns the ranks of the candidates, which are a pick's to choose from; nil =
// all in service. They are valid until the next call.
func (s *seats) call(candidates []Candidate, now time.Time) ([]int, error) {
	s.turn++
	var strangers []int
	for i := range candidates {
		if g, ok := s.rank[candidates[i].Name]; ok {
			s.seat[g].turn, s.seat[g].at = s.turn, i
		} else {
			strangers = append(strangers, i)
		}
	}
	if len(strangers) > 0 {
		if err := s.admit(candidates, strangers); err != nil {
			return nil, err
		}
	}
	s.among = s.among[:0]
	absent, others := false, false
	for g := range s.seat {
		t := &s.seat[g]
		if t.turn == s.turn {
			t.gone = false
			s.among = append(s.among, g)
			continue
		}
		others = others || t.taken
		absent = absent || t.taken && !t.gone
	}
	if absent && s.present != nil && now.Sub(s.looked) >= lookEvery {
		s.looked = now
		s.look()
	}
	if !others {
		return nil, nil
	}
	return s.among, nil
}

// admit gives ranks to candidates that have none.
func (s *seats) admit(candidates []Candidate, strangers []int) error {
	free := 0
	for g := range s.seat {
		if !s.seat[g].taken {
			free++
		}
	}
	if n := len(s.seat) + len(strangers) - free; n > len(s.seat) {
		if err := s.unit.Resize(n); err != nil {
			return err
		}
		for len(s.seat) < n {
			s.seat = append(s.seat, seat{})
		}
	}
	slices.SortFunc(strangers, func(i, j int) int {
		a, b := candidates[i].Name, candidates[j].Name
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	g := 0
	for _, i := range strangers {
		name := candidates[i].Name
		if _, ok := s.rank[name]; ok {
			continue // named twice
		}
		for s.seat[g].taken {
			g++
		}
		if err := s.unit.Restore(g); err != nil {
			return err
		}
		s.rank[name] = g
		s.seat[g] = seat{name: name, taken: true, turn: s.turn, at: i}
	}
	return nil
}

// look finds out which endpoints that were no candidates no longer exist.
func (s *seats) look() {
	exist := map[Name]bool{}
	for _, n := range s.present() {
		exist[n] = true
	}
	for g := range s.seat {
		if t := &s.seat[g]; t.taken && t.turn != s.turn && !exist[t.name] {
			t.gone = true
			s.vacate(g)
		}
	}
}

// leave says that a request has left a rank.
func (s *seats) leave(g int) {
	s.seat[g].held--
	s.vacate(g)
}

// vacate frees the rank of an endpoint that no longer exists once it is empty.
func (s *seats) vacate(g int) {
	if t := &s.seat[g]; t.gone && t.held == 0 {
		delete(s.rank, t.name)
		s.unit.vacate(g)
		*t = seat{turn: t.turn}
	}
}
