package decode

// RankStats is the state of one rank.
type RankStats struct {
	State    State
	Requests int   // there, waiting ones too
	Width    int   // of them together: each counts so many times
	KV       int64 // tokens, what requests share counted once
	Kept     int64 // tokens of KV cache kept back for what its requests will still generate, where there is a limit
	Capacity int64 // tokens; 0 = no limit
	Over     int64 // tokens above the capacity
}

// Rank returns the state of one rank; of one that does not exist, the zero
// RankStats, whose State is Gone.
// O(its requests).
func (b *Balancer) Rank(g int) RankStats {
	if b.exists("rank", g) != nil {
		return RankStats{}
	}
	k := &b.ranks[g]
	kv := b.kv(g)
	s := RankStats{State: k.state, Requests: len(k.members), Width: int(k.width), KV: kv}
	if k.capacity < unlimited {
		s.Kept = max(b.expectedPeak(g)-kv, 0)
		s.Capacity, s.Over = k.capacity, max(kv-k.capacity, 0)
	}
	return s
}

// Ranks returns how many ranks there are.
func (b *Balancer) Ranks() int { return len(b.ranks) }

// Stats is the state of the unit.
type Stats struct {
	Ranks []RankStats
	// max/mean over the serving ranks; 1 where all are empty.
	Imbalance struct{ Requests, KV float64 }
}

// Stats returns the state of the unit. O(requests and ranks).
func (b *Balancer) Stats() Stats {
	s := Stats{Ranks: make([]RankStats, len(b.ranks))}
	for g := range b.ranks {
		s.Ranks[g] = b.Rank(g)
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

// Known appends the ids of all requests to dst, rank by rank, in the
// order in which each rank holds them.
func (b *Balancer) Known(dst []ID) []ID {
	for g := range b.ranks {
		for _, i := range b.ranks[g].members {
			dst = append(dst, b.requests[i].id)
		}
	}
	return dst
}
