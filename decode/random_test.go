package decode

import (
	"errors"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	evidence "github.com/moelb/moelb/internal/long"
)

// thing is a request as the plain model has it.
type thing struct {
	kv, shared, width int64
	rank              int
	prefix            uint64
	waiting           bool
	among             []int
}

// plain is a decode unit's ledger without any sums: what must stand in it is added
// up anew whenever it is looked at. twin is the same balancer as it came back from a
// snapshot, which must go on to give the same answers.
type plain struct {
	t       *testing.T
	r       *rand.Rand
	b, twin *Balancer
	things  map[ID]*thing
	state   []State
	room    []int64
	most    int
	next    ID
	clock   int64
	engines []engineSaid // the ranks as they are, where there is another router
	counts  bool         // they count what they take in and let go
	alike   int64        // one in so many requests is a giant, all others are of one length, and ranks take turns; 0 = all are drawn
}

func (p *plain) held(g int) (kv, width int64, n int) {
	largest := map[uint64]int64{}
	for _, x := range p.things {
		if x.rank == g {
			kv, width, n = kv+x.kv-x.shared, width+x.width, n+1
			if x.shared > 0 {
				largest[x.prefix] = max(largest[x.prefix], x.shared)
			}
		}
	}
	for _, s := range largest {
		kv += s
	}
	return kv, width, n
}

func (p *plain) some() ID {
	ids := slices.Sorted(maps.Keys(p.things))
	if len(ids) == 0 {
		return 0
	}
	return ids[p.r.IntN(len(ids))]
}

func (p *plain) request() Request {
	r := p.r
	p.next++
	q := Request{ID: p.next, KV: r.Int64N(4000)}
	if p.alike > 0 {
		if q.KV = 300; r.Int64N(p.alike) == 0 {
			q.KV *= 100
		}
	}
	if r.IntN(9) == 0 && p.next > 40 {
		q.ID = ID(r.Uint64())
	}
	if r.IntN(3) == 0 {
		q.Output = 1 + r.Int64N(700)
	}
	if r.IntN(8) == 0 {
		q.Width = 1 + r.IntN(3)
	}
	if r.IntN(6) == 0 {
		q.Among = r.Perm(len(p.state))[:1+r.IntN(len(p.state))]
	}
	if r.IntN(5) == 0 && p.engines == nil {
		q.Prefix, q.Shared = uint64(r.IntN(4)), r.Int64N(q.KV+1)
	}
	q.Waiting = r.IntN(10) == 0
	if r.IntN(10) == 0 {
		q.Generated = r.Int64N(500)
	}
	return q
}

func (p *plain) enter(q Request, g int) {
	p.things[q.ID] = &thing{q.KV, q.Shared, int64(max(q.Width, 1)), g, q.Prefix, q.Waiting, slices.Clone(q.Among)}
	p.comes(q.ID, g)
}

// leave takes a request off the books.
func (p *plain) leave(id ID) {
	p.goes(id)
	delete(p.things, id)
}

// move brings it to another rank.
func (p *plain) move(id ID, to int) {
	if x := p.things[id]; x.rank != to {
		p.goes(id)
		x.rank = to
		p.comes(id, to)
	}
}

// placed checks where a request went.
func (p *plain) placed(q Request, g int) {
	may := func(g int) bool {
		return p.state[g] == Serving && p.b.ranks[g].speed > 0 && (q.Among == nil || slices.Contains(q.Among, g))
	}
	width := int64(max(q.Width, 1))
	if g == Full {
		for h := range p.state {
			_, _, n := p.held(h)
			if may(h) && (n == 0 && q.KV+q.Output < p.room[h] && (p.most == 0 || width <= int64(p.most)) || p.room[h] == unlimited && p.most == 0) {
				p.t.Fatalf("%+v is refused, though rank %d has room", q, h)
			}
		}
		return
	}
	if !may(g) {
		p.t.Fatalf("%+v goes to rank %d, which is %v", q, g, p.state[g])
	}
	p.enter(q, g)
	if kv, width, _ := p.held(g); kv > p.room[g] || p.most > 0 && width > int64(p.most) {
		p.t.Fatalf("%+v goes to rank %d, which holds %d of %d tokens and runs %d of %d then", q, g, kv, p.room[g], width, p.most)
	}
}

// both does something to the balancer and its twin, whose errors must be alike.
func (p *plain) both(f func(b *Balancer) error) error {
	err, err2 := f(p.b), f(p.twin)
	if (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
		p.t.Fatalf("%v, and restored: %v", err, err2)
	}
	return err
}

func (p *plain) must(f func(b *Balancer) error) {
	if err := p.both(f); err != nil {
		p.t.Fatal(err)
	}
}

