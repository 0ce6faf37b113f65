package ledger

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moelb/moelb/decode"
)

// Decode is the ledger of the decode units of a pool.
type Decode struct {
	pool
	like    string // the configuration, for snapshots
	step    time.Duration
	most    int         // requests a rank runs; 0 = no limit
	tokens  int64       // a rank holds; 0 = no limit
	several bool        // routers serve the pool, and candidates tell their loads
	heir    bool        // what ran before this ledger began is being taken over
	listens atomic.Bool // either
	began   time.Time   // when the first request came; zero = none has

	mu   sync.Mutex
	id   decode.ID // the latest request's
	now  time.Time // the latest step's
	mean Average   // steps that requests take which finish
	hold hold

	offers []offer // scratch
}

// decodeUnit is a decode balancer whose ranks change hands.
type decodeUnit struct{ *decode.Balancer }

func (u decodeUnit) vacate(g int) { _, _ = u.Dead(nil, g) } // until Restore

func balancerOf(u *unit) *decode.Balancer { return u.ranked.(decodeUnit).Balancer }

// NewDecode returns the ledger of no endpoints, whose units make a step every so
// often (0 = 50 ms), and are each as unit says; unit.Ranks is not read. Errors: a bad
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
	several := unit.Routers > 1
	unit.Ranks = 1
	d := &Decode{step: step, most: unit.MaxRequests, tokens: capacityOf(&unit), several: several, heir: !several, now: cfg.Now()}
	d.cfg = cfg
	d.like = fmt.Sprint(unit, step)
	d.make = func(string) (ranked, error) {
		b, err := decode.New(unit)
		return decodeUnit{b}, err
	}
	d.listens.Store(true)
	_, err := d.unit("")
	d.units = nil
	return d, err
}

// capacityOf is how many tokens a rank of a unit holds whose ranks are alike.
func capacityOf(unit *decode.Config) int64 {
	if len(unit.KVCapacity) == 0 {
		return 0
	}
	return unit.KVCapacity[0]
}

// Wanted reports whether the next pick wants to know the candidates' loads.
func (d *Decode) Wanted() bool { return d.listens.Load() }

// Pick places a request on one of the candidates and returns which; -1 = none of
// them has room. The request, known by its key from here on, holds its place until
// End. One that holds a place already gives it up first. Errors: a bad request, or
// more endpoints than a balancer can have.
func (d *Decode) Pick(key any, r decode.Request, candidates []Candidate) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now, err := d.ready(key, candidates)
	if err != nil {
		return -1, err
	}
	r.ID = d.next()
	return d.place(key, r, now)
}

// next names a request for the balancers. It keeps its name while it waits: by that
// they know who was refused and is asked for again.
func (d *Decode) next() decode.ID {
	d.id++
	return d.id
}

// ready does what is due before a request is placed on one of the candidates.
func (d *Decode) ready(key any, candidates []Candidate) (time.Time, error) {
	now := d.advance()
	if d.began.IsZero() {
		d.began = now
	}
	if err := d.call(key, candidates, now, func(h *held) { d.release(h, now, false, 0) }); err != nil {
		return now, err
	}
	if d.listens.Load() {
		d.listen(candidates, now)
	}
	return now, nil
}

// place places a request on one of the candidates that were called.
func (d *Decode) place(key any, r decode.Request, now time.Time) (int, error) {
	u, g, err := d.try(func() (*unit, int, error) { return d.add(r) })
	if err == nil && g < 0 && d.heir {
		u, g = d.squeeze(r)
	}
	if err != nil || g < 0 {
		return -1, err
	}
	d.sit(u, g, key, uint64(r.ID), now)
	return u.seat[g].at, nil
}

// usual is how many tokens a request is expected to generate.
func (d *Decode) usual() int64 {
	if d.mean.Weight < 32 {
		return guessedOutput
	}
	return max(int64(d.mean.Value()), 1)
}

// guessedOutput is how many tokens a request generates while none has ended.
const guessedOutput = 512

// squeeze enters a request on the rank of least KV use that has room for it as it is
// now: while little is known of how long requests run, and much is there already of
// which less is known, that is no reason to refuse one.
func (d *Decode) squeeze(r decode.Request) (best *unit, rank int) {
	least := int64(0)
	for _, u := range d.called {
		for g := range u.seat {
			s := &u.seat[g]
			if s.turn != d.turn || !s.taken || s.closed {
				continue
			}
			k := balancerOf(u).Rank(g)
			if room := (k.Capacity == 0 || k.KV+r.KV < k.Capacity) && (d.most == 0 || k.Width < d.most); room && (best == nil || k.KV < least) {
				best, rank, least = u, g, k.KV
			}
		}
	}
	if best == nil || balancerOf(best).Enter(r, rank) != nil {
		return nil, decode.Full
	}
	return best, rank
}

// add places a request on the unit that suits it best and has room.
func (d *Decode) add(r decode.Request) (*unit, int, error) {
	if len(d.called) == 1 {
		u := d.called[0]
		r.Among = u.among
		g, err := balancerOf(u).Add(r)
		return u, g, err
	}
	offers, failed := d.quoted(r)
	for _, o := range offers {
		r.Among = o.among
		g, err := balancerOf(o.unit).Add(r)
		if err == nil && g >= 0 {
			return o.unit, g, nil
		}
		failed = err
	}
	return nil, decode.Full, failed
}

// offer is what a unit says that a request would cost it.
type offer struct {
	*unit
	decode.Quote
}

// alike is by what share units' steps may differ that count as taking the same. A
// request then goes to the unit that has the right hole for it, which it does not
// where it always goes to the one of the shortest step.
const alike = 0.01

