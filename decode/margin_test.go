package decode

import (
	"math"
	"testing"
)

// TestMargin: by hand, what a margin is after what was seen.
func TestMargin(t *testing.T) {
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-8 {
			t.Errorf("%s: %v, by hand %v", what, got, want)
		}
	}
	var m margin
	deviations := func() float64 { m.set(0, 1<<40); return m.deviations }
	life := func(over int64) { // of each of ten ranks, while 99 of 100 run on
		m.barred, m.ended = true, 100
		m.heed(10, 0, over, 0)
	}
	near("nothing is known", deviations(), widest)
	life(0)
	near("ten lives of a rank, of which none is over", deviations(), widest-0.075)
	for range 5 {
		life(0)
	}
	near("sixty", deviations(), widest-0.45)
	m.barred, m.ended = false, 100
	m.heed(10, 0, 0, 0)
	near("lives of ranks that are not at the margin", deviations(), widest-0.45)
	m.barred, m.ended = true, 100
	m.heed(10, 1900, 1, 0)
	near("one of ten is over for a twentieth of its life", deviations(), widest-0.45-0.00375+0.15)
	m.barred, m.ended = false, 100
	m.heed(10, 1900, 1, 0)
	near("and once more, whatever barred it", deviations(), widest-0.45-0.0075+0.3)
	life(1)
	near("all its life", deviations(), widest)
	for range 1000 {
		life(0)
	}
	near("no end of lives", deviations(), narrowest)
	life(10)
	near("all ranks over", deviations(), widest)
	life(0)
	near("ten again, and no debt", deviations(), widest-0.075)
	m.heed(10, 300, 0, 0)
	near("nothing ended", deviations(), widest-0.075)
	m.barred, m.ended = true, 100
	m.heed(10, 300, 0, 0)
	near("a quarter of a life more", deviations(), widest-0.09375)
	m = margin{barred: true, ended: 10}
	m.heed(10, 990, 0, 8)
	near("eight wait for a hundredth of a life", deviations(), widest-0.24)
	m.barred, m.ended = true, 10
	m.heed(10, 990, 3, 3)
	near("as many wait as ranks are over", deviations(), widest-0.24)
	m = margin{}
	m.set(48, 1<<20)
	near("all lives are known", m.deviations, widest*math.Sqrt(1+3*48/float64(1<<20)))
	m.set(48, 144)
	near("144 lives", m.deviations, widest*math.Sqrt(2))
	m.set(48, 0)
	near("a guess", m.deviations, widest*math.Sqrt(2.3))
	m.set(0, 3)
	near("an idle unit", m.deviations, widest*math.Sqrt(1+60.0/64))
	m.set(0, 120)
	near("an idle unit that was none", m.deviations, widest*math.Sqrt(1.5))
}

// TestMarginHeeds: where the margin keeps requests off and nothing overruns it
// narrows, beside other routers it does not, and a rank brought above its capacity
// widens it again.
func TestMarginHeeds(t *testing.T) {
	run := func(routers int) (b *Balancer, narrowed float64) {
		b = newBalancer(t, Config{Ranks: 8, KVCapacity: []int64{30_000}, Routers: routers})
		ends := map[int][]ID{}
		id := ID(0)
		for step := range 2500 {
			for _, i := range ends[step] {
				if err := b.Done(i); err != nil {
					t.Fatal(err)
				}
			}
			for range 4 {
				id++
				if g, err := b.Add(Request{ID: id, KV: 1000}); err != nil {
					t.Fatal(err)
				} else if g >= 0 {
					at := step + 20 + int(id*37%200)
					ends[at] = append(ends[at], id)
				}
			}
			b.Step()
			narrowed = max(narrowed, b.lives.narrowed)
		}
		return b, narrowed
	}
	b, narrowed := run(0)
	if narrowed < 0.8 {
		t.Errorf("%v deviations narrower after more than 100 lives at the margin", narrowed)
	}
	for g := range 2 {
		if b.kv(g) > 30_000 {
			t.Fatal("a rank is over already")
		}
		if err := b.Enter(Request{ID: ID(1<<40) + ID(g), KV: 40_000}, g); err != nil {
			t.Fatal(err)
		}
	}
	for g := range 2 { // of which one is exactly full
		if err := b.Enter(Request{ID: ID(1<<41) + ID(g), KV: 30_000 - b.kv(2+g) + int64(g)}, 2+g); err != nil {
			t.Fatal(err)
		}
	}
	b.lives.narrowed, b.lives.barred, b.lives.ended = 1, false, 10
	lives := float64(b.lives.ended) / float64(b.ids.Len()+int(b.lives.ended))
	want := 1 + lives*widening*(8*aim-3)
	if b.draw(); math.Abs(b.lives.narrowed-want) > 1e-9 {
		t.Errorf("%+v after %v of a life, in which three of eight ranks are above their capacity: want %v", b.lives.margin, lives, want)
	}
	b, narrowed = run(4)
	if narrowed > 0 {
		t.Errorf("%v deviations narrower beside other routers", narrowed)
	}
	b.lives.narrowed, b.lives.ended = 1, 100
	if err := b.Enter(Request{ID: 1 << 40, KV: 40_000}, 0); err != nil {
		t.Fatal(err)
	}
	if b.draw(); b.lives.narrowed != 1 {
		t.Errorf("%v deviations narrower, of 1, for what other routers may have done", b.lives.narrowed)
	}
}

// TestQuoteLeavesMargin: a quote that the margin refuses is no sign that it matters.
func TestQuoteLeavesMargin(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, KVCapacity: []int64{5000}, Output: 1000})
	for id := ID(1); ; id++ {
		g, err := b.Add(Request{ID: id, KV: 800})
		if err != nil {
			t.Fatal(err)
		}
		if g < 0 {
			break
		}
	}
	if !b.lives.barred {
		t.Fatal("nothing was refused")
	}
	ended := b.lives.ended
	if err := b.Done(1); err != nil || b.lives.ended != ended+1 {
		t.Errorf("%v, %d ended after %d", err, b.lives.ended, ended)
	}
	if g, err := b.Add(Request{ID: 1, KV: 1}); g != 0 || err != nil || !b.lives.barred {
		t.Errorf("rank %d, %v: the next that fits makes what was refused forgotten", g, err)
	}
	if c, err := FromSnapshot(b.AppendSnapshot(nil)); err != nil || c.lives.margin != b.lives.margin {
		t.Errorf("%v, %+v of a snapshot, %+v", err, c.lives.margin, b.lives.margin)
	}
	b.draw()
	if err := b.Done(1); err != nil {
		t.Fatal(err)
	}
	if g, err := b.Add(Request{ID: 1, KV: 1}); g != 0 || err != nil || b.lives.barred {
		t.Errorf("rank %d, %v: what fits is barred", g, err)
	}
	if q, err := b.Quote(Request{ID: 1000, KV: 800}); err != nil || q.Rank >= 0 || b.lives.barred {
		t.Errorf("%+v, %v, barred %v", q, err, b.lives.barred)
	}
}
