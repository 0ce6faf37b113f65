package schedule

import (
	"cmp"
	"slices"

	"github.com/moelb/moelb/placement"
)

// scheduler makes a schedule from one placement to another, on the GPUs and slots of both:
// a slot that one of them lacks is empty there. It holds what GPUs do in the round at hand,
// which its layers share.
type scheduler struct {
	*placement.Topology
	Options
	made        Schedule
	start, end  [][]int          // what slots hold that can be read, and are to hold
	lost        []placement.Move // of what is in slots that cannot be read
	gpuOf       []int            // of each slot
	first, node []int            // of each GPU: its first slot, its node
	limit       [kinds]int

	most     int // layers that a round may leave half-moved
	held     int // rounds that kept another layer from idle links by that
	layers   []*layer
	out, in  [kinds][]int   // what each GPU sends and receives
	pairs    map[[2]int]int // copies from one GPU to another
	moves    []placement.Move
	inMemory []int // in place: indices of the moves that are staged
	matching
	readers []int  // of each slot, copies that are to read it
	mark    []int8 // of GPUs, in a search: on the way to one that is sought, or no way there
}

// What a GPU has limits of in a round: the links that copies take, all of them, other
// GPUs that it sends to or receives from, experts that it stages.
const (
	nvlink = iota
	rdma
	outside // where it has a bandwidth of its own
	all
	peers
	staged
	kinds
)

// noLimit is more than any round has of anything.
const noLimit = 1 << 30

// begin is at the start of a schedule that leaves so many layers half-moved at most.
func (s *scheduler) begin(most int) {
	gpus, slots := len(s.node), len(s.gpuOf)
	s.most, s.held, s.moves, s.layers, s.made.Rounds = most, 0, slices.Clone(s.lost), nil, []Round{}
	s.pairs, s.readers, s.mark = map[[2]int]int{}, make([]int, slots), make([]int8, gpus)
	s.matching = matching{receives: make([]int, gpus), sends: make([]int, gpus), partner: make([]int, gpus), via: make([]*request, gpus)}
	for k := range kinds {
		s.out[k], s.in[k] = make([]int, gpus), make([]int, gpus)
	}
	for l, row := range s.start {
		y := &layer{
			scheduler: s, number: l, cur: slices.Clone(row), fin: s.end[l], plan: make([]int, slots), src: make([]int, slots),
			experts: make([]expert, 1+slices.Max(s.end[l])), requests: make([]request, 0, slots), lacks: make([][]request, gpus),
		}
		if y.load(); !y.ended {
			s.layers = append(s.layers, y)
		}
	}
	if s.Worth != nil { // the most worthwhile a copy first
		each := func(y *layer) float64 { return s.Worth[y.number] / float64(max(1, len(y.requests))) }
		slices.SortStableFunc(s.layers, func(a, b *layer) int { return cmp.Compare(each(b), each(a)) })
	}
}

// round makes one round: first what is nowhere, then what is on leaving GPUs alone, in
// all layers; then the layers under way; then others, until as many as may be are
// half-moved.
func (s *scheduler) round() Round {
	for urgency := 2; urgency > 0; urgency-- {
		for _, y := range s.layers {
			if y.urgency > 0 {
				y.serveRequests(urgency)
			}
		}
	}
	open := 0
	for _, underWay := range [2]bool{true, false} {
		for _, y := range s.layers {
			if y.ended || underWay != y.begun() || !underWay && !s.idle() {
				continue
			}
			if !underWay && open >= s.most {
				s.held++
				break
			}
			if y.serve(); y.begun() && !y.ended {
				open++
			}
		}
	}
	return s.finish()
}

// finish returns the round at hand and what it takes, +Inf seconds where the bandwidth of a
// link that it uses is not known; and begins another, without the layers that have ended.
func (s *scheduler) finish() Round {
	most := func(kind int) int { return max(slices.Max(s.out[kind]), slices.Max(s.in[kind])) }
	r := Round{Moves: s.moves, Staged: s.inMemory, StagedBytes: int64(most(staged)) * s.ExpertBytes, Peers: most(peers)}
	for k, bandwidth := range [...]float64{nvlink: s.NVLink, rdma: s.RDMA, outside: s.Outside} {
		if n := most(k); n > 0 {
			r.Seconds = max(r.Seconds, float64(n)*float64(s.ExpertBytes)/bandwidth)
		}
	}
	s.layers = slices.DeleteFunc(s.layers, func(y *layer) bool { return y.ended })
	s.moves, s.inMemory = nil, nil
	clear(s.pairs)
	for k := range kinds {
		clear(s.out[k])
		clear(s.in[k])
	}
	return r
}

// link is that of a copy from GPU h, -1 = outside, to g.
func (s *scheduler) link(h, g int) int {
	switch {
	case h < 0 && s.Outside > 0:
		return outside
	case h < 0 || s.node[h] != s.node[g]:
		return rdma
	}
	return nvlink
}

// open says whether GPU g can still receive a copy from GPU h, -1 = outside.
func (s *scheduler) open(h, g int) bool {
	for _, k := range [2]int{all, s.link(h, g)} {
		if s.in[k][g] >= s.limit[k] || h >= 0 && s.out[k][h] >= s.limit[k] {
			return false
		}
	}
	return (s.InPlace || s.in[staged][g] < s.limit[staged]) &&
		(h < 0 || max(s.out[peers][h], s.in[peers][g]) < s.limit[peers] || s.pairs[[2]int{h, g}] > 0)
}

// book counts n copies from GPU h, -1 = outside, to g; -1 takes one back.
func (s *scheduler) book(h, g, n int) {
	for _, k := range [2]int{s.link(h, g), all} {
		if s.in[k][g] += n; h >= 0 {
			s.out[k][h] += n
		}
	}
	if h < 0 {
		return
	}
	pair := [2]int{h, g}
	if s.pairs[pair] += n; s.pairs[pair] == max(0, n) { // the first, or the last taken back
		s.out[peers][h] += n
		s.in[peers][g] += n
	}
}

// idle says whether a GPU can still send and one can still receive.
func (s *scheduler) idle() bool {
	return max(slices.Min(s.out[all]), slices.Min(s.in[all])) < s.PerGPU
}
