package schedule

import "slices"

// limits are what a GPU may do in a round.
type limits struct {
	perGPU, rdmaPerGPU, peers, layers int32 // peers 0 = any number
	stage                             int32 // experts staged; noLimit = any number
	inPlace                           bool
}

const noLimit = 1 << 30

func newLimits(o *Options) limits {
	l := limits{perGPU: int32(o.PerGPU), rdmaPerGPU: int32(o.RDMAPerGPU), peers: int32(min(o.PeersPerGPU, noLimit)), layers: int32(o.LayersAtOnce), stage: noLimit, inPlace: o.InPlace}
	if o.StagedBytes > 0 {
		l.stage = int32(min(o.StagedBytes/o.ExpertBytes, noLimit))
	}
	return l
}

// links are what GPUs may still do in the round.
type links struct {
	sendLeft, recvLeft []int32
	farSend, farRecv   []int32 // of these, over RDMA
	stageLeft          []int32
	to, from           [][]peer // whom each GPU sends to, and receives from; empty without a limit
}

// peer is another GPU, and how many copies go there or come from there.
type peer struct{ gpu, copies int32 }

func newLinks(gpus int) links {
	cells := make([]int32, 5*gpus)
	x := links{to: make([][]peer, gpus), from: make([][]peer, gpus)}
	for _, p := range []*[]int32{&x.sendLeft, &x.recvLeft, &x.farSend, &x.farRecv, &x.stageLeft} {
		*p, cells = cells[:gpus:gpus], cells[gpus:]
	}
	return x
}

// set makes x a copy of y.
func (x *links) set(y *links) {
	copy(x.sendLeft, y.sendLeft)
	copy(x.recvLeft, y.recvLeft)
	copy(x.farSend, y.farSend)
	copy(x.farRecv, y.farRecv)
	copy(x.stageLeft, y.stageLeft)
	for g := range x.to {
		x.to[g], x.from[g] = append(x.to[g][:0], y.to[g]...), append(x.from[g][:0], y.from[g]...)
	}
}

func (s *scheduler) startRound() {
	for g := range s.gpus {
		s.sendLeft[g], s.recvLeft[g] = s.perGPU, s.perGPU
		s.farSend[g], s.farRecv[g] = s.rdmaPerGPU, s.rdmaPerGPU
		s.stageLeft[g] = s.stage
		s.to[g], s.from[g] = s.to[g][:0], s.from[g][:0]
	}
}

// open says whether GPU h can still send a copy to GPU g in this round.
func (s *scheduler) open(h, g int32) bool {
	if s.sendLeft[h] <= 0 || s.recvLeft[g] <= 0 || s.node[h] != s.node[g] && (s.farSend[h] <= 0 || s.farRecv[g] <= 0) {
		return false
	}
	return s.canStage(g) && (s.peers == 0 || knows(s.to[h], g, s.peers) && knows(s.from[g], h, s.peers))
}

// canStage says whether GPU g can stage what it receives; in place, cycles are
// looked at later.
func (s *scheduler) canStage(g int32) bool { return s.inPlace || s.stageLeft[g] > 0 }

// openOutside says whether GPU g can still read a copy from outside.
func (s *scheduler) openOutside(g int) bool {
	return s.recvLeft[g] > 0 && (s.apart || s.farRecv[g] > 0) && s.canStage(int32(g))
}

// knows says whether g is one of the peers or can become one.
func knows(list []peer, g, most int32) bool {
	return int32(len(list)) < most || slices.ContainsFunc(list, func(p peer) bool { return p.gpu == g })
}

// meet counts copies with peer g, which is forgotten with the last.
func meet(list []peer, g, copies int32) []peer {
	i := slices.IndexFunc(list, func(p peer) bool { return p.gpu == g })
	if i < 0 {
		return append(list, peer{g, copies})
	}
	if list[i].copies += copies; list[i].copies == 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}

// book counts n copies from GPU h to g; -1 takes one back.
func (s *scheduler) book(h, g int, n int32) {
	s.sendLeft[h] -= n
	s.recvLeft[g] -= n
	if !s.inPlace {
		s.stageLeft[g] -= n
	}
	if s.node[h] != s.node[g] {
		s.farSend[h] -= n
		s.farRecv[g] -= n
	}
	if s.peers > 0 {
		s.to[h] = meet(s.to[h], int32(g), n)
		s.from[g] = meet(s.from[g], int32(h), n)
	}
}

// takeOutside books a copy from outside.
func (s *scheduler) takeOutside(g int) {
	s.recvLeft[g]--
	if !s.inPlace {
		s.stageLeft[g]--
	}
	if !s.apart {
		s.farRecv[g]--
	}
}

// idleLinks says whether a GPU can still send and one can still receive.
func (s *scheduler) idleLinks() bool {
	return slices.Max(s.sendLeft) > 0 && slices.Max(s.recvLeft) > 0
}
