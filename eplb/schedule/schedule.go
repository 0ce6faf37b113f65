package schedule

import (
	"cmp"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Options say how fast a schedule may go; the zero value is the
// documented default.
type Options struct {
	// ExpertBytes is the size of one expert's weights in one layer
	// (placement.Model.ExpertBytes). 0 = unknown: no seconds are predicted.
	ExpertBytes int64
	// PerGPU is how many copies a GPU may send, and how many it may receive, in
	// one round; it is also how many it must have room to stage. 0 = 1.
	PerGPU int
	// RDMAPerGPU is how many of them may go over RDMA, in from outside the unit
	// included; 0 = all. NVLink is 3.6 times as fast on H800, so rounds of 4 copies,
	// 1 of them over RDMA, keep both links busy.
	RDMAPerGPU int
	// LayersAtOnce is how many layers may change in one round; 0 = 8. Several
	// fill the links that one layer leaves idle; few keep a schedule that is cut
	// short from leaving many layers half-moved.
	LayersAtOnce int
	// Worth is what each layer gains by its moves, [layers], in any unit: the
	// layer of the most worth a copy goes first. nil = in the order of layers.
	Worth []float64
}

// Round is copies that run at the same time.
type Round struct {
	// Moves are ordered by layer as the schedule takes them, then by To. Beside
	// copies between GPUs there are three kinds that no link between them carries:
	// From and To on one GPU, a copy within its memory; From = -1 with an expert,
	// weights that no GPU in service holds any more and that are read from outside
	// the unit; Expert = From = -1, a slot that is emptied.
	Moves []placement.Move
	// Seconds is the largest bytes/bandwidth of a GPU's NVLink or RDMA in one
	// direction. Copies within a GPU take none; weights from outside count as
	// received over RDMA.
	Seconds float64
}

// Schedule is rounds of moves that lead from one placement to another.
//
// All reads of a round see the slots as they were at its start: a GPU stages
// what it receives and swaps it in at the round's end. So two GPUs exchange
// experts in one round. A GPU sends at most PerGPU copies a round and receives
// at most PerGPU; what it reads from its own memory is not counted.
type Schedule struct {
	Rounds []Round
	// Seconds is the sum over the rounds, 0 unless Priced.
	Seconds float64
	// Priced is false where the size of an expert or the bandwidth of a link that
	// a move takes is unknown: then no seconds are predicted.
	Priced bool
	// Moves counts the copies received from other GPUs or from outside, Bytes
	// their size.
	Moves int
	Bytes int64
	// Restore is how many rounds at the start bring back experts that have no
	// copy on a GPU in service. After each later round, and after each at all
	// where it is 0, every expert of every layer has one.
	Restore int
	// RoundsBound and SecondsBound are proved: no schedule under the same limits
	// that copies experts only to GPUs that are to keep them has fewer rounds or,
	// over the same links, takes less time.
	RoundsBound  int
	SecondsBound float64

	gpuOf       []int // GPU of each slot, -1 = out of service
	expertBytes int64
}

// New orders the copies that lead from prev, the placement in force, to
// next: same layers, experts, GPUs and slots of each GPU, next with nothing on
// the GPUs that t puts out of service. Slots with the same expert in both are
// left alone.
//
// No expert loses its last copy: after any number of rounds (Restore at least)
// the placement is valid. Each copy is read from a GPU that holds it at the round's start: on the
// same node where one there has a send to spare, else the least busy. A GPU out
// of service is never read; its slots are emptied in the first round, and what
// lived nowhere else is restored first, in rounds of its own that LayersAtOnce
// does not bind. Then layers go in the order of their worth a copy,
// at most LayersAtOnce unfinished ones at a time, each taking what links the
// ones before it leave idle. An expert whose slot is not free yet is first put
// in another slot of its GPU and copied over at the end.
//
// Bad input is a *placement.Error. Cost: each round, a pass over the slots of at
// most LayersAtOnce layers and PerGPU matchings of their senders and receivers.
func New(prev, next *placement.Placement, t placement.Topology, o Options) (Schedule, error) {
	if err := validateSchedule(prev, next, &t, &o); err != nil {
		return Schedule{}, err
	}
	s := newScheduler(prev, next, &t, &o)
	order := s.layerOrder(o.Worth)
	out := Schedule{Priced: o.ExpertBytes > 0, gpuOf: slices.Clone(s.gpuOf), expertBytes: o.ExpertBytes}
	for i, g := range out.gpuOf {
		if !s.live[g] {
			out.gpuOf[i] = -1
		}
	}
	b := s.bound(order, &t, &o)
	out.RoundsBound, out.SecondsBound = b.rounds, b.seconds
	price := newRoundPrice(&t, s, o.ExpertBytes)
	add := func() {
		r := Round{Moves: s.takeMoves()}
		copies, known := price.of(&r)
		out.Moves += copies
		out.Priced = out.Priced && known
		out.Rounds = append(out.Rounds, r)
	}
	s.emptyDead(prev)
	s.startRound()
	for s.lostLayers(order) {
		s.restoreRound(order)
		add()
		s.startRound()
	}
	out.Restore = len(out.Rounds)
	first := 0
	for {
		for first < len(order) && s.left[order[first]] == 0 {
			first++
		}
		if first == len(order) {
			break
		}
		s.round(order[first:], o.LayersAtOnce)
		add()
		s.startRound()
	}
	if len(s.moves) > 0 { // nothing but slots out of service to be emptied
		add()
	}
	out.Bytes = int64(out.Moves) * o.ExpertBytes
	for i := range out.Rounds {
		if !out.Priced {
			out.Rounds[i].Seconds = 0
		}
		out.Seconds += out.Rounds[i].Seconds
	}
	if !out.Priced {
		out.SecondsBound = 0
	}
	return out, nil
}

// Apply returns p, the placement the schedule starts from, after the first
// rounds of it; a number beyond its rounds means all. It shares no memory with
// p and has no ReplicaRank. A *placement.Error says that p is not that
// placement: a slot does not hold what the schedule would copy.
func (s *Schedule) Apply(p *placement.Placement, rounds int) (placement.Placement, error) {
	if err := p.Validate(); err != nil {
		return placement.Placement{}, err
	}
	q := p.Clone()
	q.ReplicaRank = nil
	slots := p.Slots()
	for i := range s.Rounds[:max(0, min(rounds, len(s.Rounds)))] {
		moves := s.Rounds[i].Moves
		for _, m := range moves {
			if m.Layer < 0 || m.Layer >= len(q.PhysicalToLogical) || m.To < 0 || m.To >= slots || m.From < -1 || m.From >= slots || m.Expert < -1 || m.Expert >= q.Experts {
				return placement.Placement{}, refuse.Errorf(placement.ErrShape, "schedule", "round %d: move %+v does not fit the placement", i, m)
			}
			if m.From >= 0 && q.PhysicalToLogical[m.Layer][m.From] != m.Expert {
				return placement.Placement{}, refuse.Errorf(placement.ErrValue, "schedule", "round %d: layer %d, slot %d holds expert %d, not %d: the schedule starts from another placement",
					i, m.Layer, m.From, q.PhysicalToLogical[m.Layer][m.From], m.Expert)
			}
		}
		for _, m := range moves {
			q.PhysicalToLogical[m.Layer][m.To] = m.Expert
		}
	}
	return q, nil
}

// Prefix returns the first rounds of the schedule without the moves of layers
// that they would leave unfinished, which gain nothing yet and may be worse off
// half-moved; rounds that restore experts stay whole, and slots out of service
// are emptied all the same. Rounds keep their Seconds, now an upper bound, and
// may have no moves; both bounds are 0. Whole rounds share their memory.
func (s *Schedule) Prefix(rounds int) Schedule {
	rounds = max(0, min(rounds, len(s.Rounds)))
	if rounds == len(s.Rounds) {
		return *s
	}
	out := Schedule{Rounds: make([]Round, rounds), Priced: s.Priced, Restore: min(s.Restore, rounds), gpuOf: s.gpuOf, expertBytes: s.expertBytes}
	unfinished := map[int]bool{}
	for _, r := range s.Rounds[rounds:] {
		for _, m := range r.Moves {
			unfinished[m.Layer] = true
		}
	}
	for i, r := range s.Rounds[:rounds] {
		out.Rounds[i] = r
		out.Seconds += r.Seconds
		if i >= s.Restore {
			out.Rounds[i].Moves = slices.DeleteFunc(slices.Clone(r.Moves), func(m placement.Move) bool {
				return unfinished[m.Layer] && s.gpu(m.To) >= 0
			})
		}
	}
	for _, r := range out.Rounds {
		for _, m := range r.Moves {
			if m.Expert >= 0 && (m.From < 0 || s.gpu(m.From) != s.gpu(m.To)) {
				out.Moves++
			}
		}
	}
	out.Bytes = int64(out.Moves) * s.expertBytes
	return out
}

// gpu is the GPU of a slot, -1 = out of service. In a schedule that New
// did not make, every slot counts as a GPU of its own.
func (s *Schedule) gpu(slot int) int {
	if slot < len(s.gpuOf) {
		return s.gpuOf[slot]
	}
	return slot
}

// layerOrder lists the layers that change, the most worthwhile first.
func (s *scheduler) layerOrder(worth []float64) []int {
	var order []int
	each := make([]float64, len(s.cur))
	for l := range s.cur {
		if s.left[l] == 0 {
			continue
		}
		order = append(order, l)
		if worth != nil {
			s.load(l)
			each[l] = worth[l] / float64(max(1, len(s.req)))
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(each[b], each[a]) })
	return order
}

func validateSchedule(prev, next *placement.Placement, t *placement.Topology, o *Options) error {
	if err := prev.Validate(); err != nil {
		return err
	}
	if err := next.Validate(); err != nil {
		return err
	}
	if err := t.Validate(); err != nil {
		return err
	}
	layers := len(prev.PhysicalToLogical)
	switch {
	case len(next.PhysicalToLogical) != layers || next.Experts != prev.Experts || next.GPUs != prev.GPUs:
		return refuse.Errorf(placement.ErrShape, "previous", "%d layers, %d experts, %d GPUs, but the next placement has %d, %d, %d",
			layers, prev.Experts, prev.GPUs, len(next.PhysicalToLogical), next.Experts, next.GPUs)
	case !slices.Equal(prev.FirstSlots(), next.FirstSlots()):
		return refuse.Errorf(placement.ErrShape, "previous", "its GPUs have other numbers of slots than those of the next placement")
	case t.GPUs != prev.GPUs:
		return refuse.Errorf(placement.ErrShape, "num_gpus", "the placement has %d, the topology %d", prev.GPUs, t.GPUs)
	case layers*prev.Slots() > placement.MaxCells:
		return refuse.Errorf(placement.ErrValue, "previous", "%d layers of %d slots: at most %d slots in all are supported", layers, prev.Slots(), placement.MaxCells)
	case o.ExpertBytes < 0 || o.ExpertBytes > maxExpertBytes:
		return refuse.Errorf(placement.ErrValue, "expert_bytes", "%d: between 0 and %d are supported", o.ExpertBytes, int64(maxExpertBytes))
	case o.PerGPU < 0:
		return refuse.Errorf(placement.ErrValue, "per_gpu", "%d is negative", o.PerGPU)
	case o.RDMAPerGPU < 0:
		return refuse.Errorf(placement.ErrValue, "rdma_per_gpu", "%d is negative", o.RDMAPerGPU)
	case o.LayersAtOnce < 0:
		return refuse.Errorf(placement.ErrValue, "layers_at_once", "%d is negative", o.LayersAtOnce)
	case o.Worth != nil && len(o.Worth) != layers:
		return refuse.Errorf(placement.ErrShape, "worth", "%d entries for %d layers", len(o.Worth), layers)
	}
	for l, w := range o.Worth {
		if math.IsNaN(w) || math.IsInf(w, 0) {
			return &placement.Error{Field: "worth", Layer: l, Index: -1, Kind: placement.ErrValue, Detail: "not a finite number"}
		}
	}
	first := next.FirstSlots()
	for g := range next.GPUs {
		if t.SpeedOf(g) > 0 {
			continue
		}
		for l, row := range next.PhysicalToLogical {
			for s := first[g]; s < first[g+1]; s++ {
				if row[s] >= 0 {
					return &placement.Error{Field: "physical_to_logical_map", Layer: l, Index: s, Kind: placement.ErrFit,
						Detail: "the next placement has an expert on a GPU that is out of service"}
				}
			}
		}
	}
	if o.PerGPU == 0 {
		o.PerGPU = 1
	}
	if o.LayersAtOnce == 0 {
		o.LayersAtOnce = 8
	}
	o.PerGPU = min(o.PerGPU, placement.MaxSlots)
	if o.RDMAPerGPU == 0 {
		o.RDMAPerGPU = o.PerGPU
	}
	o.RDMAPerGPU = min(o.RDMAPerGPU, o.PerGPU)
	o.LayersAtOnce = min(o.LayersAtOnce, layers)
	return nil
}

// maxExpertBytes keeps the bytes of any schedule within an int64.
const maxExpertBytes = 1 << 36
