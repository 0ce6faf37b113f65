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

// demand is what every schedule has to send and receive, whatever its rounds: copies
// of each GPU, those of them that can only go over RDMA, and copies that enter and
// leave each node.
type demand struct {
	*scheduler
	recv, send, farIn, farOut []int // of each GPU
	nodeIn, nodeOut           []int
	layerSend                 []int // of each GPU, in the layer at hand

	// Of the expert at hand, by node.
	asked []int // GPUs that lack it
	last  []int // the last of them
	held  []bool
}

// bound counts, before any round is made, what every schedule has to send and
// receive. Rounds: a GPU receives every expert it
// lacks, and sends at least once each that it alone holds and another lacks; the
// holders of an expert grow at most (1+PerGPU)-fold a round; and what enters a
// node or leaves it goes over the RDMA of its GPUs. Seconds: what a GPU receives
// over both its links at once, and what can only go over RDMA: an expert that
// enters a node where nobody holds it.
func (s *scheduler) bound(order []int, t *placement.Topology, o *Options) scheduleBound {
	d := demand{scheduler: s, held: make([]bool, t.NodeCount())}
	for _, list := range []*[]int{&d.recv, &d.send, &d.farIn, &d.farOut, &d.layerSend} {
		*list = make([]int, s.gpus)
	}
	for _, list := range []*[]int{&d.nodeIn, &d.nodeOut, &d.asked, &d.last} {
		*list = make([]int, len(d.held))
	}
	rounds := 0
	for _, l := range order {
		s.load(l)
		s.least[l] = d.layer(o.PerGPU)
		rounds = max(rounds, s.least[l])
	}
	return d.bound(rounds, t, o)
}

// layer adds the layer at hand and returns the rounds that it takes at least.
func (d *demand) layer(perGPU int) int {
	least := 1
	clear(d.layerSend)
	for g := range d.gpus {
		n := len(d.reqOf.of(int32(g)))
		d.recv[g] += n
		least = max(least, roundsFor(n, perGPU))
	}
	for e := range d.experts {
		if wanted := d.reqBy.of(int32(e)); len(wanted) > 0 {
			if holders := d.expert(wanted, d.hold.of(int32(e))); holders > 0 {
				least = max(least, doublings(holders, len(wanted), perGPU))
			}
		}
	}
	for _, n := range d.layerSend {
		least = max(least, roundsFor(n, perGPU))
	}
	return least
}

// expert adds the requests for an expert that these slots hold, and returns how many
// GPUs do: none where it is read from outside.
func (d *demand) expert(wanted, hold []int32) (holders int) {
	clear(d.asked)
	clear(d.held)
	for _, r := range wanted {
		g := int(d.req[r].gpu)
		d.asked[d.node[g]]++
		d.last[d.node[g]] = g
	}
	holder, near := -1, false
	for _, h := range hold { // by slot, so by GPU
		if g := d.gpuOf[h]; g != holder {
			holder = g
			holders++
			d.held[d.node[g]] = true
			near = near || d.asked[d.node[g]] > 0
		}
	}
	if holders == 0 {
		return 0
	}
	if holders == 1 {
		d.layerSend[holder]++
		d.send[holder]++
		if !near {
			d.farOut[holder]++
		}
	}
	elsewhere := false
	for n, k := range d.asked {
		if k > 0 && !d.held[n] {
			elsewhere = true
			d.nodeIn[n]++
			if k == 1 {
				d.farIn[d.last[n]]++
			}
		}
	}
	if n := onlyNode(d.held); n >= 0 && elsewhere {
		d.nodeOut[n]++
	}
	return holders
}

// bound is what all layers together take, where one alone takes so many rounds.
func (d *demand) bound(rounds int, t *placement.Topology, o *Options) scheduleBound {
	b := scheduleBound{rounds: rounds}
	both := t.NVLink + t.RDMA + o.Outside
	if t.NVLink == 0 || t.RDMA == 0 && len(d.held) > 1 {
		both = 0 // unknown
	}
	longer := func(copies int, bandwidth float64) {
		if bandwidth > 0 {
			b.seconds = max(b.seconds, float64(copies)*float64(o.ExpertBytes)/bandwidth)
		}
	}
	live := make([]int, len(d.held)) // GPUs of each node
	for g := range d.gpus {
		copies, far := max(d.recv[g], d.send[g]), max(d.farIn[g], d.farOut[g])
		b.rounds = max(b.rounds, roundsFor(copies, o.PerGPU), roundsFor(far, o.RDMAPerGPU))
		longer(copies, both)
		longer(far, t.RDMA)
		if d.live[g] {
			live[d.node[g]]++
		}
	}
	for n, k := range live {
		if far := max(d.nodeIn[n], d.nodeOut[n]); k > 0 {
			longer(far, t.RDMA*float64(k))
			b.rounds = max(b.rounds, roundsFor(far, o.RDMAPerGPU*k))
		}
	}
	return b
}

// onlyNode is the one node that holds an expert, -1 where several do.
func onlyNode(held []bool) int {
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
