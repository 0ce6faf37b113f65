package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// scheduleBound is what no schedule under the same limits can beat.
type scheduleBound struct {
	rounds  int
	seconds float64
}

// bound counts, before any round is made, what every schedule has to send and
// receive. Rounds: a GPU receives every expert it
// lacks, and sends at least once each that it alone holds and another lacks; the
// holders of an expert grow at most (1+PerGPU)-fold a round; and what enters a
// node or leaves it goes over the RDMA of its GPUs. Seconds: what a GPU receives
// over both its links at once, and what can only go over RDMA: an expert that
// enters a node where nobody holds it.
func (s *scheduler) bound(order []int, t *placement.Topology, o *Options) scheduleBound {
	recv, send := make([]int, s.gpus), make([]int, s.gpus)
	farIn, farOut := make([]int, s.gpus), make([]int, s.gpus)
	nodes := t.NodeCount()
	nodeIn, nodeLive := make([]int, nodes), make([]int, nodes)
	asked, last := make([]int, nodes), make([]int32, nodes)
	held := make([]bool, nodes)
	layerSend := make([]int, s.gpus)
	nodeOut := make([]int, nodes)
	rounds := 0
	for _, l := range order {
		s.load(l)
		least := 1
		clear(layerSend)
		for g := range s.gpus {
			n := len(s.reqOf.of(int32(g)))
			recv[g] += n
			least = max(least, roundsFor(n, o.PerGPU))
		}
		for e := range s.experts {
			wanted := s.reqBy.of(int32(e))
			if len(wanted) == 0 {
				continue
			}
			clear(asked)
			clear(held)
			for _, r := range wanted {
				n := s.node[s.req[r].gpu]
				asked[n]++
				last[n] = s.req[r].gpu
			}
			hold := s.hold.of(int32(e))
			holder, holders, near := -1, 0, false
			for _, h := range hold { // by slot, so by GPU
				if g := s.gpuOf[h]; g != holder {
					holder = g
					holders++
					held[s.node[g]] = true
					near = near || asked[s.node[g]] > 0
				}
			}
			if holders == 0 {
				continue
			}
			if n := s.onlyNode(held); n >= 0 {
				for m, k := range asked {
					if k > 0 && m != n {
						nodeOut[n]++
						break
					}
				}
			}
			if holders == 1 {
				layerSend[holder]++
				send[holder]++
				if !near {
					farOut[holder]++
				}
			}
			least = max(least, doublings(holders, len(wanted), o.PerGPU))
			for n, k := range asked {
				if k > 0 && !held[n] {
					nodeIn[n]++
					if k == 1 {
						farIn[last[n]]++
					}
				}
			}
		}
		for _, n := range layerSend {
			least = max(least, roundsFor(n, o.PerGPU))
		}
		rounds = max(rounds, least)
		s.least[l] = least
	}
	b := scheduleBound{rounds: rounds}
	both := t.NVLink + t.RDMA + o.Outside
	if t.NVLink == 0 || t.RDMA == 0 && nodes > 1 {
		both = 0 // unknown
	}
	size := float64(o.ExpertBytes)
	longer := func(copies int, bandwidth float64) {
		if bandwidth > 0 {
			b.seconds = max(b.seconds, float64(copies)*size/bandwidth)
		}
	}
	for g := range s.gpus {
		b.rounds = max(b.rounds, roundsFor(recv[g], o.PerGPU), roundsFor(send[g], o.PerGPU))
		b.rounds = max(b.rounds, roundsFor(farIn[g], o.RDMAPerGPU), roundsFor(farOut[g], o.RDMAPerGPU))
		longer(max(recv[g], send[g]), both)
		longer(max(farIn[g], farOut[g]), t.RDMA)
		if s.live[g] {
			nodeLive[s.node[g]]++
		}
	}
	for n, k := range nodeIn {
		if nodeLive[n] > 0 {
			longer(max(k, nodeOut[n]), t.RDMA*float64(nodeLive[n]))
			b.rounds = max(b.rounds, roundsFor(max(k, nodeOut[n]), o.RDMAPerGPU*nodeLive[n]))
		}
	}
	return b
}

// onlyNode is the one node that holds an expert, -1 where several do.
func (s *scheduler) onlyNode(held []bool) int {
	n := slices.Index(held, true)
	if n < 0 || slices.Contains(held[n+1:], true) {
		return -1
	}
	return n
}

// roundsFor is how many rounds n things take, by at a time.
func roundsFor(n, by int) int { return (n + by - 1) / by }

// doublings is how many rounds holders of an expert need to become wanted more,
// each sending perGPU copies a round.
func doublings(holders, wanted, perGPU int) int {
	k := 0
	for have, need := int64(holders), int64(holders)+int64(wanted); have < need; k++ {
		have += have * int64(perGPU)
	}
	return k
}
