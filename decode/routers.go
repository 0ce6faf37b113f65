package decode

import "slices"

// Report is what a rank says about itself to one router: its load, with every
// router's requests in it, and how far it had come with this router's. Ranks
// count what they take in and let go, in order, for each router; the router's own
// ledger adds what the report has not seen. So a report may come late, and is
// never taken for the whole truth.
type Report struct {
	Rank     int
	Requests int   // running, each counted Width times
	KV       int64 // tokens

	// Of this router's requests: how many the rank had taken in, and how many of
	// them it had let go, since its Epoch began. Both 0 = it does not count, unless
	// it did before it restarted: then what this router placed after the last Age
	// steps is taken as not seen, what it released as seen, and the rank as holding
	// at least what this router has there.
	Placed, Finished uint64

	// Epoch is greater after the rank has restarted: what it held is lost, and its
	// counts begin anew.
	Epoch uint64

	Age int // steps made since
}

// reported is what is known of a rank's reports.
type reported struct {
	epoch    uint64
	placed   uint64 // requests placed there, in all
	finished uint64 // of them, gone
	settled  bool   // reports and ledger have agreed about the counts
	// As far as the latest report had seen.
	seenPlaced, seenFinished uint64
	gone                     []gone // those that left since then, oldest first
}

// gone is a request that has left a rank.
type gone struct {
	base     int64
	width    int32
	placed   uint64
	finished uint64
}

const (
	remembered   = 1024    // bounds what is kept of a rank that never reports
	mostReported = 1 << 22 // requests of a rank
)

// finished notes that a request leaves its rank and reports whether the view of
// the rank still holds it.
func (b *Balancer) finished(q *request) (view bool) {
	if q.placed == 0 {
		return false // the rank restarted without it
	}
	k := &b.ranks[q.rank].reported
	k.finished++
	if k.finished <= k.seenFinished {
		return false // the rank had let it go before it reported
	}
	if b.cfg.Routers > 0 {
		if len(k.gone) == remembered {
			k.gone = append(k.gone[:0], k.gone[remembered/2:]...)
		}
		k.gone = append(k.gone, gone{q.kv(b.clock) - q.shared - int64(q.width)*b.clock, q.width, q.placed, k.finished})
	}
	return true
}

// Report takes in what a rank says about itself. A router that lost its ledger, or
// restored an older one, takes over the counts of the first reports; later, counts
// far beyond its own are an error. A balancer with Config.Routers 0 takes no report:
// the only router's ledger knows better. O(requests of the rank). Errors: ErrValue;
// ErrState where the report is older than one taken in before, contradicts the
// ledger, or the rank is dead: then nothing has changed.
func (b *Balancer) Report(r Report) error {
	if err := b.alive("rank", r.Rank); err != nil {
		return err
	}
	s := &b.ranks[r.Rank].reported
	counted := r.Placed > 0 || r.Finished > 0 || s.settled && (r.Epoch > s.epoch || s.seenPlaced == 0) // from 0 on again
	switch {
	case b.cfg.Routers == 0:
		return errorf(ErrState, "report", -1, "there is one router, whose ledger is complete")
	case r.Requests < 0 || r.Requests > mostReported:
		return errorf(ErrValue, "requests", -1, "%d is not from 0 to %d", r.Requests, mostReported)
	case r.KV < 0 || r.KV > 1<<44:
		return errorf(ErrValue, "kv", -1, "%d is not from 0 to 2^44", r.KV)
	case r.Age < 0 || r.Age > 1<<20:
		return errorf(ErrValue, "age", -1, "%d is not from 0 to 2^20", r.Age)
	case r.Finished > r.Placed:
		return errorf(ErrValue, "finished", -1, "%d of the %d placed", r.Finished, r.Placed)
	case r.Placed > 1<<62:
		return errorf(ErrValue, "placed", -1, "%d is beyond 2^62", r.Placed)
	case r.Epoch < s.epoch:
		return errorf(ErrState, "epoch", -1, "%d is over: the rank has reported of %d", r.Epoch, s.epoch)
	case r.Epoch > s.epoch:
		b.restarted(&r)
	case counted && (r.Placed < s.seenPlaced || r.Finished < s.seenFinished):
		return errorf(ErrState, "placed", -1, "%d, of which %d finished, is older than the %d and %d reported before, or the rank restarted within an epoch", r.Placed, r.Finished, s.seenPlaced, s.seenFinished)
	case s.settled && r.Placed > s.placed+remembered:
		return errorf(ErrState, "placed", -1, "%d, but %d were placed", r.Placed, s.placed)
	}
	s.settled = counted && r.Placed <= s.placed
	s.placed = max(s.placed, r.Placed)
	b.view(&r, counted)
	return nil
}

