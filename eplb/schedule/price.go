package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// roundPrice counts what rounds take: seconds, memory, peers.
type roundPrice struct {
	s         *scheduler
	bytes     float64
	inPlace   bool
	bandwidth [3]float64 // NVLink, RDMA, outside
	// Copies that a GPU sends and receives over each kind of link.
	out, in [3][]int
	staged  []int
	to      [][2]int // pairs of GPUs, sender first
}

func newRoundPrice(t *placement.Topology, s *scheduler, o *Options) *roundPrice {
	p := &roundPrice{s: s, bytes: float64(o.ExpertBytes), inPlace: o.InPlace, bandwidth: [3]float64{t.NVLink, t.RDMA, o.Outside}, staged: make([]int, t.GPUs)}
	for i := range p.out {
		p.out[i], p.in[i] = make([]int, t.GPUs), make([]int, t.GPUs)
	}
	return p
}

// of fills in what r takes, adds its copies to the schedule's, and says whether
// the bandwidth of each link was known.
func (p *roundPrice) of(r *Round, sum *Schedule) (known bool) {
	for i := range p.out {
		clear(p.out[i])
		clear(p.in[i])
	}
	clear(p.staged)
	p.to = p.to[:0]
	for _, m := range r.Moves {
		if m.Expert < 0 {
			continue
		}
		to, link := p.s.gpuOf[m.To], 1
		p.staged[to]++
		switch {
		case m.From >= 0:
			from := p.s.gpuOf[m.From]
			if from == to {
				continue
			}
			if p.s.node[from] == p.s.node[to] {
				link = 0
			}
			p.out[link][from]++
			p.to = append(p.to, [2]int{from, to})
		default:
			sum.Outside++
			if p.s.apart {
				link = 2
			}
		}
		p.in[link][to]++
		sum.Moves++
	}
	if p.inPlace {
		clear(p.staged)
		for _, i := range r.Staged {
			p.staged[p.s.gpuOf[r.Moves[i].To]]++
		}
	}
	r.StagedBytes, r.Peers = int64(slices.Max(p.staged))*sum.ExpertBytes, p.peers()
	sum.StagedBytes, sum.Peers = max(sum.StagedBytes, r.StagedBytes), max(sum.Peers, r.Peers)
	known = true
	for link, bandwidth := range p.bandwidth {
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
	return known
}

// peers is the most GPUs that one sends to, or receives from.
func (p *roundPrice) peers() int {
	most := 0
	for side := range 2 {
		slices.SortFunc(p.to, func(a, b [2]int) int {
			if a[side] != b[side] {
				return a[side] - b[side]
			}
			return a[1-side] - b[1-side]
		})
		n := 0
		for i, x := range p.to {
			switch {
			case i == 0 || x[side] != p.to[i-1][side]:
				n = 1
			case x != p.to[i-1]:
				n++
			}
			most = max(most, n)
		}
	}
	return most
}
