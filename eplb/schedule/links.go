package schedule

import "slices"

// The kinds of link that a copy takes.
const (
	nvlink = iota
	rdma
	outside // where it has a bandwidth of its own
	all     // of them
	kinds
)

// links are what GPUs do in the round at hand.
type links struct {
	out, in  [kinds][]int   // copies sent and received
	staged   []int          // experts
	to, from []int          // how many GPUs each sends to, and receives from
	pairs    map[[2]int]int // copies from one GPU to another
}

func newLinks(gpus int) links {
	x := links{staged: make([]int, gpus), to: make([]int, gpus), from: make([]int, gpus), pairs: map[[2]int]int{}}
	for k := range kinds {
		x.out[k], x.in[k] = make([]int, gpus), make([]int, gpus)
	}
	return x
}

// kind is the link of a copy from GPU h, -1 = outside, to g.
func (s *scheduler) kind(h, g int) int {
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
	k := s.kind(h, g)
	if s.in[all][g] >= s.PerGPU || k == rdma && s.in[k][g] >= s.RDMAPerGPU || s.full(g, 1) {
		return false
	}
	return h < 0 || s.out[all][h] < s.PerGPU && (k != rdma || s.out[k][h] < s.RDMAPerGPU) &&
		(max(s.to[h], s.from[g]) < s.PeersPerGPU || s.pairs[[2]int{h, g}] > 0)
}

// full says whether a GPU has no memory to stage so many more experts.
func (s *scheduler) full(g, more int) bool { return !s.InPlace && s.staged[g]+more > s.stage }

// book counts n copies from GPU h, -1 = outside, to g; -1 takes one back.
func (s *scheduler) book(h, g, n int) {
	for _, k := range [2]int{s.kind(h, g), all} {
		if s.in[k][g] += n; h >= 0 {
			s.out[k][h] += n
		}
	}
	if h < 0 {
		return
	}
	pair := [2]int{h, g}
	if s.pairs[pair] += n; s.pairs[pair] == max(0, n) { // the first, or the last taken back
		s.to[h], s.from[g] = s.to[h]+n, s.from[g]+n
	}
}

// idle says whether a GPU can still send and one can still receive.
func (s *scheduler) idle() bool {
	return slices.Min(s.out[all]) < s.PerGPU && slices.Min(s.in[all]) < s.PerGPU
}

// takeRound returns the round at hand and what it takes: +Inf seconds where the bandwidth
// of a link that it uses is not known.
func (s *scheduler) takeRound() Round {
	r := Round{Moves: s.moves, Staged: s.stagedMoves, StagedBytes: int64(slices.Max(s.staged)) * s.ExpertBytes, Peers: max(slices.Max(s.to), slices.Max(s.from))}
	s.moves, s.stagedMoves = nil, nil
	for k, bandwidth := range []float64{s.NVLink, s.RDMA, s.Outside} {
		if most := max(slices.Max(s.in[k]), slices.Max(s.out[k])); most > 0 {
			r.Seconds = max(r.Seconds, float64(most)*float64(s.ExpertBytes)/bandwidth)
		}
	}
	return r
}