// same asks both for something and demands one answer.
func same[T any](p *plain, equal func(a, b T) bool, f func(b *Balancer) (T, error)) (T, error) {
	var got [2]T
	err := p.both(func(b *Balancer) (err error) {
		i := 0
		if b == p.twin {
			i = 1
		}
		got[i], err = f(b)
		return err
	})
	if !equal(got[0], got[1]) {
		p.t.Fatalf("%+v, and restored: %+v", got[0], got[1])
	}
	return got[0], err
}

func is[T comparable](a, b T) bool { return a == b }

func (p *plain) add() {
	q := p.request()
	quote, err := same(p, is, func(b *Balancer) (Quote, error) { return b.Quote(q) })
	g, err2 := same(p, is, func(b *Balancer) (int, error) { return b.Add(q) })
	if errors.Is(err, ErrNever) && errors.Is(err2, ErrNever) || errors.Is(err2, ErrKnown) {
		return
	}
	if err != nil || err2 != nil || quote.Rank != g || g >= 0 && !(quote.Seconds > 0) {
		p.t.Fatalf("%+v: quoted %+v (%v), added to %d (%v)", q, quote, err, g, err2)
	}
	p.placed(q, g)
}

func (p *plain) batch() {
	all := make([]Request, p.r.IntN(7))
	for i := range all {
		all[i] = p.request()
	}
	ranks, err := same(p, slices.Equal, func(b *Balancer) ([]int, error) { return b.Batch(nil, all) })
	if errors.Is(err, ErrNever) || errors.Is(err, ErrKnown) {
		return
	}
	if err != nil || len(ranks) != len(all) {
		p.t.Fatal(ranks, err)
	}
	for i, g := range ranks {
		if g >= 0 {
			p.placed(all[i], g)
		}
	}
}

func (p *plain) grow() {
	var all []Growth
	for range 1 + p.r.IntN(4) {
		id := p.some()
		if x := p.things[id]; x != nil && !x.waiting {
			more := p.r.Int64N(60) - min(p.r.Int64N(20), x.kv-x.shared)
			all = append(all, Growth{id, more})
			x.kv += more
		}
	}
	p.must(func(b *Balancer) error { return b.GrowAll(all) })
}

func (p *plain) sync() {
	g := p.r.IntN(len(p.state))
	if p.engines != nil && p.engines[g].told.Epoch < p.engines[g].epoch {
		return // its restart is to be heard of first
	}
	if p.state[g] == Dead {
		if err := p.both(func(b *Balancer) error { _, err := b.Sync(Changes{}, g, nil); return err }); !errors.Is(err, ErrState) {
			p.t.Fatal(err)
		}
		return
	}
	var list []Request
	var want Changes
	for _, id := range slices.Sorted(maps.Keys(p.things)) {
		x := p.things[id]
		switch {
		case x.rank == g && p.r.IntN(5) > 0:
			list = append(list, Request{ID: id, KV: x.kv + p.r.Int64N(5), Width: max(0, p.r.IntN(12)-8)})
		case x.rank == g:
			want.Gone = append(want.Gone, id)
		case p.r.IntN(60) == 0:
			list = append(list, Request{ID: id, KV: p.r.Int64N(x.kv + 9)})
			want.Moved = append(want.Moved, id)
		}
	}
	if p.r.IntN(2) == 0 {
		p.next++
		list = append(list, Request{ID: p.next, KV: p.r.Int64N(900)})
		want.Entered = append(want.Entered, p.next)
	}
	p.r.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	equal := func(a, b Changes) bool {
		return slices.Equal(a.Entered, b.Entered) && slices.Equal(a.Gone, b.Gone) && slices.Equal(a.Moved, b.Moved)
	}
	got, err := same(p, equal, func(b *Balancer) (Changes, error) { return b.Sync(Changes{}, g, list) })
	for _, ids := range [][]ID{got.Entered, got.Gone, got.Moved} {
		slices.Sort(ids)
	}
	if err != nil || !equal(got, want) {
		p.t.Fatalf("%+v (%v), want %+v", got, err, want)
	}
	for _, id := range want.Gone {
		p.leave(id)
	}
	for _, q := range list {
		if x := p.things[q.ID]; x != nil {
			p.move(q.ID, g)
			if p.engines != nil && p.engines[g].find(q.ID) == nil { // lost with a restart, and there again
				p.comes(q.ID, g)
			}
			x.kv, x.waiting, x.shared = q.KV, false, min(x.shared, q.KV)
			if q.Width > 0 {
				x.width = int64(q.Width)
			}
		} else {
			p.enter(q, g)
		}
	}
	if p.engines != nil {
		p.engines[g].told = p.engines[g].says(p, g)
	}
}

