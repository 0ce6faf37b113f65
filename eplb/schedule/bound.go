package schedule

import "slices"

// bound counts, before any round is made, what every schedule has to send and receive.
// A GPU receives every expert it lacks, over all its links at once, and sends what it
// alone holds: over RDMA where none of its node lacks it. The only GPU to lack an expert
// in a node where none holds it gets it over RDMA. What enters a node or leaves it goes
// over the RDMA of its GPUs.
func (s *scheduler) bound() (rounds int, seconds float64) {
	const in, out = 0, 1
	gpus, nodes := len(s.node), s.NodeCount()
	// Copies of each GPU; and those over RDMA, of each GPU and, behind these, of each node.
	var total, far [2][]int
	for way := range total {
		total[way], far[way] = make([]int, gpus), make([]int, gpus+nodes)
	}
	asks := make([]int, nodes) // GPUs of each node that lack the expert at hand
	rounds = min(1, len(s.lost)+len(s.layers))
	for _, y := range s.layers {
		for _, q := range y.requests {
			total[in][q.gpu]++
		}
		for _, x := range y.experts {
			if len(x.hold) == 0 || len(x.asked) == 0 {
				continue
			}
			for _, q := range x.asked {
				asks[s.node[q.gpu]]++
			}
			first, last := s.gpuOf[x.hold[0]], s.gpuOf[x.hold[len(x.hold)-1]]
			if first == last {
				total[out][first]++
				far[out][first] += max(0, 1-asks[s.node[first]])
			}
			for _, i := range x.hold {
				asks[s.node[s.gpuOf[i]]] = 0
			}
			leaves := 0
			for _, q := range x.asked {
				n := s.node[q.gpu]
				if asks[n] == 1 {
					far[in][q.gpu]++
				}
				if asks[n] > 0 {
					asks[n], leaves = 0, 1
					far[in][gpus+n]++
				}
			}
			if n := s.node[first]; n == s.node[last] {
				far[out][gpus+n] += leaves
			}
		}
	}
	each := slices.Repeat([]int{1}, gpus+nodes) // how many GPUs share far's
	clear(each[gpus:])
	for g, n := range s.node {
		if !slices.Contains(s.made.Dead, g) {
			each[gpus+n]++
		}
	}
	links := s.NVLink + s.RDMA + s.Outside
	if s.NVLink == 0 || s.RDMA == 0 && nodes > 1 {
		links = 0 // unknown
	}
	need := func(copies int, perRound int64, bandwidth float64) {
		rounds = max(rounds, int((int64(copies)+perRound-1)/perRound))
		if bandwidth > 0 {
			seconds = max(seconds, float64(copies)*float64(s.ExpertBytes)/bandwidth)
		}
	}
	for way := range total {
		for _, copies := range total[way] {
			need(copies, int64(s.PerGPU), links)
		}
		for i, copies := range far[way] {
			if copies > 0 {
				need(copies, int64(s.RDMAPerGPU)*int64(each[i]), s.RDMA*float64(each[i]))
			}
		}
	}
	return rounds, seconds
}
