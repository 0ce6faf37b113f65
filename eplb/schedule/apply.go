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
	done, rounds = max(0, min(done, len(s.Rounds))), max(0, min(rounds, len(s.Rounds)))
	have, want := slotsOf(p), s.shape(done, s.Before)
	if len(s.Rounds) == 0 && slices.Equal(have, s.After) {
		want = s.After // nothing was to be done
	}
	if !slices.Equal(have, want) {
		return placement.Placement{}, refuse.Errorf(placement.ErrShape, "schedule", "the placement has %d slots on %d GPUs, but the schedule, after %d rounds, %d on %d, or others of each",
			sum(have), len(have), done, sum(want), len(want))
	}
	q := placement.Placement{Experts: p.Experts, LayerExperts: slices.Clone(p.LayerExperts), GPUs: len(s.GPUSlots), PhysicalToLogical: reshape(p.PhysicalToLogical, want, s.GPUSlots)}
	for i := done; i < rounds; i++ {
		if err := s.do(i, &q); err != nil {
			return placement.Placement{}, err
		}
	}
	shape := want
	if rounds >= done {
		shape = s.shape(rounds, s.After)
	}
	q.GPUs = len(shape)
	q.PhysicalToLogical = reshape(q.PhysicalToLogical, s.GPUSlots, shape)
	if slices.ContainsFunc(shape, func(n int) bool { return n != shape[0] }) {
		q.GPUSlots = slices.Clone(shape)
	}
	return q, nil
}

// do makes the moves of round i in q.
func (s *Schedule) do(i int, q *placement.Placement) error {
	slots, rows := q.Slots(), q.PhysicalToLogical
	for _, m := range s.Rounds[i].Moves {
		if m.Layer < 0 || m.Layer >= len(rows) || m.To < 0 || m.To >= slots || m.From < -1 || m.From >= slots || m.Expert < -1 || m.Expert >= q.Experts {
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

// shape is the slots of each GPU after so many rounds; none is what it is without
// any round to do.
func (s *Schedule) shape(rounds int, none []int) []int {
	switch {
	case len(s.Rounds) == 0:
		return none
	case rounds == 0:
		return s.Before
	case rounds == len(s.Rounds):
		return s.After
	}
	return s.GPUSlots
}

func sum(list []int) int {
	n := 0
	for _, x := range list {
		n += x
	}
	return n
}

// Prefix returns the first rounds of the schedule without the moves of layers
// that they would leave unfinished, which gain nothing yet and may be worse off
// half-moved; rounds that restore experts stay whole, and slots out of service
// are emptied all the same. It ends in the schedule's GPUSlots. Rounds keep their
// Seconds, StagedBytes and Peers, now upper bounds, and may have no moves; both
// bounds are 0. Whole rounds share their memory.
func (s *Schedule) Prefix(rounds int) Schedule {
	rounds = max(0, min(rounds, len(s.Rounds)))
	if rounds == len(s.Rounds) {
		return *s
	}
	out := *s
	out.Rounds = make([]Round, rounds)
	if out.After = s.GPUSlots; rounds == 0 {
		out.After = s.Before
	}
	out.Restore = min(s.Restore, rounds)
	out.Emptied, out.Moves, out.Outside, out.Seconds, out.StagedBytes, out.Peers, out.RoundsBound, out.SecondsBound = 0, 0, 0, 0, 0, 0, 0, 0
	unfinished := map[int]bool{}
	for _, r := range s.Rounds[rounds:] {
		for _, m := range r.Moves {
			unfinished[m.Layer] = true
		}
	}
	of := s.GPUOf()
	gpu := func(slot int) int { // a schedule of another make may have slots of no GPU
		if slot < len(of) {
			return of[slot]
		}
		return len(s.GPUSlots) + slot
	}
	for i, r := range s.Rounds[:rounds] {
		if i >= s.Restore {
			r = r.without(func(m placement.Move) bool {
				return unfinished[m.Layer] && !slices.Contains(s.Dead, gpu(m.To))
			})
		}
		out.Rounds[i] = r
		out.Seconds += r.Seconds
		out.StagedBytes, out.Peers = max(out.StagedBytes, r.StagedBytes), max(out.Peers, r.Peers)
		for _, m := range r.Moves {
			switch {
			case m.Expert < 0:
			case m.From < 0:
				out.Moves++
				out.Outside++
			case gpu(m.From) != gpu(m.To):
				out.Moves++
			}
		}
	}
	out.Bytes = int64(out.Moves) * s.ExpertBytes
	return out
}

// without is the round without some of its moves.
func (r Round) without(out func(placement.Move) bool) Round {
	moves, staged := r.Moves, r.Staged
	r.Moves, r.Staged = nil, nil
	for i, m := range moves {
		if out(m) {
			continue
		}
		if slices.Contains(staged, i) {
			r.Staged = append(r.Staged, len(r.Moves))
		}
		r.Moves = append(r.Moves, m)
	}
	return r
}

// GPUOf returns the GPU of each slot, numbered over GPUSlots.
func (s *Schedule) GPUOf() []int {
	var out []int
	for g, n := range s.GPUSlots {
		for range n {
			out = append(out, g)
		}
	}
	return out
}
