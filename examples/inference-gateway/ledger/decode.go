package ledger

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/moelb/moelb/decode"
)

// Decode is the ledger of a decode unit.
type Decode struct {
	cfg  Config
	step time.Duration
	told bool // candidates tell their loads

	mu    sync.Mutex
	b     decodeUnit
	seats seats
	book  book
	id    decode.ID // the latest request's
	now   time.Time // the latest step's
}

// decodeUnit is a decode balancer whose ranks change hands.
type decodeUnit struct{ *decode.Balancer }

func (u decodeUnit) vacate(g int) { _, _ = u.Dead(nil, g) } // until Restore

// NewDecode returns the ledger of an empty unit of no endpoints, which makes a
// step every so often (0 = 50 ms). unit.Ranks is not read. Errors: a bad
// configuration.
func NewDecode(unit decode.Config, step time.Duration, cfg Config) (*Decode, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	if step == 0 {
		step = 50 * time.Millisecond
	}
	if step < time.Microsecond {
		return nil, fmt.Errorf("stepTime: %v is less than a microsecond", step)
	}
	unit.Ranks = 1
	b, err := decode.New(unit)
	if err != nil {
		return nil, err
	}
	u := decodeUnit{b}
	return &Decode{cfg: cfg, step: step, told: unit.Routers > 1, b: u, seats: newSeats(u, cfg.Present), book: newBook(), now: cfg.Now()}, nil
}

// Pick places a request on one of the candidates and returns which; -1 = none of
// them has room. The request, known by its key from here on, holds its place until
// Done. One that holds a place already gives it up first. Errors: a bad request, or
// more endpoints than a balancer can have.
func (d *Decode) Pick(key any, r decode.Request, candidates []Candidate) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.advance()
	d.cancel(key)
	for h := d.book.overdue(now, d.cfg.MaxAge); h != nil; h = d.book.overdue(now, d.cfg.MaxAge) {
		d.cancel(h.key)
	}
	among, err := d.seats.call(candidates, now)
	if err != nil {
		return -1, err
	}
	r.Among = among
	if d.told {
		d.report(candidates, now)
	}
	d.id++
	r.ID = d.id
	g, err := d.b.Add(r)
	if err != nil || g < 0 {
		return -1, err
	}
	d.book.add(&held{key: key, rank: g, id: uint64(r.ID), since: now})
	d.seats.seat[g].held++
	return d.seats.seat[g].at, nil
}

// report passes on what the candidates have said of themselves since the last
// pick. What was placed less than a step before is taken as not seen by them, what
// was released since then as still in it.
func (d *Decode) report(candidates []Candidate, now time.Time) {
	for i := range candidates {
		l := candidates[i].Load
		g := d.seats.rank[candidates[i].Name]
		t := &d.seats.seat[g]
		if !l.At.After(t.told) {
			continue
		}
		t.told = l.At
		t.left = slices.DeleteFunc(t.left, func(r released) bool { return !r.at.After(l.At) })
		for _, r := range t.left {
			l.Requests--
			l.KV -= r.kv
		}
		age := min(max(now.Sub(l.At), 0)/d.step+1, 1<<20)
		// What makes no sense is no reason to refuse a request.
		_ = d.b.Report(decode.Report{Rank: g, Requests: max(l.Requests, 0), KV: int64(max(l.KV, 0)), Age: int(age)})
	}
}

// released is a request that has left a rank since the rank last said what it has.
type released struct {
	at time.Time
	kv int
}

// mostLeft bounds what is remembered for a rank that says nothing.
const mostLeft = 1024

// Sent says that a request that was picked is on its way.
func (d *Decode) Sent(key any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.book.send(key, d.cfg.Now())
}

// Done takes a request off that has ended, having generated so many tokens (0 =
// as many as steps were made). One that holds nothing is ignored.
func (d *Decode) Done(key any, output int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	d.release(key, func(id decode.ID) error {
		if output > 0 {
			_ = d.b.Generated(id, int64(output)) // one that makes no sense is not believed
		}
		return d.b.Done(id)
	})
}

// cancel takes a request off that nobody waits for any more.
func (d *Decode) cancel(key any) { d.release(key, d.b.Cancel) }

func (d *Decode) release(key any, end func(decode.ID) error) {
	h := d.book.take(key)
	if h == nil {
		return
	}
	id := decode.ID(h.id)
	kv, _ := d.b.KV(id)
	_ = end(id)
	if d.told {
		t := &d.seats.seat[h.rank]
		if len(t.left) == mostLeft {
			t.left = append(t.left[:0], t.left[mostLeft/2:]...)
		}
		t.left = append(t.left, released{d.cfg.Now(), int(kv)})
	}
	d.seats.leave(h.rank)
}

// advance makes the steps that are due.
func (d *Decode) advance() time.Time {
	now := d.cfg.Now()
	n := now.Sub(d.now) / d.step
	if n <= 0 {
		return now
	}
	d.now = d.now.Add(n * d.step)
	if len(d.book.at) > 0 {
		for ; n > 0; n-- {
			d.b.Step()
		}
	}
	return now
}

// Stats returns how many requests are held and the state of the balancer, whose
// ranks that no endpoint has are dead.
func (d *Decode) Stats() (requests int, unit decode.Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	return len(d.book.at), d.b.Stats()
}
