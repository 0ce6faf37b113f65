package prefill

// RankStats is a rank's ledger.
type RankStats struct {
	State    State
	Requests int   // on it: added, or started and not ended by Step
	Work     Work  // theirs, less what Step has given out
	KV       int64 // their tokens, in full
	Capacity int64 // tokens it holds; 0 = no limit
	Over     int64 // tokens above its capacity
}

// Stats is the state of the unit.
type Stats struct {
	Ranks    []RankStats
	Requests int // known, wherever they are
	Queued   int // of them, those in the queue
	// max/mean over the serving ranks; 1 where all are empty.
	Imbalance struct{ Tokens, Attention float64 }
}

// Rank returns the ledger of a rank; of one that does not exist, the zero
// RankStats, whose State is Gone.
func (b *Balancer) Rank(rank int) RankStats {
	if rank < 0 || rank >= len(b.ranks) {
		return RankStats{}
	}
	k := &b.ranks[rank]
	return RankStats{k.state, k.requests, k.work, k.kv, k.maxKV, max(0, k.kv-k.room())}
}

// Ranks returns how many ranks the unit has, in service or not.
func (b *Balancer) Ranks() int { return len(b.ranks) }

// Queued returns how many requests wait to be started by Step.
func (b *Balancer) Queued() int { return len(b.queue) - b.holes }

// Where returns the rank that a request is on; -1 = it is in the queue. Errors:
// ErrUnknown.
func (b *Balancer) Where(id ID) (rank int, err error) {
	s := b.ids.Find(uint64(id))
	if s < 0 {
		return -1, unknown(id)
	}
	return int(b.requests[s].rank), nil
}

// Known appends the ids of all requests that are here to dst: those in the queue,
// the oldest first, then those of each rank. A balancer that was made from a
// snapshot gives them in the same order.
func (b *Balancer) Known(dst []ID) []ID {
	for _, s := range b.all(nil) {
		if b.requests[s].state != ended {
			dst = append(dst, b.requests[s].id)
		}
	}
	return dst
}

// Ended appends the ids of the requests whose last chunk was in the latest step: those
// that are not known by then would be again if their rank were Dead before the next.
func (b *Balancer) Ended(dst []ID) []ID {
	for _, s := range b.ended {
		dst = append(dst, b.requests[s].id)
	}
	return dst
}

// all appends the slots in use to dst: the queue in its order, each rank's started,
// each rank's others, and the ended.
func (b *Balancer) all(dst []int32) []int32 {
	for _, s := range b.queue {
		if s >= 0 {
			dst = append(dst, s)
		}
	}
	for g := range b.ranks {
		dst = append(append(dst, b.ranks[g].started...), b.ranks[g].added...)
	}
	return append(dst, b.ended...)
}

// Stats returns the state of the unit. O(ranks).
func (b *Balancer) Stats() Stats {
	s := Stats{Ranks: make([]RankStats, len(b.ranks)), Requests: b.ids.Len(), Queued: b.Queued()}
	var most, sum Work
	n := 0
	for g := range b.ranks {
		s.Ranks[g] = b.Rank(g)
		if w := b.ranks[g].work; b.ranks[g].state == Serving {
			most = Work{max(most.Tokens, w.Tokens), max(most.Pairs, w.Pairs)}
			sum = sum.plus(w)
			n++
		}
	}
	s.Imbalance.Tokens, s.Imbalance.Attention = ratio(most.Tokens, sum.Tokens, n), ratio(most.Pairs, sum.Pairs, n)
	return s
}

func ratio(most, sum int64, n int) float64 {
	if sum <= 0 {
		return 1
	}
	return float64(most) / float64(sum) * float64(n)
}
