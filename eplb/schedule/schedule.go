package schedule

import (
	"cmp"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Options say how fast a schedule may go and what memory it may take; the zero
// value is the documented default.
type Options struct {
	// ExpertBytes is the size of one expert's weights in one layer
	// (placement.Model.ExpertBytes). 0 = unknown: no seconds are predicted.
	ExpertBytes int64
	// PerGPU is how many copies a GPU may send, and how many it may receive, in
	// one round. 0 = 1.
	PerGPU int
	// RDMAPerGPU is how many of them may go over RDMA; 0 = all. NVLink is 3.6 times
	// as fast on H800, so rounds of 4 copies, 1 of them over RDMA, keep both links
	// busy.
	RDMAPerGPU int
	// PeersPerGPU is to how many other GPUs a GPU may send, and from how many it
	// may receive, in one round; 0 = any number.
	PeersPerGPU int
	// InPlace says that the engine runs a round's copies in the order of its Moves,
	// each straight into its slot, so that only a cycle of slots needs staging: one
	// expert each. Without it a GPU stages all slots that a round rewrites.
	InPlace bool
	// StagedBytes bounds what a GPU stages in one round; 0 = no bound. It wants
	// ExpertBytes, and room for two experts, for one in place.
	StagedBytes int64
	// Outside is the bandwidth in bytes a second at which a GPU reads weights that
	// no GPU holds, from host memory or disk. 0 = they come over RDMA, and count
	// there.
	Outside float64
	// Leaving lists GPUs of the next placement that are out of service, but whose
	// memory can still be read. GPUs that the next placement lacks are leaving
	// unless the topology has them out of service.
	Leaving []int
	// LayersAtOnce is how many layers may be left half-moved by a round: few keep a
	// schedule that is cut short from having moved for nothing, several fill the
	// links that one layer leaves idle. 0 = the fewest of 8, 16, 32, … with which the
	// rounds are within a tenth of their bound, or most keep no layer from idle links.
	// What restores experts and empties GPUs that leave is not bound by it.
	LayersAtOnce int
	// Worth is what each layer gains by its moves, [layers], in any unit: the
	// layer of the most worth a copy goes first. nil = in the order of layers.
	Worth []float64
}

// Round is copies that run at the same time, or in place one after the other.
type Round struct {
	// Seconds is the largest bytes/bandwidth of a GPU's NVLink, RDMA or Outside, in
	// one direction. Copies within a GPU take none.
	Seconds float64 `json:"seconds"`
	// StagedBytes and Peers are the most that a GPU stages, and the most GPUs that
	// one sends to or receives from.
	StagedBytes int64 `json:"staged_bytes"`
	Peers       int   `json:"peers"`
	// Staged are, in place, the indices of the moves that are read at the round's
	// start into memory of their own and written at its end: one of each cycle.
	Staged []int `json:"staged,omitempty"`
	// Moves are ordered by layer as the schedule takes them, then by To; in place,
	// so that each copy reads its slot before another writes there. Beside copies
	// between GPUs there are three kinds that no link between them carries: From and
	// To on one GPU, a copy within its memory; From = -1 with an expert, weights that
	// no GPU holds and that are read from outside; Expert = From = -1, a slot that
	// is emptied.
	Moves []placement.Move `json:"moves"`
}

// Schedule is rounds of moves that lead from one placement to another. It is a
// plain value that goes to JSON and back without change.
//
// Slots are numbered over GPUSlots: each GPU has the larger of its numbers of
// slots before and after. Where these agree, they are the placements' own.
//
// All reads of a round see the slots as they were at its start: a GPU stages
// what it receives and swaps it in at the round's end, so two GPUs exchange
// experts in one round; in place the order of the moves does the same. A GPU
// sends at most PerGPU copies a round and receives at most PerGPU; what it reads
// from its own memory is not counted.
type Schedule struct {
	Rounds []Round `json:"rounds"`
	// Priced is false where the size of an expert or the bandwidth of a link that
	// a move takes is unknown: then no seconds are predicted. Seconds is the sum over
	// the rounds.
	Priced  bool    `json:"priced"`
	Seconds float64 `json:"seconds"`
	// RoundsBound and SecondsBound are proved: no schedule under the same limits
	// that copies experts only to GPUs that are to keep them has fewer rounds or,
	// over the same links, takes less time.
	SecondsBound float64 `json:"seconds_bound"`
	RoundsBound  int     `json:"rounds_bound"`
	// Restore counts the rounds up to the last that brings back an expert without a
	// copy on a GPU that can be read: after it, every expert of every layer has one.
	Restore int `json:"restore_rounds"`
	// Emptied counts those up to the last that empties slots of Leaving GPUs: after it,
	// these hold nothing.
	Emptied int `json:"emptied_rounds"`
	// Moves counts the copies received from other GPUs or from outside, Outside
	// the latter alone. Bytes is the size of all, of ExpertBytes each.
	Moves       int   `json:"copies"`
	Outside     int   `json:"outside_copies"`
	Bytes       int64 `json:"bytes"`
	ExpertBytes int64 `json:"expert_bytes"`
	// StagedBytes and Peers are the largest of any round.
	StagedBytes int64 `json:"staged_bytes"`
	Peers       int   `json:"peers"`
	// GPUSlots is the slots of each GPU while the schedule runs, [GPUs], Before
	// those of the placement it starts from and After those of its end, each of as
	// many GPUs as that has.
	GPUSlots []int `json:"gpu_slots"`
	Before   []int `json:"gpu_slots_before"`
	After    []int `json:"gpu_slots_after"`
	// Dead lists the GPUs that are out of service and cannot be read, Leaving those
	// that can and end empty.
	Dead    []int `json:"dead,omitempty"`
	Leaving []int `json:"leaving,omitempty"`
}

// New orders the copies that lead from prev, the placement in force, to next: of
// the same layers and experts, but GPUs may join at the end or leave there, and
// their numbers of slots may change. t describes the GPUs of both: as many as the
// larger has. prev may be incomplete; next must hold every expert, and nothing on
// the GPUs that t puts out of service. Slots with the same expert in both are
// left alone.
//
// No expert loses its last copy. Each copy is read from a GPU that holds it at
// the round's start: on the same node where one there has a send to spare, else
// the least busy. A GPU out of service is never read, unless it is leaving; its
// slots are emptied in the first round. In each round go first what lives
// nowhere, then what lives on leaving GPUs alone, then the layers under way, then
// others in the order of their worth a copy, as many as LayersAtOnce. An expert whose
// slot is not free yet is first put in another slot of its GPU.
//
// Bad input is a *placement.Error. Cost: each round, a pass over the slots of the
// layers that it looks at, and PerGPU matchings of their senders and receivers.
func New(prev, next *placement.Placement, t placement.Topology, o Options) (Schedule, error) {
	s, err := newScheduler(prev, next, &t, o)
	if err != nil {
		return Schedule{}, err
	}
	for most, enough := cmp.Or(o.LayersAtOnce, 8), false; err == nil && !enough; most *= 2 {
		enough, err = s.schedule(most)
	}
	return s.made, err
}

// schedule makes the rounds with so many layers half-moved at most. Left to choose, it
// ends early, and they are not enough, where rounds are sure to be a tenth above their
// bound, and most of them kept a layer from idle links.
func (s *scheduler) schedule(most int) (enough bool, err error) {
	s.begin(most)
	out := &s.made
	out.RoundsBound, out.SecondsBound = s.bound()
	for sure := 0; len(s.moves)+len(s.layers) > 0; {
		if n := len(out.Rounds); s.LayersAtOnce == 0 && 2*s.held > n && n >= sure {
			left, _ := s.bound()
			if sure = 11*out.RoundsBound/10 - left + 1; n >= sure { // the bound of what is left falls by one a round
				return false, nil
			}
		}
		r := s.round()
		if len(r.Moves) == 0 { // none is known to get here
			return false, refuse.Errorf(placement.ErrFit, "schedule", "no copy can be made in round %d", len(out.Rounds))
		}
		out.Rounds = append(out.Rounds, r)
	}
	out.sum()
	if out.Priced = out.ExpertBytes > 0 && !math.IsInf(out.Seconds, 1); !out.Priced {
		out.Seconds, out.SecondsBound = 0, 0
		for i := range out.Rounds {
			out.Rounds[i].Seconds = 0
		}
	}
	return true, nil
}

// validate checks the options for a change of so many layers, and fills in their
// defaults.
func (o *Options) validate(layers int) error {
	least := 2 * o.ExpertBytes
	if o.InPlace {
		least = o.ExpertBytes
	}
	if err := cmp.Or(
		within("per_gpu", float64(o.PerGPU), math.MaxInt64),
		within("rdma_per_gpu", float64(o.RDMAPerGPU), math.MaxInt64),
		within("peers_per_gpu", float64(o.PeersPerGPU), math.MaxInt64),
		within("layers_at_once", float64(o.LayersAtOnce), math.MaxInt64),
		within("expert_bytes", float64(o.ExpertBytes), maxExpertBytes),
		within("outside", o.Outside, math.MaxFloat64),
		within("staged_bytes", float64(o.StagedBytes), math.MaxInt64),
		refuse.Value(o.StagedBytes > 0 && (o.ExpertBytes == 0 || o.StagedBytes < least), "staged_bytes", "%d: the size of an expert is needed, and at least %d, not less", o.StagedBytes, least),
		refuse.Shape(o.Worth != nil && len(o.Worth) != layers, "worth", "%d entries for %d layers", len(o.Worth), layers),
	); err != nil {
		return err
	}
	if l := slices.IndexFunc(o.Worth, func(w float64) bool { return math.IsNaN(w - w) }); l >= 0 {
		return refuse.At(placement.ErrValue, "worth", l, -1, "not a finite number")
	}
	o.PerGPU = min(cmp.Or(o.PerGPU, 1), placement.MaxSlots)
	o.RDMAPerGPU = min(cmp.Or(o.RDMAPerGPU, o.PerGPU), o.PerGPU)
	o.PeersPerGPU = cmp.Or(o.PeersPerGPU, noLimit)
	return nil
}

// maxExpertBytes keeps the bytes of any schedule within an int64.
const maxExpertBytes = 1 << 36

// within demands a number from 0 to most.
func within(field string, v, most float64) error {
	return refuse.Value(!(v >= 0 && v <= most), field, "%v: between 0 and %v is possible", v, most)
}
