package prefill

import (
	"fmt"
	"math"
)

// Report is what a rank says of itself, some time ago.
type Report struct {
	// Version is the newest that the rank had seen of this router's: Version's value
	// when the last request or cancellation that it knew of was sent.
	Version uint64
	// Work is all it then had to do, whoever sent it, less what it had done.
	Work Work
}

// pastLedgers is how many versions of a rank's ledger are kept: a report that is
// older than these is read as of the oldest.
const pastLedgers = 32

// view is what Assign sees of a rank: the ledger corrected by the last report. A
// drained rank's is infinite.
type view struct{ tokens, pairs float64 }

// seen is the same in whole numbers, bounded so that all ranks' add up.
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
	if k.drained {
		b.views[g] = view{math.Inf(1), math.Inf(1)}
		return
	}
	k.seen = b.seenOf(g)
	b.seen = b.seen.plus(k.seen)
	b.views[g] = view{float64(k.seen.Tokens), float64(k.seen.Pairs)}
}

// changed notes that this router has changed a rank's ledger by an order to the
// rank.
func (b *Balancer) changed(g int) {
	k := &b.ranks[g]
	k.version++
	k.past[k.version%pastLedgers] = k.work
	b.look(g)
}

// Version counts what this router has ordered a rank, which must exist: each
// Assign to it and each Done. Send it along, and let the rank report the newest it
// has seen.
func (b *Balancer) Version(rank int) uint64 { return b.ranks[rank].version }

// Report corrects what Assign takes a rank to have: other routers' requests, and
// how far its own have come. What this router has ordered since the reported
// version stays counted in full, so that a late report does not send the next
// requests to the same rank once more. A report with an older version than the
// last is ignored. It is an error wrapping ErrValue if the rank does not exist,
// the version is not yet out, or the work is negative or beyond counting.
func (b *Balancer) Report(rank int, r Report) error {
	const most = math.MaxInt64 / 4
	if rank < 0 || rank >= len(b.ranks) {
		return fmt.Errorf("rank: %d of %d: %w", rank, len(b.ranks), ErrValue)
	}
	k := &b.ranks[rank]
	switch {
	case r.Version > k.version:
		return fmt.Errorf("version: %d, but the newest is %d: %w", r.Version, k.version, ErrValue)
	case r.Work.Tokens < 0 || r.Work.Pairs < 0 || r.Work.Tokens > most || r.Work.Pairs > most:
		return fmt.Errorf("work: %d tokens and %d pairs: %w", r.Work.Tokens, r.Work.Pairs, ErrValue)
	case r.Version < k.reported:
		return nil
	}
	k.reported = r.Version
	at := r.Version
	if k.version-at >= pastLedgers {
		at = k.version - pastLedgers + 1
	}
	k.others = r.Work.less(k.past[at%pastLedgers])
	b.look(rank)
	return nil
}
