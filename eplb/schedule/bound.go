package schedule

// demand is what every schedule has to send and receive, whatever its rounds: copies
// of each GPU, those of them that can only go over RDMA, and copies that enter and
// leave each node.
type demand struct {
	*scheduler
	in, out, farIn, farOut []int // of each GPU
	nodeIn, nodeOut        []int

	// Of the expert at hand, by node.
	asked []int // GPUs that lack it
	last  []int // the last of them
	held  []bool
}

// bound counts, before any round is made, what every schedule has to send and
// receive. Rounds: a GPU receives every expert it lacks, and sends at least once each
// that it alone holds and another lacks; the holders of an expert grow at most
// (1+PerGPU)-fold a round; and what enters a node or leaves it goes over the RDMA of
// its GPUs. Seconds: what a GPU receives over all its links at once,
// and what can only go over RDMA: an expert that enters a node where nobody holds it.
func (s *scheduler) bound() (rounds int, seconds float64) {
	nodes := s.NodeCount()
	d := demand{scheduler: s, nodeIn: make([]int, nodes), nodeOut: make([]int, nodes), asked: make([]int, nodes), last: make([]int, nodes), held: make([]bool, nodes)}
	for _, list := range []*[]int{&d.in, &d.out, &d.farIn, &d.farOut} {
		*list = make([]int, len(s.node))
	}
	for l := range s.layers {
		if y := &s.layers[l]; y.left > 0 {
			s.layer = y
			d.add()
			rounds = max(rounds, y.least)
		}
	}
	need := func(copies, perRound int, bandwidth float64) {
		rounds = max(rounds, roundsFor(copies, perRound))
		if bandwidth > 0 {
			seconds = max(seconds, float64(copies)*float64(s.ExpertBytes)/bandwidth)
		}
	}
	all := s.NVLink + s.RDMA + s.Outside
	if s.NVLink == 0 || s.RDMA == 0 && nodes > 1 {
		all = 0 // unknown
	}
	alive := make([]int, nodes)
	for g, n := range s.node {
		need(max(d.in[g], d.out[g]), s.PerGPU, all)
		need(max(d.farIn[g], d.farOut[g]), s.RDMAPerGPU, s.RDMA)
		if !s.dead[g] {
			alive[n]++
		}
	}
	for n, k := range alive {
		if k > 0 {
			need(max(d.nodeIn[n], d.nodeOut[n]), s.RDMAPerGPU*k, s.RDMA*float64(k))
		}
	}
	return rounds, seconds
}

// add adds the layer at hand, and notes how many copies and rounds it takes.
func (d *demand) add() {
	y := d.scheduler.layer
	y.copies, y.least = len(d.req), 1
	for g := range d.node {
		n := d.reqFirst[g+1] - d.reqFirst[g]
		d.in[g] += n
		y.least = max(y.least, roundsFor(n, d.PerGPU))
	}
	for e := range d.experts {
		if wanted, hold := d.reqBy.of(e), d.hold.of(e); len(wanted) > 0 && len(hold) > 0 {
			holders := d.expert(wanted, hold)
			y.least = max(y.least, doublings(holders, len(wanted), d.PerGPU))
		}
	}
}

// expert adds the requests for an expert that these slots hold, and returns of how
// many GPUs they are.
func (d *demand) expert(wanted, hold []int) (holders int) {
	clear(d.asked)
	clear(d.held)
	for _, r := range wanted {
		g := d.req[r].gpu
		d.asked[d.node[g]]++
		d.last[d.node[g]] = g
	}
	first := d.gpuOf[hold[0]]
	home, nodes, last := d.node[first], 0, -1
	for _, i := range hold { // by slot, so by GPU
		if h := d.gpuOf[i]; h != last {
			last = h
			holders++
		}
		if n := d.node[last]; !d.held[n] {
			d.held[n] = true
			nodes++
		}
	}
	enters := false
	for n, k := range d.asked {
		if k > 0 && !d.held[n] {
			enters = true
			d.nodeIn[n]++
			if k == 1 {
				d.farIn[d.last[n]]++
			}
		}
	}
	if enters && nodes == 1 {
		d.nodeOut[home]++
	}
	if holders == 1 {
		d.out[first]++
		if d.asked[home] == 0 {
			d.farOut[first]++
		}
	}
	return holders
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
