package schedule

// demand is what every schedule has to send and receive, whatever its rounds: copies of
// each GPU, those of them that can only go over RDMA, and copies that enter and leave
// each node.
type demand struct {
	in, out, farIn, farOut []int
	nodeIn, nodeOut        []int
	asked                  [][]int // the GPUs of each node that lack the expert at hand
}

// bound counts, before any round is made, what every schedule has to send and receive,
// and how many copies and rounds each layer takes at least. A GPU receives every expert
// it lacks, over all its links at once; what enters a node or leaves it goes over the RDMA
// of its GPUs.
func (s *scheduler) bound() (rounds int, seconds float64) {
	nodes := s.NodeCount()
	d := demand{asked: make([][]int, nodes), nodeIn: make([]int, nodes), nodeOut: make([]int, nodes)}
	for _, list := range []*[]int{&d.in, &d.out, &d.farIn, &d.farOut} {
		*list = make([]int, len(s.node))
	}
	for l := range s.layers {
		y := &s.layers[l]
		y.copies = len(y.req)
		for g := range s.node {
			n := y.reqFirst[g+1] - y.reqFirst[g]
			d.in[g] += n
		}
		if y.left > 0 {
			rounds = max(rounds, 1)
		}
		for e := range s.experts {
			if hold := y.hold[e]; len(hold) > 0 && len(y.reqBy[e]) > 0 {
				d.add(s.frame, y, y.reqBy[e], hold)
			}
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

// add adds an expert that some GPUs lack and these slots hold. A GPU that alone holds it
// sends it, over RDMA where none of its node lacks it. The only GPU to lack it in a node
// where none holds it gets it over RDMA.
func (d *demand) add(f *frame, y *layer, wanted, hold []int) {
	for n := range d.asked {
		d.asked[n] = d.asked[n][:0]
	}
	for _, r := range wanted {
		g := y.req[r].gpu
		d.asked[f.node[g]] = append(d.asked[f.node[g]], g)
	}
	if g := f.gpuOf[hold[0]]; f.gpuOf[hold[len(hold)-1]] == g { // they rise
		d.out[g]++
		if len(d.asked[f.node[g]]) == 0 {
			d.farOut[g]++
		}
	}
	for _, i := range hold {
		n := f.node[f.gpuOf[i]]
		d.asked[n] = d.asked[n][:0]
	}
	enters := false
	for n, list := range d.asked {
		if len(list) > 0 {
			enters = true
			d.nodeIn[n]++
		}
		if len(list) == 1 {
			d.farIn[list[0]]++
		}
	}
	if home := f.node[f.gpuOf[hold[0]]]; enters && home == f.node[f.gpuOf[hold[len(hold)-1]]] {
		d.nodeOut[home]++
	}
}

// roundsFor is how many rounds n things take, by at a time.
func roundsFor(n, by int) int { return (n + by - 1) / by }
