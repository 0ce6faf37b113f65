package simulate

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// Failure takes ranks of a unit away from a second on, with all that they hold, and
// gives them back, empty, at another.
type Failure struct {
	Second, Until float64
	Decode        bool // of a decode unit; false = of a prefill unit
	Unit          int
	Rank, Ranks   int // the first and how many; Ranks 0 = all of the unit
}

// FailureError says that a failure cannot be: of which, and why.
type FailureError struct {
	Index  int
	Detail string
}

func (e *FailureError) Error() string { return fmt.Sprintf("failure %d: %s", e.Index, e.Detail) }

// validFailures checks that failures are of ranks of units that the plan has.
func (c *Config) validFailures() error {
	for i, f := range c.Failures {
		units, ranks := 0, c.Prefill.Groups()
		if f.Decode {
			ranks = c.Decode.Ranks()
		}
		for _, s := range c.Plan {
			if f.Decode {
				units = max(units, s.Fleet.Decode)
			} else {
				units = max(units, s.Fleet.Prefill)
			}
		}
		bad := ""
		switch {
		case !(f.Second >= 0 && f.Until > f.Second && f.Until <= maxSeconds):
			bad = fmt.Sprintf("from second %v to %v: they must rise, from 0 to %d", f.Second, f.Until, maxSeconds)
		case f.Unit < 0 || f.Unit >= units:
			bad = fmt.Sprintf("unit %d: there are %d, numbered from 0", f.Unit, units)
		case f.Rank < 0 || f.Ranks < 0 || f.Rank > ranks || f.Rank+f.Ranks > ranks:
			bad = fmt.Sprintf("ranks %d to %d of %d", f.Rank, f.Rank+f.Ranks-1, ranks)
		}
		if bad != "" {
			return &FailureError{i, bad}
		}
	}
	return nil
}

// outage is a failure's begin or end.
type outage struct {
	at   int64
	back bool
	Failure
}

// outages lists what happens to ranks, in order of time.
func outages(all []Failure) []outage {
	var out []outage
	for _, f := range all {
		out = append(out, outage{int64(f.Second * second), false, f}, outage{int64(f.Until * second), true, f})
	}
	slices.SortStableFunc(out, func(a, b outage) int { return int(max(-1, min(1, a.at-b.at))) })
	return out
}

// mortal is a policy that is told of ranks that die and return; others keep placing
// on them, and are refused.
type mortal interface{ Restore(rank int) error }
type mortalDecode interface {
	mortal
	Dead(dst []decode.Lost, rank int) ([]decode.Lost, error)
}
type mortalPrefill interface {
	mortal
	Dead(dst []prefill.Lost, rank int) ([]prefill.Lost, error)
}

// strike applies an outage.
func (s *sim) strike(o outage) error {
	n, groups := len(s.prefill), s.Prefill.Groups()
	if o.Decode {
		n, groups = len(s.decode), s.Decode.Ranks()
	}
	if o.Unit >= n {
		return nil // not up yet
	}
	if o.Ranks == 0 {
		o.Rank, o.Ranks = 0, groups
	}
	if o.Decode {
		return s.strikeDecode(s.decode[o.Unit], o)
	}
	return s.strikePrefill(s.prefill[o.Unit], o)
}

func (s *sim) strikeDecode(u *decodeUnit, o outage) error {
	m, told := u.placer.(mortalDecode)
	for r := o.Rank; r < o.Rank+o.Ranks; r++ {
		if u.dead[r] != o.back {
			continue // so already
		}
		u.dead[r] = !o.back
		if o.back {
			if told {
				s.check(m.Restore(r))
			}
			continue
		}
		s.failures++
		lost := 0
		if told {
			l, err := m.Dead(nil, r)
			s.check(err)
			lost = len(l)
			s.unknown = true
		}
		if told && lost != int(u.N[r]) {
			s.check(&ConservationError{fmt.Sprintf("decode rank %d died with %d requests, its balancer says %d", r, u.N[r], lost)})
		}
		for u.Latest(r) >= 0 {
			s.sendBack(u, u.Latest(r))
		}
		s.unknown = false
	}
	share, stall, err := s.experts[1].Without(u.dead, 1)
	if err != nil {
		return err
	}
	u.clock.experts, u.experts = share, own(share, s.experts[1])
	u.clock.total = 0 // drawn anew
	u.stall += stall
	u.active = s.serves(1, u.index, s.Plan[s.plan].Fleet.Decode, u.dead)
	if !u.active {
		wait := u.wait
		u.wait = nil
		for _, id := range wait {
			f := &s.flights[id]
			u.holds -= float64(f.KV())
			s.queued--
			s.assign(id, f.KV(), max(s.now, f.Ready))
		}
	}
	s.activate(&u.unitState, u.active, u.Total == 0 && len(u.wait) == 0)
	if u.next == never && len(u.wait) > 0 {
		u.next = s.now
	}
	return nil
}

// serves says whether a unit takes requests: it is of the fleet, and some rank of it
// lives or no other unit serves.
func (s *sim) serves(phase, index, fleet int, dead []bool) bool {
	if index >= fleet {
		return false
	}
	if slices.Contains(dead, false) {
		return true
	}
	for i, u := range s.units[phase] {
		if i != index && u.active {
			return false
		}
	}
	return true
}

// own is a unit's experts where they are not those of all.
func own(unit, all *experts.Experts) *experts.Experts {
	if unit == all {
		return nil
	}
	return unit
}

func (s *sim) strikePrefill(u *prefillUnit, o outage) error {
	m, told := u.Former.(mortalPrefill)
	if !told {
		return fmt.Errorf("prefill policy %s: is not told of failures", s.Policy.Prefill.Name)
	}
	for r := o.Rank; r < o.Rank+o.Ranks; r++ {
		if u.dead[r] != o.back {
			continue
		}
		u.dead[r] = !o.back
		if o.back {
			s.check(m.Restore(r))
			continue
		}
		s.failures++
		lost, err := m.Dead(nil, r)
		s.check(err)
		for _, q := range lost {
			f := &s.flights[q.ID]
			s.count.again += int64(f.Done - f.Cached)
			u.holds += s.work(int64(f.Input-f.Cached), int64(f.Cached)) - s.work(int64(f.Input-f.Done), int64(f.Done))
			f.Done, f.Rank = f.Cached, -1
		}
		u.Chunks = slices.DeleteFunc(u.Chunks, func(c prefill.Chunk) bool { return u.stepping && c.Rank == r })
	}
	share, stall, err := s.experts[0].Without(u.dead, s.Prefill.Ranks()/s.Prefill.Groups())
	if err != nil {
		return err
	}
	u.clock.experts, u.experts = share, own(share, s.experts[0])
	u.stall += stall
	u.active = s.serves(0, u.index, s.Plan[s.plan].Fleet.Prefill, u.dead)
	s.activate(&u.unitState, u.active, u.queued == 0)
	if u.next == never && u.queued > 0 {
		u.next = s.now
	}
	return nil
}
