package prefill

import "math"

// Report is what a rank says of itself, some time ago.
type Report struct {
	Rank int
	// Epoch is the rank's incarnation: greater after each of its restarts, which
	// forget what it had seen and lose what it had to do.
	Epoch uint64
	// Version is the newest that the rank had seen of this router's: Version's value
	// when the last request or cancellation that it knew of was sent; 0 = none.
	Version uint64
	// Work is all it then had to do, whoever sent it, less what it had done.
	Work Work
}

// How many versions of a rank's ledger are kept at most, and before it is known
// that it reports: a report that is older than these is read as of the oldest.
const pastLedgers, fewLedgers = 1 << 10, 1 << 6

// view is what Add sees of a rank: the ledger corrected by the last report, by the
// rank's speed. That of a rank that takes nothing is infinite.
type view struct{ tokens, pairs, half float64 }

// seenOf is the same in whole numbers, whatever the speed, and bounded so that all
// ranks' add up.
func (b *Balancer) seenOf(g int) Work {
	k := &b.ranks[g]
	const most = math.MaxInt64 / 2 / MaxRanks
	return Work{min(max(0, k.work.Tokens+k.others.Tokens), most), min(max(0, k.work.Pairs+k.others.Pairs), most)}
}

// look brings a rank's view up to date.
func (b *Balancer) look(g int) {
	k := &b.ranks[g]
	b.seen = b.seen.less(k.seen)
	k.seen = Work{}
	v := view{math.Inf(1), math.Inf(1), 0}
	if k.open {
		k.seen = b.seenOf(g)
		b.seen = b.seen.plus(k.seen)
		v = view{float64(k.seen.Tokens) / k.speed, float64(k.seen.Pairs) / k.speed, .5 / k.speed}
	}
	old, least := b.views[g], &b.blocks[g/blockRanks]
	b.views[g] = v
	if old.tokens == least.tokens && v.tokens > old.tokens || old.pairs == least.pairs && v.pairs > old.pairs || old.half != v.half {
		b.lookBlock(g / blockRanks)
		return
	}
	least.tokens, least.pairs = min(least.tokens, v.tokens), min(least.pairs, v.pairs)
}

// blockRanks is how many ranks Add passes over at once if none of them can be best.
const blockRanks = 16

// lookBlock brings a block's least figures up to date.
func (b *Balancer) lookBlock(i int) {
	least := view{math.Inf(1), math.Inf(1), math.Inf(1)}
	views := b.views[i*blockRanks : min((i+1)*blockRanks, len(b.views))]
	for g := range views {
		v := &views[g]
		if v.tokens < least.tokens {
			least.tokens = v.tokens
		}
		if v.pairs < least.pairs {
			least.pairs = v.pairs
		}
		if v.half < least.half {
			least.half = v.half
		}
	}
	b.blocks[i] = least
}

// changed notes that this router has changed a rank's ledger by an order to the
// rank.
func (b *Balancer) changed(g int) {
	k := &b.ranks[g]
	k.version++
	k.keep()
	b.look(g)
}

// keep remembers the ledger as of the newest version.
func (k *rank) keep() {
	most := uint64(fewLedgers)
	if k.heard {
		most = pastLedgers
	}
	if n := uint64(len(k.past)); n < most && k.version-k.reported >= n {
		past := make([]Work, max(16, 2*n))
		for v := k.version - n; v < k.version; v++ {
			past[v%uint64(len(past))] = k.past[v%n]
		}
		k.past = past
	}
	k.past[k.version%uint64(len(k.past))] = k.work
}

// then returns the ledger as of a version.
func (k *rank) then(version uint64) Work {
	n := uint64(len(k.past))
	if n == 0 || version == k.version {
		return k.work
	}
	if k.version-version >= n {
		version = k.version - n + 1
	}
	return k.past[version%n]
}

// Version counts what this router has ordered a rank: each Add to it and each Done
// and Cancel. Send it along, and let the rank report the newest it has seen. Of a
// rank that does not exist it is 0.
func (b *Balancer) Version(rank int) uint64 {
	if rank < 0 || rank >= len(b.ranks) {
		return 0
	}
	return b.ranks[rank].version
}

// Report corrects what Add takes a rank to have: other routers' requests, and how
// far its own have come. What this router has ordered since the reported version
// stays counted in full, so that a late report does not send the next requests to
// the same rank once more. A report of an older version than the last, or of an
// older epoch, is older news and changes nothing; one of a greater epoch starts
// anew.
//
// A rank may know of orders that this ledger does not: it was restored from a
// snapshot that is a moment old, or the router was restarted. From a rank's first
// report after that, and the first of an epoch, the version is taken over; from any
// other it cannot be reconciled. Errors: ErrValue for a rank that does not exist or
// work that is negative or beyond counting; ErrState for a version that was never
// ordered. O(1).
func (b *Balancer) Report(r Report) error {
	const most = math.MaxInt64 / 4
	if err := b.exists("rank", r.Rank); err != nil {
		return err
	}
	k := &b.ranks[r.Rank]
	fresh := !k.heard || r.Epoch > k.epoch || k.restored && r.Version > k.version
	switch {
	case r.Work.Tokens < 0 || r.Work.Pairs < 0 || r.Work.Tokens > most || r.Work.Pairs > most:
		return bad(ErrValue, "work", -1, "%d tokens and %d pairs", r.Work.Tokens, r.Work.Pairs)
	case r.Version > most:
		return bad(ErrValue, "version", -1, "%d: at most %d is counted", r.Version, int64(most))
	case k.heard && r.Epoch < k.epoch:
		return nil
	case !fresh && r.Version > k.version:
		return bad(ErrState, "version", -1, "rank %d has seen %d of epoch %d, but %d is the newest", r.Rank, r.Version, r.Epoch, k.version)
	case !fresh && r.Version < k.reported:
		return nil
	}
	beyond := r.Version > k.version
	if beyond {
		k.version, k.past = r.Version, nil // it has seen all that is ordered here, and more
	}
	k.heard, k.restored, k.epoch, k.reported = true, k.restored && beyond, r.Epoch, r.Version
	k.others = r.Work.less(k.then(r.Version))
	if len(k.past) == 0 {
		k.keep()
	}
	b.look(r.Rank)
	return nil
}