func (p *plain) ranks() {
	g := p.r.IntN(len(p.state))
	switch p.r.IntN(12) {
	case 0, 1:
		if err := p.both(func(b *Balancer) error { return b.Drain(g) }); (err == nil) != (p.state[g] != Dead) {
			p.t.Fatal(err)
		} else if err == nil {
			p.state[g] = Draining
		}
	case 2:
		lost, err := same(p, func(a, b []Lost) bool { return len(a) == len(b) }, func(b *Balancer) ([]Lost, error) { return b.Dead(nil, g) })
		if _, _, n := p.held(g); err != nil || len(lost) != n {
			p.t.Fatalf("%d lost of %d (%v)", len(lost), n, err)
		}
		for _, l := range lost {
			x := p.things[l.ID]
			if x == nil || x.rank != g || x.kv != l.KV || x.shared != l.Shared || x.waiting != l.Waiting || !slices.Equal(slices.Sorted(slices.Values(x.among)), l.Among) {
				p.t.Fatalf("lost %+v, by the model %+v", l, x)
			}
			p.leave(l.ID)
		}
		p.state[g] = Dead
		if p.engines != nil {
			p.engines[g] = engineSaid{epoch: p.engines[g].epoch + 1}
		}
	case 3:
		n := 1 + p.r.IntN(8)
		empty := true
		for _, x := range p.things {
			empty = empty && x.rank < n
		}
		if err := p.both(func(b *Balancer) error { return b.Resize(n) }); (err == nil) != empty {
			p.t.Fatal(n, err)
		} else if err == nil {
			last := p.room[len(p.room)-1]
			for len(p.state) < n {
				p.state, p.room = append(p.state, Serving), append(p.room, last)
			}
			p.state, p.room = p.state[:n], p.room[:n]
			if p.engines != nil {
				p.engines = append(p.engines[:min(n, len(p.engines))], make([]engineSaid, max(n-len(p.engines), 0))...)
			}
		}
	default:
		p.must(func(b *Balancer) error { return b.Restore(g) })
		p.state[g] = Serving
	}
}

func (p *plain) rebalance() {
	most := p.r.IntN(4)
	moves, err := same(p, slices.Equal, func(b *Balancer) ([]Move, error) { return b.Rebalance(nil, most) })
	if err != nil || len(moves) > most {
		p.t.Fatal(moves, err)
	}
	for _, m := range moves {
		x := p.things[m.ID]
		if x == nil || x.rank != m.From || x.waiting || m.To == m.From || p.state[m.To] != Serving || x.among != nil && !slices.Contains(x.among, m.To) {
			p.t.Fatalf("%+v of %+v", m, x)
		}
		p.move(m.ID, m.To)
	}
	for _, m := range moves {
		if kv, width, _ := p.held(m.To); kv > p.room[m.To] || p.most > 0 && width > int64(p.most) {
			p.t.Fatalf("%+v brings rank %d beyond a limit", m, m.To)
		}
	}
	evict, _ := same(p, slices.Equal, func(b *Balancer) ([]ID, error) { return b.Overfull(nil), nil })
	at := map[ID]int{}
	for _, id := range evict {
		x := p.things[id]
		if x == nil {
			p.t.Fatalf("%d is to be evicted, and not there", id)
		}
		if kv, _, _ := p.held(x.rank); kv <= p.room[x.rank] {
			p.t.Fatalf("rank %d is to evict within its capacity", x.rank)
		}
		at[id] = x.rank
	}
	for id := range at {
		p.things[id].rank = -1
	}
	for id, g := range at {
		if kv, _, _ := p.held(g); kv > p.room[g] {
			p.t.Fatalf("%v leave %d tokens on rank %d, which has room for %d", evict, kv, g, p.room[g])
		}
		p.things[id].rank = g
		if kv, _, _ := p.held(g); kv <= p.room[g] {
			p.t.Fatalf("of %v %d need not be evicted", evict, id)
		}
		p.things[id].rank = -1
	}
	for id, g := range at {
		p.things[id].rank = g
	}
}

