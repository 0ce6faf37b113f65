package prefill_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/prefill"
)

// TestLikeModel holds balancers against a model that shares no code with them, over
// random calls of every kind, good and bad: the ledger is the model's, an error has
// its kind and changes nothing, and a balancer that is restored from a snapshot
// decides as the one that was saved.
func TestLikeModel(t *testing.T) {
	calls, units := 1500, uint64(24)
	if long.Tests() {
		calls, units = 10_000, 100
	}
	first := uint64(1)
	if long.Tests() {
		first = rand.Uint64N(1 << 40)
		t.Logf("seeds from %d", first)
	}
	for seed := first; seed < first+units; seed++ {
		u := newRandomUnit(t, seed)
		for i := range calls {
			if err := u.call(); err != nil {
				t.Fatalf("seed %d, call %d: %s: %v", seed, i, u.what, err)
			}
		}
	}
}

// randomUnit is a balancer under random calls, its model, and at times a twin that
// was restored from its snapshot.
type randomUnit struct {
	*rand.Rand
	b, twin *prefill.Balancer
	m       model
	left    int // calls that the twin is still held against
	arrived int
	what    string
	sizes   int64
}

func newRandomUnit(t *testing.T, seed uint64) *randomUnit {
	r := rand.New(rand.NewPCG(seed, 77))
	n := 1 + r.IntN(6)
	cfg := prefill.Config{Ranks: n, MaxTokens: []int64{0, 700, 2048}[r.IntN(3)], KeepKV: r.IntN(4) == 0, Patience: []float64{0, -1, 2}[r.IntN(3)]}
	u := &randomUnit{Rand: r, sizes: 1 + r.Int64N(3000)}
	if r.IntN(2) == 0 {
		for range n {
			cfg.MaxKV = append(cfg.MaxKV, r.Int64N(2)*(500+r.Int64N(4*u.sizes)))
		}
	}
	if r.IntN(2) == 0 {
		for range n {
			cfg.Speed = append(cfg.Speed, []float64{0, 1, .5, 2}[min(3, r.IntN(12))])
		}
	}
	if r.IntN(3) == 0 {
		cfg.Routers = 1 + r.IntN(4)
		cfg.Router = r.IntN(cfg.Routers)
	}
	b, err := prefill.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	u.b = b
	u.m = model{most: cfg.MaxTokens, keep: cfg.KeepKV, credits: map[*modelRequest]credit{}}
	for g := range n {
		k := modelRank{state: prefill.Serving, speed: 1}
		if cfg.Speed != nil {
			k.speed = cfg.Speed[g]
		}
		if cfg.MaxKV != nil {
			k.cap = cfg.MaxKV[g]
		}
		u.m.ranks = append(u.m.ranks, k)
	}
	return u
}

// both makes a call, on the twin too, and complains where they differ.
func both[T any](u *randomUnit, call func(*prefill.Balancer) (T, error)) (T, error, error) {
	var before []byte
	if u.IntN(8) == 0 {
		before = u.b.AppendSnapshot(nil)
	}
	v, err := call(u.b)
	if err != nil && before != nil && !bytes.Equal(before, u.b.AppendSnapshot(nil)) {
		return v, err, fmt.Errorf("an error changed something: %w", err)
	}
	if u.twin != nil {
		w, twin := call(u.twin)
		if !reflect.DeepEqual(v, w) || (err == nil) != (twin == nil) {
			return v, err, fmt.Errorf("%v, %v; the restored balancer: %v, %v", v, err, w, twin)
		}
	}
	return v, err, nil
}

func just(u *randomUnit, want error, call func(*prefill.Balancer) error) error {
	_, err, complaint := both(u, func(b *prefill.Balancer) (int, error) { return 0, call(b) })
	if complaint == nil && !same(err, want) {
		complaint = fmt.Errorf("error %v, not %v", err, want)
	}
	return complaint
}

// id is that of a request that is there, mostly, or one that may be.
func (u *randomUnit) id() prefill.ID {
	if n := len(u.m.there); n > 0 && u.IntN(12) > 0 {
		return u.m.there[u.IntN(n)].id
	}
	return u.fresh()
}

// fresh is an id that is seldom there; few enough that they come again.
func (u *randomUnit) fresh() prefill.ID { return prefill.ID(u.Uint64N(200)) << (u.IntN(2) * 50) }

// rank is one that there is, mostly.
func (u *randomUnit) rank() int {
	if u.IntN(15) == 0 {
		return []int{-1, len(u.m.ranks), math.MaxInt, math.MinInt}[u.IntN(4)]
	}
	return u.IntN(len(u.m.ranks))
}

// tokens is a number up to most, mostly.
func (u *randomUnit) tokens(most int64) int64 {
	if u.IntN(40) == 0 {
		return []int64{-1, most + 1, 1 << 62, -1 << 62}[u.IntN(4)]
	}
	return u.Int64N(most + 1)
}