// restarted begins a rank's epoch: of this router's requests there, those placed
// since the report are on their way, as many as the rank counts before them are
// there, and the rest are lost.
func (b *Balancer) restarted(r *Report) {
	k := &b.ranks[r.Rank]
	s := &k.reported
	then := b.clock - int64(r.Age)
	later, last := uint64(0), uint64(0) // the order of the first that is on its way, and of the last
	for _, i := range k.members {
		q := &b.requests[i]
		last = max(last, q.placed)
		if q.born > then && (later == 0 || q.placed < later) {
			later = q.placed
		}
	}
	if s.settled { // else counts may have been taken over from a report that is older than all there is
		last = s.placed
	}
	if later == 0 {
		later = last + 1
	}
	off := int64(later) - 1 - int64(r.Placed)
	for _, i := range k.members {
		if q := &b.requests[i]; q.placed > 0 {
			q.placed = uint64(max(int64(q.placed)-off, 0))
		}
	}
	*s = reported{epoch: r.Epoch, placed: uint64(max(int64(last)-off, 0)), finished: r.Finished, gone: s.gone[:0]}
}

// view makes the rank's load what the report says, and what it has not seen.
func (b *Balancer) view(r *Report, counted bool) {
	k := &b.ranks[r.Rank]
	s := &k.reported
	then := b.clock - int64(r.Age)
	width := int64(r.Requests)
	base := r.KV - width*then
	own, ownWidth := int64(0), int64(0) // what this router has there
	for _, i := range k.members {
		q := &b.requests[i]
		if q.placed == 0 {
			continue
		}
		kv := q.kv(b.clock) - q.shared
		own += kv
		ownWidth += int64(q.width)
		if counted && q.placed > r.Placed || !counted && q.born > then {
			base += kv - int64(q.width)*b.clock
			width += int64(q.width)
		}
	}
	rest := s.gone[:0]
	for _, q := range s.gone {
		if !counted || q.finished <= r.Finished {
			continue
		}
		rest = append(rest, q)
		if q.placed <= r.Placed {
			base -= q.base
			width -= int64(q.width)
		}
	}
	s.gone = rest
	if counted {
		s.seenPlaced, s.seenFinished = r.Placed, r.Finished
	}
	kv := max(base+width*b.clock, 0)
	width = max(width, 0)
	if !s.settled {
		kv, width = max(kv, own), max(width, ownWidth)
	}
	b.room()
	b.shift(r.Rank, kv-width*b.clock-b.base[r.Rank], width-k.width)
	b.hear(r.Rank, r.KV-int64(r.Requests)*then, int64(r.Requests))
}

// trust makes a rank's load what its requests add up to: the engine has said so.
func (b *Balancer) trust(rank int) {
	k := &b.ranks[rank]
	s := &k.reported
	s.gone, s.seenPlaced, s.seenFinished = s.gone[:0], s.placed, s.finished
	kv, width := int64(0), int64(0)
	var shared []int32
	for _, i := range k.members {
		q := &b.requests[i]
		kv += q.kv(b.clock) - q.shared
		width += int64(q.width)
		if q.prefix >= 0 {
			shared = append(shared, q.prefix)
		}
	}
	slices.Sort(shared)
	for _, p := range slices.Compact(shared) {
		x := &b.prefixes.slots[p]
		at, _ := x.on(rank)
		kv += x.copies[at].tokens
	}
	b.shift(rank, kv-width*b.clock-b.base[rank], width-k.width)
	b.hear(rank, b.base[rank], k.width)
}
