package schedule

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Apply returns p, the placement the schedule starts from, after the first
// rounds of it; a number beyond its rounds means all. Until then it has the
// schedule's GPUSlots, of which some may be empty, and may lack experts that are
// not restored yet; after all rounds those of its end. It shares no memory with p
// and has no ReplicaRank. A *placement.Error says that p is not that placement:
// it has other slots, or a slot does not hold what the schedule would copy.
func (s *Schedule) Apply(p *placement.Placement, rounds int) (placement.Placement, error) {
	return s.Resume(p, 0, rounds)
}

// Resume returns p, the placement after the first done rounds, after so many
// rounds of the schedule in all: what a controller that starts anew goes on from.
func (s *Schedule) Resume(p *placement.Placement, done, rounds int) (placement.Placement, error) {
	q, err := s.run(p, done, rounds)
	if err == nil && max(done, rounds) >= len(s.Rounds) {
		q = onto(&q, s.After)
		err = q.Validate()
	}
	return q, err
}

// run is Resume on the slots of both placements.
func (s *Schedule) run(p *placement.Placement, done, rounds int) (placement.Placement, error) {
	if err := cmp.Or(p.Validate(), s.check()); err != nil {
		return placement.Placement{}, err
	}
	have := slotsOf(p)
	if !slices.ContainsFunc([][]int{s.Before, s.GPUSlots, s.After}, func(slots []int) bool { return slices.Equal(slots, have) }) {
		return placement.Placement{}, refuse.Errorf(placement.ErrShape, "schedule", "the placement has %d slots on %d GPUs, but the schedule %d on %d, or others of each", p.Slots(), p.GPUs, len(s.GPUOf()), len(s.GPUSlots))
	}
	if n := len(s.GPUOf()); n > placement.MaxCells/len(p.PhysicalToLogical) {
		return placement.Placement{}, refuse.Errorf(placement.ErrShape, "schedule", "%d layers of %d slots: at most %d slots in all are supported", len(p.PhysicalToLogical), n, placement.MaxCells)
	}
	q := onto(p, s.GPUSlots)
	rows := q.PhysicalToLogical
	for i := max(0, done); i < min(rounds, len(s.Rounds)); i++ {
		for _, m := range s.Rounds[i].Moves {
			if m.Layer >= len(rows) || m.From >= 0 && rows[m.Layer][m.From] != m.Expert {
				return placement.Placement{}, refuse.Errorf(placement.ErrValue, "schedule", "round %d: move %+v does not fit the placement: the schedule starts from another", i, m)
			}
		}
		for _, m := range s.Rounds[i].Moves {
			rows[m.Layer][m.To] = m.Expert
		}
	}
	return q, q.Validate()
}

// Prefix returns the first rounds of the schedule without the moves of layers
// that they would leave unfinished, which gain nothing yet and may be worse off
// half-moved; rounds that restore experts or empty GPUs which leave stay whole, and
// slots out of service are emptied all the same. It ends in the schedule's GPUSlots. Rounds
// keep their Seconds, StagedBytes and Peers, now upper bounds, and may have no moves; both
// bounds are 0. Restore and Emptied are those of its own rounds: a prefix that ends within
// such rounds need not hold every expert, nor leave GPUs empty. Whole rounds share their memory.
func (s *Schedule) Prefix(rounds int) Schedule {
	rounds = max(0, min(rounds, len(s.Rounds)))
	if rounds == len(s.Rounds) {
		return *s
	}
	out := *s
	out.Rounds, out.After = append([]Round{}, s.Rounds[:rounds]...), s.GPUSlots
	out.RoundsBound, out.SecondsBound = 0, 0
	gpu, last := s.GPUOf(), s.last()
	for i := s.forced(); i < rounds; i++ {
		r, whole := &out.Rounds[i], s.Rounds[i]
		r.Moves, r.Staged = []placement.Move{}, nil
		for k, m := range whole.Moves {
			if last[m.Layer] > rounds && !slices.Contains(s.Dead, at(gpu, m.To)) {
				continue
			}
			if slices.Contains(whole.Staged, k) {
				r.Staged = append(r.Staged, len(r.Moves))
			}
			r.Moves = append(r.Moves, m)
		}
	}
	out.sum()
	return out
}

// last is the number of rounds after which each layer that moves has ended.
func (s *Schedule) last() map[int]int {
	out := map[int]int{}
	for i, r := range s.Rounds {
		for _, m := range r.Moves {
			out[m.Layer] = i + 1
		}
	}
	return out
}

// sum adds up what the rounds say.
func (s *Schedule) sum() {
	gpu := s.GPUOf()
	s.Seconds, s.Restore, s.Emptied, s.Moves, s.Outside, s.StagedBytes, s.Peers = 0, 0, 0, 0, 0, 0, 0
	for i, r := range s.Rounds {
		s.Seconds += r.Seconds
		s.StagedBytes, s.Peers = max(s.StagedBytes, r.StagedBytes), max(s.Peers, r.Peers)
		for _, m := range r.Moves {
			switch to := at(gpu, m.To); {
			case m.Expert < 0 && slices.Contains(s.Leaving, to):
				s.Emptied = i + 1
			case m.Expert < 0:
			case m.From < 0:
				s.Moves++
				s.Outside++
				s.Restore = i + 1
			case at(gpu, m.From) != to:
				s.Moves++
			}
		}
	}
	s.Bytes = int64(s.Moves) * s.ExpertBytes
}