func (u *randomUnit) request() prefill.Request {
	r := prefill.Request{ID: u.fresh(), Tokens: u.tokens(u.sizes)}
	n := max(0, min(r.Tokens, u.sizes))
	switch u.IntN(4) {
	case 0:
		r.Cached = u.tokens(n)
	case 1:
		r.CachedAt = make([]int64, len(u.m.ranks)+u.IntN(40)/39)
		for g := range r.CachedAt {
			if u.IntN(2) == 0 {
				r.CachedAt[g] = u.tokens(n)
			}
		}
	}
	if u.IntN(5) == 0 {
		r.Among = []int{}
		for range u.IntN(len(u.m.ranks) + 1) {
			r.Among = append(r.Among, u.rank())
		}
	}
	if u.IntN(3) == 0 {
		r.Leader, r.Shared = u.id(), u.tokens(n)
	}
	return r
}

// call makes one random call on all and returns what is wrong.
func (u *randomUnit) call() error {
	if err := u.random(); err != nil {
		return err
	}
	for _, x := range u.m.there {
		if x.arrived == 0 {
			u.arrived++
			x.arrived = u.arrived
		}
	}
	if u.left--; u.left == 0 {
		u.b, u.twin = u.twin, nil
	}
	if u.IntN(4) == 0 {
		return u.m.compare(u.b)
	}
	return nil
}

func (u *randomUnit) random() error {
	b, m := u.b, &u.m
	op := u.IntN(100)
	if len(m.there) > 60 && op < 40 {
		op = 45 + u.IntN(20)
	}
	switch {
	case op < 22:
		r := u.request()
		u.what = fmt.Sprintf("enqueue %+v", r)
		return just(u, m.enqueue(r), func(b *prefill.Balancer) error { return b.Enqueue(r) })
	case op < 36:
		return u.add()
	case op < 40:
		r, g := u.request(), u.rank()
		u.what = fmt.Sprintf("enter %+v on %d", r, g)
		return just(u, m.enter(r, g), func(b *prefill.Balancer) error { return b.Enter(r, g) })
	case op < 65:
		u.what = "step"
		chunks, _, complaint := both(u, func(b *prefill.Balancer) ([]prefill.Chunk, error) { return b.Step(nil), nil })
		if complaint != nil {
			return complaint
		}
		return m.step(chunks)
	case op < 73:
		id, done := u.id(), u.IntN(2) == 0
		u.what = fmt.Sprintf("end %d, done: %v", id, done)
		return just(u, m.end(id, done), func(b *prefill.Balancer) error {
			if done {
				return b.Done(id)
			}
			return b.Cancel(id)
		})
	case op < 76:
		id, g, n := u.id(), u.rank(), u.tokens(u.sizes)
		if u.IntN(2) == 0 {
			g = -1
		}
		u.what = fmt.Sprintf("cached %d of %d on %d", n, id, g)
		return just(u, m.setCached(id, g, n), func(b *prefill.Balancer) error { return b.SetCached(id, g, n) })
	case op < 79:
		id, g := u.id(), u.rank()
		u.what = fmt.Sprintf("move %d to %d", id, g)
		return just(u, m.move(id, g), func(b *prefill.Balancer) error { return b.Move(id, g) })
	case op < 83:
		return u.sync()
	case op < 90:
		g, s := u.rank(), []prefill.State{prefill.Serving, prefill.Serving, prefill.Draining}[u.IntN(3)]
		u.what = fmt.Sprintf("rank %d becomes %d", g, s)
		return just(u, m.service(g, s), func(b *prefill.Balancer) error {
			if s == prefill.Draining {
				return b.Drain(g)
			}
			return b.Restore(g)
		})
	case op < 92:
		return u.die()
	case op < 93:
		n := []int{len(m.ranks) + u.IntN(5) - 2, len(m.ranks), 0, -3, prefill.MaxRanks + 1}[max(0, u.IntN(30)-25)]
		if n > 9 && n <= prefill.MaxRanks {
			n = 9
		}
		u.what = fmt.Sprintf("resize to %d", n)
		return just(u, m.resize(n), func(b *prefill.Balancer) error { return b.Resize(n) })
	case op < 97:
		return u.report()
	case op < 98 && u.twin == nil:
		u.what = "snapshot"
		data := b.AppendSnapshot(nil)
		c, err := prefill.FromSnapshot(data)
		if err != nil {
			return err
		}
		if !bytes.Equal(c.AppendSnapshot(nil), data) {
			return fmt.Errorf("its snapshot is another")
		}
		u.twin, u.left = c, 1+u.IntN(200)
		return nil
	case op < 99:
		u.what = "a forged snapshot"
		return u.forge()
	}
	u.what = "stats"
	return m.compare(b)
}

func (u *randomUnit) add() error {
	r := u.request()
	u.what = fmt.Sprintf("add %+v", r)
	q, qerr, complaint := both(u, func(b *prefill.Balancer) (prefill.Quote, error) { return b.Quote(r) })
	if complaint != nil {
		return complaint
	}
	g, err, complaint := both(u, func(b *prefill.Balancer) (int, error) { return b.Add(r) })
	if complaint != nil {
		return complaint
	}
	if q.Rank != g || (qerr == nil) != (err == nil) || q.Seconds < 0 || q.Rank < 0 && q.Seconds > 0 {
		return fmt.Errorf("the quote was %+v, %v; then rank %d, %v", q, qerr, g, err)
	}
	want, wrong := u.m.add(r, g, err)
	if wrong != "" || !same(err, want) {
		return fmt.Errorf("rank %d, %v, not %v; %s", g, err, want, wrong)
	}
	return nil
}

