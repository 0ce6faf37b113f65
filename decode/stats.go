package decode

// RankStats is the state of one rank.
type RankStats struct {
	Requests int // running
	Width    int // of them together: each counts so many times
	KV       int // tokens
	Kept     int // tokens of KV cache kept back for what its requests will still generate
	Serving  bool
}

// Stats is the state of the unit.
type Stats struct {
	Ranks []RankStats
	// max/mean over the serving ranks; 1 where all are empty.
	Imbalance struct{ Requests, KV float64 }
}

// Stats returns the state of the unit. O(requests log requests).
func (b *Balancer) Stats() Stats {
	s := Stats{Ranks: make([]RankStats, len(b.ranks))}
	for g := range b.ranks {
		k := &b.ranks[g]
		kv := b.kv(g)
		s.Ranks[g] = RankStats{len(k.members), int(k.width), int(kv), int(max(b.expectedPeak(g, life{}, false)-kv, 0)), k.state == serving}
	}
	kv, width := b.peak()
	s.Imbalance.KV = b.ratio(kv, b.sumBase+b.sumWidth*b.clock)
	s.Imbalance.Requests = b.ratio(width, b.sumWidth)
	return s
}

func (b *Balancer) ratio(most, sum int64) float64 {
	if sum <= 0 {
		return 1
	}
	return float64(most) * float64(b.active) / float64(sum)
}

// StepSeconds is what the next step takes by Config.Cost: all ranks wait for the
// one of most KV use and the one of most requests, drained ones too.
func (b *Balancer) StepSeconds() float64 {
	kv, width := int64(0), int64(0)
	for g := range b.ranks {
		kv, width = max(kv, b.kv(g)), max(width, b.ranks[g].width)
	}
	c := b.cfg.Cost
	return c.Step + float64(c.KV*float64(kv)) + float64(c.Request*float64(width))
}

// Running appends the names of all running requests to dst, rank by rank, in the
// order in which each rank holds them.
func (b *Balancer) Running(dst []ID) []ID {
	for g := range b.ranks {
		for _, i := range b.ranks[g].members {
			dst = append(dst, b.requests[i].id(i))
		}
	}
	return dst
}