func (p *plain) one() {
	id := p.some()
	x := p.things[id]
	end := func(f func(b *Balancer) error) {
		p.must(f)
		p.leave(id)
	}
	if p.engines != nil && p.r.IntN(5) == 0 {
		p.report()
		return
	}
	switch n := p.r.IntN(100); {
	case n < 30 && len(p.things) < 150:
		p.add()
	case n < 35 && len(p.things) < 150:
		p.batch()
	case n < 47:
		p.must(func(b *Balancer) error {
			if b.Step(); p.alike > 0 {
				b.model.chosen = whenAlike
			}
			return nil
		})
		for _, x := range p.things {
			if !x.waiting {
				x.kv += x.width
			}
		}
		p.clock++
		for g := range p.engines {
			p.engines[g].kv += p.engines[g].width
		}
	case n < 50:
		p.ranks()
	case n < 53:
		p.sync()
	case n < 55:
		p.rebalance()
	case n < 56:
		twin, err := FromSnapshot(p.b.AppendSnapshot(nil))
		if err != nil {
			p.t.Fatal(err)
		}
		p.twin = twin
	case n < 59:
		q := p.request()
		g := p.r.IntN(len(p.state))
		if err := p.both(func(b *Balancer) error { return b.Enter(q, g) }); p.state[g] == Dead && errors.Is(err, ErrState) || errors.Is(err, ErrKnown) {
			return
		} else if err != nil {
			p.t.Fatal(err)
		}
		p.enter(q, g)
	case x == nil:
	case n < 66:
		p.grow()
	case n < 68:
		if err := p.both(func(b *Balancer) error { return b.Start(id) }); (err == nil) != x.waiting {
			p.t.Fatal(err)
		}
		x.waiting = false
	case n < 71:
		g := p.r.IntN(len(p.state))
		if err := p.both(func(b *Balancer) error { return b.Move(id, g) }); (err == nil) != (p.state[g] != Dead) {
			p.t.Fatal(err)
		} else if err == nil {
			p.move(id, g)
		}
	case n < 87:
		end(func(b *Balancer) error { return b.Done(id) })
	case n < 94:
		end(func(b *Balancer) error { return b.Cancel(id) })
	default:
		end(func(b *Balancer) error { return b.Evict(id) })
	}
}

func (p *plain) check() {
	for g := range p.state {
		kv, width, n := p.held(g)
		s := p.b.Rank(g)
		over := int64(0)
		if p.room[g] < unlimited {
			over = max(kv-p.room[g], 0)
		}
		if p.engines != nil { // what the reports say: see report
			kv, width = s.KV, int64(s.Width)
		}
		if s.KV != kv || s.Requests != n || int64(s.Width) != width || s.State != p.state[g] || s.Over != over {
			p.t.Fatalf("rank %d: %+v, by the model %d tokens of %d requests of width %d, %v", g, s, kv, n, width, p.state[g])
		}
	}
	for id, x := range p.things {
		g, err := p.b.Where(id)
		kv, err2 := p.b.KV(id)
		if g != x.rank || kv != x.kv || err != nil || err2 != nil {
			p.t.Fatalf("%d is on %d with %d, by the model %+v", id, g, kv, x)
		}
	}
}

// TestLikeModel: after every one of many random operations, with ranks that die,
// engines that know better, reports that lie, and snapshots, the ledger is what a plain model says,
// and a balancer that came back from a snapshot gives the same answers.
func TestLikeModel(t *testing.T) {
	n := 2_000
	if evidence.Tests() {
		n = 50_000
	}
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 99))
		ranks := 2 + r.IntN(6)
		cfg := Config{Ranks: ranks}
		switch {
		case seed%10 >= 8:
			cfg.Routers, cfg.Router = 2, int(seed%2)
		case seed%4 == 1:
			cfg.KVCapacity, cfg.MaxRequests = []int64{30_000}, 24
		case seed%4 == 2:
			cfg.MaxRequests, cfg.Output = 12, 300
		case seed%4 == 3:
			for range ranks {
				cfg.KVCapacity, cfg.Speed = append(cfg.KVCapacity, 5000+r.Int64N(40_000)), append(cfg.Speed, float64(r.IntN(4)))
			}
			cfg.Speed[0] = 1
		}
		p := &plain{t: t, r: r, b: newBalancer(t, cfg), twin: newBalancer(t, cfg), things: map[ID]*thing{}, state: slices.Repeat([]State{Serving}, ranks), most: cfg.MaxRequests}
		if cfg.Routers > 0 {
			p.engines, p.counts = make([]engineSaid, ranks), seed%2 == 0
		}
		if seed >= 10 {
			p.alike = []int64{1 << 60, 30}[seed%2]
		}
		for g := range ranks {
			p.room = append(p.room, p.b.ranks[g].capacity)
		}
		t.Logf("seed %d: %+v", seed, cfg)
		for range n {
			p.one()
			if r.IntN(8) == 0 {
				p.check()
			}
		}
		for _, id := range slices.Sorted(maps.Keys(p.things)) {
			p.must(func(b *Balancer) error { return b.Done(id) })
			p.leave(id)
		}
		p.check()
		recompute(t, p.b)
		if !slices.Equal(p.b.AppendSnapshot(nil), p.twin.AppendSnapshot(nil)) {
			t.Error("the restored balancer ends in another state")
		}
	}
}
