package ledger

import (
	"context"
	"slices"
	"time"

	"github.com/moelb/moelb/decode"
)

// hold is requests that wait to be placed together.
type hold struct {
	most    time.Duration // for so long at most; 0 = none waits
	after   func(time.Duration, func())
	waiting []*waiter
}

// waiter is a request that waits.
type waiter struct {
	key        any
	request    decode.Request
	candidates []Candidate
	done       chan struct{} // closed once it was placed, or could not be
	at         int
	err        error
}

// mostWaiting is how many wait at most: as many are placed at once.
const mostWaiting = 1024

// Hold lets every request wait for so long, a step at most, to be placed together
// with those that come meanwhile. after calls a function after a while; nil =
// time.AfterFunc. Call it before the first Pick.
func (d *Decode) Hold(most time.Duration, after func(time.Duration, func())) {
	if after == nil {
		after = func(t time.Duration, f func()) { time.AfterFunc(t, f) }
	}
	d.hold = hold{most: min(most, d.step), after: after}
}

// Await is Pick for a ledger that holds requests: it returns when the request was
// placed with others, or the context is done.
func (d *Decode) Await(ctx context.Context, key any, r decode.Request, candidates []Candidate) (int, error) {
	if d.hold.most <= 0 {
		return d.Pick(key, r, candidates)
	}
	w := &waiter{key: key, request: r, candidates: candidates, done: make(chan struct{}), at: -1}
	d.mu.Lock()
	w.request.ID = d.next()
	d.hold.waiting = append(d.hold.waiting, w)
	switch len(d.hold.waiting) {
	case 1:
		d.hold.after(d.hold.most, d.Flush)
	case mostWaiting:
		d.flush()
	}
	d.mu.Unlock()
	select {
	case <-w.done:
	case <-ctx.Done():
		d.mu.Lock()
		defer d.mu.Unlock()
		if i := slices.Index(d.hold.waiting, w); i >= 0 {
			d.hold.waiting = slices.Delete(d.hold.waiting, i, i+1)
			return -1, ctx.Err()
		}
	}
	return w.at, w.err
}

// Waiting returns how many requests wait.
func (d *Decode) Waiting() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.hold.waiting)
}

// Flush places all that wait.
func (d *Decode) Flush() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.flush()
}

func (d *Decode) flush() {
	all := d.hold.waiting
	d.hold.waiting = nil
	defer func() {
		for _, w := range all {
			close(w.done)
		}
	}()
	now := d.cfg.Now()
	joint := make([]decode.Request, 0, len(all))
	for _, w := range all {
		if now, w.err = d.ready(w.key, w.candidates); w.err != nil {
			continue
		}
		if len(d.called) == 1 && len(d.ills) == 0 {
			r := w.request
			r.Among = slices.Clone(d.called[0].among)
			joint = append(joint, r)
		}
	}
	if len(joint) == len(all) && len(all) > 0 && d.together(all, joint, now) {
		return
	}
	// Each alone, the longest first.
	order := slices.Clone(all)
	slices.SortStableFunc(order, func(a, b *waiter) int { return int(b.request.KV - a.request.KV) })
	for _, w := range order {
		if w.err != nil {
			continue
		}
		if now, w.err = d.ready(w.key, w.candidates); w.err == nil {
			w.at, w.err = d.place(w.key, w.request, now)
		}
	}
}

// together places all that wait on the one unit that they may go to, and reports
// whether it could: one bad request spoils it.
func (d *Decode) together(all []*waiter, requests []decode.Request, now time.Time) bool {
	u := d.called[0]
	for _, w := range all {
		if w.candidates[0].Unit != u.name {
			return false
		}
	}
	ranks, err := balancerOf(u).Batch(nil, requests)
	if err != nil {
		return false
	}
	for i, g := range ranks {
		if g < 0 {
			continue
		}
		w := all[i]
		d.sit(u, g, w.key, uint64(requests[i].ID), now)
		w.at = slices.IndexFunc(w.candidates, func(c Candidate) bool { return c.Name == u.seat[g].name })
	}
	return true
}