// quoted returns the units that were called, the best for a request first: of those
// whose steps are alike the one where it makes the least wait, and of these where it
// joins the rank of most KV use, so that holes are kept for what needs them; then the
// others, the shortest step first. All are asked of the same output: each knows of its
// own requests alone.
func (d *Decode) quoted(r decode.Request) ([]offer, error) {
	offers := d.offers[:0]
	var failed error
	r.Output = d.usual()
	least := math.Inf(1)
	for _, u := range d.called {
		r.Among = u.among
		switch q, err := balancerOf(u).Quote(r); {
		case err != nil:
			failed = err
		case q.Rank >= 0:
			offers = append(offers, offer{u, q})
			least = min(least, q.Step)
		}
	}
	rank := func(o offer) float64 {
		if o.Step <= (1+alike)*least {
			return 0
		}
		return o.Step
	}
	slices.SortStableFunc(offers, func(a, b offer) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Beyond, b.Beyond), cmp.Compare(b.KV, a.KV))
	})
	d.offers = offers
	return offers, failed
}

// Sent says that a request that was picked is on its way.
func (d *Decode) Sent(key any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.book.send(key, d.cfg.Now())
}

// Heard says that a request's stream has moved: its endpoint has begun to answer it,
// and well. It reports whether the request holds a place; one that does not, because
// nothing was heard of it for too long, may Resume. It takes no lock but with the
// first of an answer.
func (d *Decode) Heard(key any) bool {
	h := d.book.find(key)
	if h == nil {
		return false
	}
	now := d.cfg.Now()
	h.heard.Store(now.UnixNano())
	if !h.answered.Swap(true) {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.book.find(key) == h {
			d.told(h, Finished, now)
		}
	}
	return true
}

// Resume says that a request that holds no place runs on an endpoint: it is entered
// there, whatever the limits. Of an endpoint that is not known it is ignored. Errors:
// a bad request.
func (d *Decode) Resume(key any, r decode.Request, at Name) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.advance()
	if d.book.find(key) != nil {
		return nil
	}
	for _, u := range d.units {
		g, ok := u.of[at]
		if !ok {
			continue
		}
		r.ID, r.Among = d.next(), nil
		if err := balancerOf(u).Enter(r, g); err != nil {
			return err
		}
		d.sit(u, g, key, uint64(r.ID), now).answered.Store(true)
		d.book.send(key, now)
		return nil
	}
	return nil
}

// Answered reports whether some of an answer to a request has come, and whether it
// was sent a step ago or longer.
func (d *Decode) Answered(key any) (some, long bool) {
	h := d.book.find(key)
	if h == nil {
		return false, true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return h.answered.Load(), d.cfg.Now().Sub(h.since) >= d.step
}

// Counted says how long a request's prompt turned out to be, as the engine counts it,
// and how many tokens it has generated. What makes no sense is not believed.
func (d *Decode) Counted(key any, prompt, output int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	h := d.book.find(key)
	if h == nil {
		return
	}
	b, id := balancerOf(h.unit), decode.ID(h.id)
	if b.Generated(id, output) != nil || prompt <= 0 {
		return
	}
	kv, _ := b.KV(id)
	if off := prompt + output - kv; 16*max(off, -off) > kv && prompt+output <= decode.MaxTokens {
		_ = b.Cancel(id) // its life goes on with what it has generated
		_ = b.Enter(decode.Request{ID: id, KV: prompt + output, Generated: output}, h.rank)
	}
}

// End takes a request off that has ended, having generated so many tokens (0 = as
// many as steps were made). Only what is Finished says how long outputs are. One that
// holds nothing is ignored.
func (d *Decode) End(key any, how End, output int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := d.advance()
	h := d.book.find(key)
	if h == nil {
		return
	}
	if how != Finished || !h.answered.Load() {
		d.told(h, how, now)
	}
	d.release(h, now, how == Finished, output)
}

func (d *Decode) release(h *held, now time.Time, finished bool, output int64) {
	d.book.take(h.key)
	b, id := balancerOf(h.unit), decode.ID(h.id)
	if output > 0 {
		_ = b.Generated(id, output) // one that makes no sense is not believed
	}
	kv, _ := b.KV(id)
	if finished {
		d.mean.Add(float64(now.Sub(h.since)) / float64(d.step))
		_ = b.Done(id)
	} else {
		_ = b.Cancel(id)
	}
	if h.probe { // nobody knows
		d.told(h, Cut, now)
	}
	if d.listens.Load() {
		h.unit.seat[h.rank].leave(h, kv, now)
	}
	d.rise(h)
}

// advance makes the steps that are due.
func (d *Decode) advance() time.Time {
	now := d.cfg.Now()
	n := now.Sub(d.now) / d.step
	if n <= 0 {
		return now
	}
	d.now = d.now.Add(n * d.step)
	if d.book.len() == 0 && !d.heir {
		return now
	}
	for _, u := range d.units {
		for b, i := balancerOf(u), n; i > 0; i-- {
			b.Step()
		}
	}
	return now
}

// Stats returns how many requests are held and the state of the units, rank after
// rank in the order in which the units became known. Ranks that no endpoint has are
// dead.
func (d *Decode) Stats() (requests int, all decode.Stats) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.advance()
	for _, u := range d.units {
		s := balancerOf(u).Stats()
		all.Ranks = append(all.Ranks, s.Ranks...)
		all.Imbalance = s.Imbalance
	}
	return d.book.len(), all
}

// Output returns how many steps requests take on average that finish; 0 = none has.
func (d *Decode) Output() float64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.mean.Value()
}
