package schedule

import "github.com/moelb/moelb/placement"

// roundPrice predicts the seconds of rounds.
type roundPrice struct {
	s            *scheduler
	bytes        float64
	nvlink, rdma float64
	// Copies that a GPU sends and receives over each kind of link.
	out, in [2][]int // 0 = NVLink, 1 = RDMA
}

func newRoundPrice(t *placement.Topology, s *scheduler, expertBytes int64) *roundPrice {
	p := &roundPrice{s: s, bytes: float64(expertBytes), nvlink: t.NVLink, rdma: t.RDMA}
	for i := range p.out {
		p.out[i], p.in[i] = make([]int, t.GPUs), make([]int, t.GPUs)
	}
	return p
}

// of fills in r.Seconds, counts the copies that came over links and says
// whether the bandwidth of each was known.
func (p *roundPrice) of(r *Round) (copies int, known bool) {
	for i := range p.out {
		clear(p.out[i])
		clear(p.in[i])
	}
	for _, m := range r.Moves {
		if m.Expert < 0 {
			continue
		}
		to, link := p.s.gpuOf[m.To], 1
		if m.From >= 0 {
			from := p.s.gpuOf[m.From]
			if from == to {
				continue
			}
			if p.s.node[from] == p.s.node[to] {
				link = 0
			}
			p.out[link][from]++
		}
		p.in[link][to]++
		copies++
	}
	known = true
	for link, bandwidth := range [2]float64{p.nvlink, p.rdma} {
		most := 0
		for g, n := range p.in[link] {
			most = max(most, n, p.out[link][g])
		}
		switch {
		case most == 0:
		case bandwidth == 0:
			known = false
		default:
			r.Seconds = max(r.Seconds, float64(most)*p.bytes/bandwidth)
		}
	}
	return copies, known
}
