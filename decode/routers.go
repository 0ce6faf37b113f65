package decode

// Report is what a rank says about itself to one router: its load, with every
// router's requests in it, and how far it had come with this router's. Ranks
// count what they take in and let go, in order, for each router; the router's own
// ledger adds what the report has not seen. So a report may come late, and is
// never taken for the whole truth.
type Report struct {
	Rank     int
	Requests int // running, each counted Width times
	KV       int // tokens

	// Of this router's requests: how many the rank had taken in, and how many of
	// them it had let go, since it started. Both 0 = it does not count: then what
	// this router placed after the last Age steps is taken as not seen, and what
	// it released as seen.
	Placed, Finished uint64

	Age int // steps made since
}

// reported is what is known of a rank's reports.
type reported struct {
	placed   uint64 // requests placed there, in all
	finished uint64 // of them, gone
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

// remembered bounds what is kept of a rank that never reports.
const remembered = 1024

// finished notes that a request leaves its rank and reports whether the view of
// the rank still holds it.
func (b *Balancer) finished(q *request) (view bool) {
	k := &b.ranks[q.rank].reported
	k.finished++
	if k.finished <= k.seenFinished {
		return false // the rank had let it go before it reported
	}
	if b.cfg.Routers > 0 {
		if len(k.gone) == remembered {
			k.gone = append(k.gone[:0], k.gone[remembered/2:]...)
		}
		k.gone = append(k.gone, gone{q.base, q.width, q.placed, k.finished})
	}
	return true
}

// Report takes in what a rank says about itself. A report older than one taken
// in before is ignored. A balancer with Config.Routers 0 takes none: the only
// router's ledger knows better. Errors: ErrValue, ErrUnknown, ErrState.
func (b *Balancer) Report(r Report) error {
	if err := b.known(r.Rank); err != nil {
		return err
	}
	k := &b.ranks[r.Rank]
	switch {
	case b.cfg.Routers == 0:
		return errorf(ErrState, "report", -1, "there is one router, whose ledger is complete")
	case r.Requests < 0 || r.Requests > MaxTokens:
		return errorf(ErrValue, "requests", -1, "%d is not from 0 to %d", r.Requests, MaxTokens)
	case r.KV < 0 || int64(r.KV) > 1<<44:
		return errorf(ErrValue, "kv", -1, "%d is not from 0 to 2^44", r.KV)
	case r.Age < 0 || r.Age > 1<<20:
		return errorf(ErrValue, "age", -1, "%d is not from 0 to 2^20", r.Age)
	case r.Placed > k.reported.placed:
		return errorf(ErrValue, "placed", -1, "%d, but %d were placed", r.Placed, k.reported.placed)
	case r.Finished > r.Placed:
		return errorf(ErrValue, "finished", -1, "%d of the %d placed", r.Finished, r.Placed)
	}
	counted := r.Placed > 0 || r.Finished > 0
	s := &k.reported
	if counted && (r.Placed < s.seenPlaced || r.Finished < s.seenFinished) {
		return nil
	}
	then := b.clock - int64(r.Age)
	width := int64(r.Requests)
	base := int64(r.KV) - width*then
	for _, i := range k.members {
		if q := &b.requests[i]; counted && q.placed > r.Placed || !counted && q.born > then {
			base += q.base
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
	if width < 0 { // reports that do not count can contradict the ledger
		base += width * b.clock
		width = 0
	}
	b.room()
	b.shift(r.Rank, base-b.base[r.Rank], width-k.width)
	return nil
}
