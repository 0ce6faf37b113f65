package decode

import (
	"math/rand/v2"
	"testing"
)

// TestHints: by hand, which declarations are doubted.
func TestHints(t *testing.T) {
	var h hints
	check := func(what string, declared int64, want bool) {
		t.Helper()
		if h.judge(); h.doubts(declared) != want {
			t.Errorf("%s: %d doubted %v", what, declared, !want)
		}
	}
	check("nothing is known", 40_000, false)
	for range benefit {
		h.finished(40_000, 9999)
	}
	check("two fell short", 40_000, false)
	h.finished(40_000, 9999)
	check("three", 40_000, true)
	check("of the same octave", 65_535, true)
	check("of the next", 65_536, false)
	check("of the one before", 32_767, false)
	h.finished(40_000, 10_000)
	check("one came a quarter of the way", 40_000, false)
	for range 3 * memory {
		h.finished(40_000, 1)
	}
	if n := h.kept[16] + h.missed[16]; n >= memory {
		t.Errorf("%d are remembered", n)
	}
	for range 2 * memory {
		h.finished(40_000, 40_000)
	}
	check("long ago", 40_000, false)
}

// TestDeclaredBounds: where all declare a bound as many run as where nobody declares
// anything, where one in a hundred declares far too much the others lose nothing, and
// where all declare what is true nothing overruns.
func TestDeclaredBounds(t *testing.T) {
	run := func(declare func(i, life int) int64) (running, overruns int) {
		b := newBalancer(t, Config{Ranks: 4, KVCapacity: []int64{60_000}})
		r := rand.New(rand.NewPCG(3, 4))
		ends := map[int][]ID{}
		id := ID(0)
		for step := range 2500 {
			for _, i := range ends[step] {
				if err := b.Done(i); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 4 {
				id++
				life := 1 + int(500*r.ExpFloat64())
				if g, err := b.Add(Request{ID: id, KV: 1000, Output: declare(i+4*step, life)}); err != nil {
					t.Fatal(err)
				} else if g >= 0 {
					ends[step+life] = append(ends[step+life], id)
				}
			}
			if b.Step(); step >= 1000 {
				running += b.ids.Len()
			}
			for g := range b.ranks {
				if b.kv(g) > 60_000 {
					overruns++
				}
			}
		}
		return running / 1500, overruns
	}
	none, _ := run(func(int, int) int64 { return 0 })
	for name, declare := range map[string]func(i, life int) int64{
		"all 32,768": func(int, int) int64 { return 32_768 },
		"one in a hundred 50,000": func(i, _ int) int64 {
			if i%100 == 0 {
				return 50_000
			}
			return 0
		},
	} {
		if n, _ := run(declare); n < none-none/25 {
			t.Errorf("%s: %d run, %d where nothing is declared", name, n, none)
		}
	}
	if n, overruns := run(func(_, life int) int64 { return int64(life) }); n < none || overruns > 0 {
		t.Errorf("what is true: %d run, %d where nothing is declared; %d overruns", n, none, overruns)
	}
}