func (u *randomUnit) sync() error {
	g := u.rank()
	var list []prefill.Running
	for _, x := range u.m.there {
		if x.on == g && u.IntN(4) > 0 || u.IntN(20) == 0 {
			n := x.tokens
			if u.IntN(5) == 0 {
				n = u.tokens(u.sizes)
			}
			list = append(list, prefill.Running{ID: x.id, Tokens: n, Computed: u.tokens(max(0, min(n, u.sizes)))})
		}
	}
	for range u.IntN(3) {
		list = append(list, prefill.Running{ID: u.fresh(), Tokens: 1 + u.Int64N(u.sizes), Computed: u.Int64N(2)})
	}
	u.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	u.what = fmt.Sprintf("sync %d with %+v", g, list)
	c, err, complaint := both(u, func(b *prefill.Balancer) (prefill.Changes, error) { return b.Sync(prefill.Changes{}, g, list) })
	if complaint != nil {
		return complaint
	}
	want, kind := u.m.sync(g, list)
	if !same(err, kind) || err == nil && !(slices.Equal(c.Entered, want.Entered) && slices.Equal(c.Gone, want.Gone) && slices.Equal(c.Moved, want.Moved)) {
		return fmt.Errorf("%+v, %v; by the model %+v, %v", c, err, want, kind)
	}
	return nil
}

func (u *randomUnit) die() error {
	g := u.rank()
	u.what = fmt.Sprintf("rank %d dies", g)
	lost, err, complaint := both(u, func(b *prefill.Balancer) ([]prefill.Lost, error) { return b.Dead(nil, g) })
	if complaint != nil {
		return complaint
	}
	want, kind := u.m.dead(g)
	if !same(err, kind) || !slices.Equal(lost, want) {
		return fmt.Errorf("%+v, %v; by the model %+v, %v", lost, err, want, kind)
	}
	return nil
}

// report tells what may be true or not; the ledger of requests must not mind.
func (u *randomUnit) report() error {
	g := u.rank()
	v := u.b.Version(g)
	r := prefill.Report{Rank: g, Epoch: u.Uint64N(3), Version: v - min(v, u.Uint64N(1+u.Uint64N(200))), Work: prefill.WorkOf(u.Int64N(5000), 0)}
	switch u.IntN(12) {
	case 0:
		if u.twin == nil { // which would take over what it may have forgotten
			r.Version = u.Uint64() >> u.IntN(64)
		}
	case 1:
		r.Work = prefill.Work{Tokens: u.Int64() >> u.IntN(64), Pairs: u.Int64() >> u.IntN(64)}
	}
	u.what = fmt.Sprintf("report %+v", r)
	_, err, complaint := both(u, func(b *prefill.Balancer) (int, error) { return 0, b.Report(r) })
	if complaint == nil && (err != nil && !same(err, prefill.ErrValue) && !same(err, prefill.ErrState) || (g < 0 || g >= u.b.Ranks()) && !same(err, prefill.ErrValue)) {
		complaint = fmt.Errorf("error %v", err)
	}
	return complaint
}

// forge bends bytes of a snapshot, with its sum made right. It must be refused, or
// give a balancer that goes on.
func (u *randomUnit) forge() error {
	data := u.b.AppendSnapshot(nil)
	body := data[:len(data)-4]
	for range 1 + u.IntN(3) {
		at := 16 + u.IntN(len(body)-16)
		switch u.IntN(3) {
		case 0:
			body[at] = byte(u.Uint32())
		case 1:
			body = slices.Insert(body, at, byte(u.Uint32()), 255, 255, 127)
		case 2:
			body = slices.Delete(body, at, min(len(body), at+1+u.IntN(4)))
		}
		if len(body) <= 20 {
			return nil
		}
	}
	c, err := prefill.FromSnapshot(sealed(body))
	if err != nil {
		if !same(err, prefill.ErrSnapshot) {
			return err
		}
		return nil
	}
	for id := range prefill.ID(3) {
		_ = c.Enqueue(prefill.Request{ID: 1<<40 + id, Tokens: 100 * (1 + int64(id))})
		_, _ = c.Add(prefill.Request{ID: 1<<41 + id, Tokens: 100})
		c.Step(nil)
	}
	for g := range min(c.Ranks(), 20) {
		_, _ = c.Dead(nil, g)
		_ = c.Restore(g)
	}
	for range 20 {
		c.Step(nil)
	}
	for _, id := range c.Known(nil) {
		if err := c.Cancel(id); err != nil {
			return err
		}
	}
	for g := range min(c.Ranks(), 20) {
		if k := c.Rank(g); k.Requests != 0 || k.Work != (prefill.Work{}) || k.KV != 0 {
			return fmt.Errorf("an empty rank has %+v", k)
		}
	}
	return nil
}
