package schedule

// bound counts, before any round is made, what every schedule has to send and receive.
// A GPU receives every expert it lacks, over all its links at once, and sends what it
// alone holds: over RDMA where none of its node lacks it. The only GPU to lack an expert
// in a node where none holds it gets it over RDMA. What enters a node or leaves it goes
// over the RDMA of its GPUs.
func (s *scheduler) bound() (rounds int, seconds float64) {
	const in, out = 0, 1
	nodes := s.NodeCount()
	var gpu, far, node [2][]int // copies of each GPU, those of them over RDMA, and copies of each node
	for way := range gpu {
		gpu[way], far[way], node[way] = make([]int, len(s.node)), make([]int, len(s.node)), make([]int, nodes)
	}
	asked := make([][]int, nodes) // the GPUs of each node that lack the expert at hand
	for l := range s.layers {
		y := &s.layers[l]
		if !y.ended {
			rounds = 1
		}
		for _, q := range y.req {
			gpu[in][q.gpu]++
		}
		for e, hold := range y.hold {
			if len(hold) == 0 || len(y.reqBy[e]) == 0 {
				continue
			}
			for n := range asked {
				asked[n] = asked[n][:0]
			}
			for _, r := range y.reqBy[e] {
				n := s.node[y.req[r].gpu]
				asked[n] = append(asked[n], y.req[r].gpu)
			}
			first, last := s.gpuOf[hold[0]], s.gpuOf[hold[len(hold)-1]]
			if first == last {
				gpu[out][first]++
				far[out][first] += max(0, 1-len(asked[s.node[first]]))
			}
			for _, i := range hold {
				asked[s.node[s.gpuOf[i]]] = nil
			}
			leaves := 0
			for n, list := range asked {
				node[in][n] += min(1, len(list))
				if leaves = max(leaves, min(1, len(list))); len(list) == 1 {
					far[in][list[0]]++
				}
			}
			if n := s.node[first]; n == s.node[last] {
				node[out][n] += leaves
			}
		}
	}
	need := func(copies, perRound int, bandwidth float64) {
		rounds = max(rounds, (copies+perRound-1)/perRound)
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
		if !s.dead[g] {
			alive[n]++
		}
	}
	for way := range gpu {
		for g := range s.node {
			need(gpu[way][g], s.PerGPU, all)
			need(far[way][g], s.RDMAPerGPU, s.RDMA)
		}
		for n, k := range alive {
			if k > 0 {
				need(node[way][n], s.RDMAPerGPU*k, s.RDMA*float64(k))
			}
		}
	}
	return rounds, seconds
}
