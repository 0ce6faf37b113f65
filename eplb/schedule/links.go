package schedule

import "slices"

// The kinds of link that a copy takes.
const (
	nvlink = iota
	rdma
	outside // where it has a bandwidth of its own
	kinds
)

// links are what GPUs do in the round at hand.
type links struct {
	out, in  [kinds][]int // copies sent and received
	staged   []int        // experts
	to, from [][]peer     // whom each GPU sends to, and receives from
}

// peer is another GPU, and how many copies go there or come from there.
type peer struct{ gpu, copies int }

func newLinks(gpus int) links {
	x := links{staged: make([]int, gpus), to: make([][]peer, gpus), from: make([][]peer, gpus)}
	for k := range kinds {
		x.out[k], x.in[k] = make([]int, gpus), make([]int, gpus)
	}
	return x
}

func (x *links) reset() {
	for k := range kinds {
		clear(x.out[k])
		clear(x.in[k])
	}
	clear(x.staged)
	for g := range x.to {
		x.to[g], x.from[g] = x.to[g][:0], x.from[g][:0]
	}
}

func (x *links) sent(g int) int { return x.out[nvlink][g] + x.out[rdma][g] }

func (x *links) received(g int) int {
	return x.in[nvlink][g] + x.in[rdma][g] + x.in[outside][g]
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
	if s.received(g) >= s.PerGPU || k == rdma && s.in[k][g] >= s.RDMAPerGPU || !s.InPlace && s.staged[g] >= s.stage {
		return false
	}
	return h < 0 || s.sent(h) < s.PerGPU && (k != rdma || s.out[k][h] < s.RDMAPerGPU) &&
		knows(s.to[h], g, s.PeersPerGPU) && knows(s.from[g], h, s.PeersPerGPU)
}

// book counts n copies from GPU h, -1 = outside, to g; -1 takes one back.
func (s *scheduler) book(h, g, n int) {
	k := s.kind(h, g)
	s.in[k][g] += n
	if h >= 0 {
		s.out[k][h] += n
		s.to[h], s.from[g] = meet(s.to[h], g, n), meet(s.from[g], h, n)
	}
}

// knows says whether g is one of the peers or can become one.
func knows(list []peer, g, most int) bool {
	return len(list) < most || slices.ContainsFunc(list, func(p peer) bool { return p.gpu == g })
}

// meet counts copies with peer g, which is forgotten with the last.
func meet(list []peer, g, copies int) []peer {
	i := slices.IndexFunc(list, func(p peer) bool { return p.gpu == g })
	if i < 0 {
		return append(list, peer{g, copies})
	}
	if list[i].copies += copies; list[i].copies == 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// idle says whether a GPU can still send and one can still receive.
func (s *scheduler) idle() bool {
	sends, receives := false, false
	for g := range s.node {
		sends, receives = sends || s.sent(g) < s.PerGPU, receives || s.received(g) < s.PerGPU
	}
	return sends && receives
}

// takeRound returns the round at hand and what it takes, and whether the bandwidth of
// each link that it uses is known.
func (s *scheduler) takeRound() (r Round, priced bool) {
	r = Round{Moves: slices.Clone(s.moves), Staged: append([]int(nil), s.stagedMoves...), StagedBytes: int64(slices.Max(s.staged)) * s.ExpertBytes}
	s.moves, s.stagedMoves = s.moves[:0], s.stagedMoves[:0]
	priced = true
	for k, bandwidth := range []float64{s.NVLink, s.RDMA, s.Outside} {
		if most := max(slices.Max(s.in[k]), slices.Max(s.out[k])); most > 0 {
			if priced = priced && bandwidth > 0; priced {
				r.Seconds = max(r.Seconds, float64(most)*float64(s.ExpertBytes)/bandwidth)
			}
		}
	}
	for g := range s.node {
		r.Peers = max(r.Peers, len(s.to[g]), len(s.from[g]))
	}
	return r, priced
}
