package schedule

import (
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
	if err := p.Validate(); err != nil {
		return placement.Placement{}, err
	}
	done = max(0, min(done, len(s.Rounds)))
	rounds = max(done, min(rounds, len(s.Rounds)))
	have, want, shape := slotsOf(p), s.shape(done), s.shape(rounds)
	if done == 0 && slices.Equal(have, s.Before) { // also where nothing is to be done
		want = have
	}
	if !slices.Equal(have, want) {
		return placement.Placement{}, refuse.Errorf(placement.ErrShape, "schedule", "the placement has %d slots on %d GPUs, but the schedule, after %d rounds, %d on %d, or others of each",
			p.Slots(), len(have), done, len(gpusOf(want)), len(want))
	}
	q := placement.Placement{Experts: p.Experts, LayerExperts: slices.Clone(p.LayerExperts), GPUs: len(s.GPUSlots), PhysicalToLogical: reshape(p.PhysicalToLogical, want, s.GPUSlots)}
	for i := done; i < rounds; i++ {
		if err := s.do(i, q.PhysicalToLogical, q.Experts); err != nil {
			return placement.Placement{}, err
		}
	}
	q.GPUs, q.PhysicalToLogical = len(shape), reshape(q.PhysicalToLogical, s.GPUSlots, shape)
	if slices.ContainsFunc(shape, func(n int) bool { return n != shape[0] }) {
		q.GPUSlots = slices.Clone(shape)
	}
	return q, nil
}

// do makes the moves of round i.
func (s *Schedule) do(i int, rows [][]int, experts int) error {
	slots := len(gpusOf(s.GPUSlots))
	for _, m := range s.Rounds[i].Moves {
		if m.Layer < 0 || m.Layer >= len(rows) || m.To < 0 || m.To >= slots || m.From < -1 || m.From >= slots || m.Expert < -1 || m.Expert >= experts {
			return refuse.Errorf(placement.ErrShape, "schedule", "round %d: move %+v does not fit the placement", i, m)
		}
		if m.From >= 0 && rows[m.Layer][m.From] != m.Expert {
			return refuse.Errorf(placement.ErrValue, "schedule", "round %d: layer %d, slot %d holds expert %d, not %d: the schedule starts from another placement",
				i, m.Layer, m.From, rows[m.Layer][m.From], m.Expert)
		}
	}
	for _, m := range s.Rounds[i].Moves {
		rows[m.Layer][m.To] = m.Expert
	}
	return nil
}

// shape is the slots of each GPU after so many rounds, of some.
func (s *Schedule) shape(rounds int) []int {
	switch rounds {
	case len(s.Rounds):
		return s.After
	case 0:
		return s.Before
	}
	return s.GPUSlots
}

// Prefix returns the first rounds of the schedule without the moves of layers
// that they would leave unfinished, which gain nothing yet and may be worse off
// half-moved; rounds that restore experts stay whole, and slots out of service
// are emptied all the same. It ends in the schedule's GPUSlots, without any rounds
// where it starts. Rounds keep their Seconds, StagedBytes and Peers, now upper
// bounds, and may have no moves; both bounds are 0. Whole rounds share their memory.
func (s *Schedule) Prefix(rounds int) Schedule {
	rounds = max(0, min(rounds, len(s.Rounds)))
	if rounds == len(s.Rounds) {
		return *s
	}
	out := *s
	out.Rounds = append([]Round{}, s.Rounds[:rounds]...)
	if out.After = s.GPUSlots; rounds == 0 { // of the GPUs and slots that there are
		out.GPUSlots, out.After = s.Before, s.Before
		out.Dead, out.Leaving = below(s.Dead, len(s.Before)), below(s.Leaving, len(s.Before))
	}
	out.Restore, out.Emptied, out.RoundsBound, out.SecondsBound = min(s.Restore, rounds), 0, 0, 0
	unfinished := map[int]bool{}
	for _, r := range s.Rounds[rounds:] {
		for _, m := range r.Moves {
			unfinished[m.Layer] = true
		}
	}
	gpu := s.GPUOf()
	for i := out.Restore; i < rounds; i++ {
		r, whole := &out.Rounds[i], s.Rounds[i]
		r.Moves, r.Staged = []placement.Move{}, nil
		for k, m := range whole.Moves {
			// A schedule of another make may have slots of no GPU.
			if unfinished[m.Layer] && !(m.To < len(gpu) && slices.Contains(s.Dead, gpu[m.To])) {
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

// below is the GPUs of a list in order whose numbers are so small.
func below(gpus []int, n int) []int {
	k, _ := slices.BinarySearch(gpus, n)
	return append([]int(nil), gpus[:k]...)
}

// sum adds up what the rounds say.
func (s *Schedule) sum() {
	gpu := s.GPUOf()
	s.Seconds, s.Moves, s.Outside, s.StagedBytes, s.Peers = 0, 0, 0, 0, 0
	for _, r := range s.Rounds {
		s.Seconds += r.Seconds
		s.StagedBytes, s.Peers = max(s.StagedBytes, r.StagedBytes), max(s.Peers, r.Peers)
		for _, m := range r.Moves {
			switch {
			case m.Expert < 0:
			case m.From < 0:
				s.Moves++
				s.Outside++
			case max(m.From, m.To) >= len(gpu) || gpu[m.From] != gpu[m.To]:
				s.Moves++
			}
		}
	}
	s.Bytes = int64(s.Moves) * s.ExpertBytes
}

// GPUOf returns the GPU of each slot, numbered over GPUSlots.
func (s *Schedule) GPUOf() []int { return gpusOf(s.GPUSlots) }
