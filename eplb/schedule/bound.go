package schedule

// demand is what every schedule has to send and receive, whatever its rounds: copies of
// each GPU, and those of them that can only go over RDMA.
type demand struct {
	in, out, farIn, farOut []int
	asked                  [][]int // the GPUs of each node that lack the expert at hand
}

// bound counts, before any round is made, what every schedule has to send and receive,
// and how many copies and rounds each layer takes at least. A GPU receives every expert
// it lacks, over all its links at once.
func (s *scheduler) bound() (rounds int, seconds float64) {
	d := demand{asked: make([][]int, s.NodeCount())}
	for _, list := range []*[]int{&d.in, &d.out, &d.farIn, &d.farOut} {
		*list = make([]int, len(s.node))
	}
	for l := range s.layers {
		y := &s.layers[l]
		y.copies, y.least = len(y.req), 1
		for g := range s.node {
			n := y.reqFirst[g+1] - y.reqFirst[g]
			d.in[g] += n
			y.least = max(y.least, roundsFor(n, s.PerGPU))
		}
		if y.left > 0 {
			rounds = max(rounds, y.least)
		}
		for e := range s.experts {
			if hold := y.hold.of(e); len(hold) > 0 && len(y.reqBy.of(e)) > 0 {
				d.add(s.frame, y, y.reqBy.of(e), hold)
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
	if s.NVLink == 0 || s.RDMA == 0 && len(d.asked) > 1 {
		all = 0 // unknown
	}
	for g := range s.node {
		need(max(d.in[g], d.out[g]), s.PerGPU, all)
		need(max(d.farIn[g], d.farOut[g]), s.RDMAPerGPU, s.RDMA)
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
	for _, list := range d.asked {
		if len(list) == 1 {
			d.farIn[list[0]]++
		}
	}
}

// roundsFor is how many rounds n things take, by at a time.
func roundsFor(n, by int) int { return (n + by - 1) / by }
