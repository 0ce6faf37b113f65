package decode

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/internal/ledger"
)

// TestWaits: against a map, who counts as waiting: who was refused at two steps, the
// later since the curve was drawn, and has not been placed. Where two ids share a place
// the one that came first is counted.
func TestWaits(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 60))
	type state struct {
		at    int64
		again bool
	}
	var w waits
	want := map[ID]state{}
	places := map[*wait]bool{}
	var ids []ID
	for id := ID(1); len(ids) < 100; id++ { // no two in one place
		if p := w.of(id); !places[p] {
			places[p] = true
			ids = append(ids, id)
		}
	}
	clock, drawn := int64(0), int64(0)
	for range 20_000 {
		id := ids[r.IntN(len(ids))]
		switch r.IntN(10) {
		case 0:
			clock++
		case 1:
			if r.IntN(20) == 0 {
				drawn = clock
			}
		case 2:
			w.placed(id)
			delete(want, id)
		default:
			w.refused(id, clock, drawn)
			switch s, ok := want[id]; {
			case !ok || s.at < drawn:
				want[id] = state{at: clock}
			case s.at < clock:
				want[id] = state{clock, true}
			}
		}
		n := int64(0)
		for _, s := range want {
			if s.again && s.at >= drawn {
				n++
			}
		}
		if got := w.count(drawn); got != n {
			t.Fatalf("%d wait, not %d", got, n)
		}
	}
	var other ID
	for other = 1000; w.of(other) != w.of(ids[0]); other++ {
	}
	w = waits{}
	w.refused(ids[0], 1, 0)
	w.refused(other, 2, 0)
	w.refused(ids[0], 3, 0)
	w.placed(other)
	if n := w.count(0); n != 1 {
		t.Errorf("%d wait where another took the place", n)
	}
}

// TestWaitersNarrowMargin: a unit of which everybody ends before it is full does not keep
// many waiting that come again: the margin narrows within a life. Who comes only once,
// however many, narrows it no more than that nothing overruns.
func TestWaitersNarrowMargin(t *testing.T) {
	run := func(again bool) (waiting, narrowed float64, over int) {
		const ranks, each, steps, life, kv = 8, 40, 1200, 400, 500
		b := newBalancer(t, Config{Ranks: ranks, KVCapacity: []int64{each * (kv + life) * 9 / 10}})
		r := rand.New(rand.NewPCG(7, 70))
		ends := map[int][]ID{}
		queue, id := []ID(nil), ID(0)
		for range ranks * each {
			id++
			queue = append(queue, id)
		}
		for step := range steps {
			for _, i := range ends[step] {
				if err := b.Done(i); err != nil {
					t.Fatal(err)
				}
				id++
				queue = append(queue, id)
			}
			left := queue[:0:0]
			for _, i := range queue {
				g, err := b.Add(Request{ID: i, KV: kv})
				if err != nil {
					t.Fatal(err)
				}
				if g == Full {
					if !again {
						id++
						i = id
					}
					left = append(left, i)
					continue
				}
				at := step + 1 + r.IntN(2*life)
				ends[at] = append(ends[at], i)
			}
			queue = left
			b.Step()
			if step >= steps/2 {
				waiting += float64(len(queue)) / (steps / 2) / (ranks * each)
				for g := range ranks {
					if b.kv(g) > b.ranks[g].capacity {
						over++
					}
				}
			}
		}
		return waiting, b.lives.narrowed, over
	}
	waiting, narrowed, over := run(true)
	once, less, _ := run(false)
	t.Logf("%.2f%% wait, %.2f narrower, %d rank-steps over; where none comes again %.2f%%, %.2f", 100*waiting, narrowed, over, 100*once, less)
	if waiting > 0.02 || narrowed < 0.5 || waiting > once/2 || less > 0.5 {
		t.Errorf("%.2f%% wait, %.2f deviations narrower; where none comes again %.2f%%, %.2f", 100*waiting, narrowed, 100*once, less)
	}
}

// TestWhoWaits: who was refused at two steps for the margin's sake waits, until it is
// placed, or was not refused since the curve was drawn before; who only finds the most
// requests that a rank runs does not.
func TestWhoWaits(t *testing.T) {
	b := newBalancer(t, Config{Ranks: 1, KVCapacity: []int64{5000}, Output: 1000})
	add := func(id ID) int {
		t.Helper()
		g, err := b.Add(Request{ID: id, KV: 800})
		if err != nil {
			t.Fatal(err)
		}
		return g
	}
	full := ID(1)
	for add(full) >= 0 {
		full++
	}
	add(full)
	if n := b.lives.waits.count(0); n != 0 {
		t.Errorf("%d wait that were refused at one step", n)
	}
	b.Step()
	if add(full); b.lives.waits.count(0) != 1 {
		t.Errorf("%d wait, not one", b.lives.waits.count(0))
	}
	narrower := func() float64 {
		b.lives.narrowed, b.lives.barred, b.lives.ended = 0, true, 1
		b.draw()
		return b.lives.narrowed
	}
	if x := narrower(); x < 0.1 {
		t.Errorf("%v deviations narrower, while one waits and a third ends", x)
	}
	b.Step()
	b.draw()
	if x := narrower(); x > 0.1 {
		t.Errorf("%v deviations narrower for one that has not come again", x)
	}
	for id := ID(1); id < full; id++ {
		if err := b.Done(id); err != nil {
			t.Fatal(err)
		}
	}
	if add(full) != 0 || b.lives.waits.count(0) != 0 {
		t.Errorf("%d wait, of one that was placed", b.lives.waits.count(0))
	}
	b = newBalancer(t, Config{Ranks: 1, KVCapacity: []int64{1 << 40}, MaxRequests: 1})
	for range 5 {
		add(1 + ID(b.ids.Len()))
		b.Step()
	}
	if n := b.lives.waits.count(0); n != 0 {
		t.Errorf("%d wait for the margin where a rank runs one request", n)
	}
}

// TestWaitsRead: what was written is read, and not two in one place.
func TestWaitsRead(t *testing.T) {
	var w waits
	w.refused(1, 3, 0)
	w.refused(1, 4, 0)
	w.refused(2, 5, 0)
	read := func(clock int64, write func(to *ledger.Writer)) (got waits, bad bool) {
		to := ledger.NewWriter(nil, "waits")
		write(to)
		from, wrong := ledger.NewReader(to.Sealed(), "waits")
		if wrong != "" {
			t.Fatal(wrong)
		}
		got.read(from, clock)
		return got, from.Bad()
	}
	if got, bad := read(5, w.write); bad || got != w {
		t.Errorf("bad %v, or not as it was written", bad)
	}
	if _, bad := read(4, w.write); !bad {
		t.Error("one was refused after the latest step")
	}
	if _, bad := read(5, func(to *ledger.Writer) {
		to.Int(2)
		for range 2 {
			to.Uint(1)
			to.Int(4)
			to.Bool(true)
		}
	}); !bad {
		t.Error("two have one place")
	}
}
