package shares

import "testing"

// four has four shares of two ranks each, of which share h holds n[h] requests of a
// token a rank by the reports, and this router, 0, has placed more on them since.
func four(n, more [4]int64, clock int64) *Shares {
	s := New(4, 0, 8, 1, 1)
	for g := range 8 {
		h := g % 4
		seen := n[h] + more[h]
		s.Count(g, 1, seen-seen*clock, seen, n[h]-n[h]*clock, n[h])
	}
	return s
}

// TestGuest: a router sends requests where its share held more than others, to those
// that held less, no more than a part of what is too much, and none that is large.
func TestGuest(t *testing.T) {
	for _, x := range []struct {
		name    string
		n, more [4]int64
		tokens  int64
		may     [4]bool // where it may go; nowhere: it stays
	}{
		{"even", [4]int64{100, 100, 100, 100}, [4]int64{}, 1, [4]bool{}},
		{"the own holds less", [4]int64{60, 100, 100, 140}, [4]int64{}, 1, [4]bool{}},
		{"the own holds more", [4]int64{160, 100, 40, 100}, [4]int64{}, 1, [4]bool{2: true}},
		{"two hold less", [4]int64{160, 60, 140, 40}, [4]int64{}, 1, [4]bool{1: true, 3: true}},
		{"enough is on its way", [4]int64{160, 100, 40, 100}, [4]int64{2: 18}, 1, [4]bool{}},
		{"some is on its way", [4]int64{160, 100, 40, 100}, [4]int64{2: 8}, 1, [4]bool{2: true}},
		{"more on the own is not on its way", [4]int64{160, 100, 40, 100}, [4]int64{0: 100}, 1, [4]bool{2: true}},
		{"earlier guests that ended are no room for more", [4]int64{100, 100, 100, 100}, [4]int64{1: -50}, 1, [4]bool{}},
		{"a large one", [4]int64{160, 100, 40, 100}, [4]int64{}, 3, [4]bool{}},
		{"no report yet", [4]int64{}, [4]int64{0: 100}, 1, [4]bool{}},
	} {
		var to [4]bool
		for clock := range int64(200) {
			if h := four(x.n, x.more, clock).Guest(clock, x.tokens, 1); h >= 0 {
				to[h] = true
			}
		}
		if to != x.may {
			t.Errorf("%s: goes to %v, want %v", x.name, to, x.may)
		}
	}
}

// TestUnheard: others are taken to have placed what this router has, by what they hold.
func TestUnheard(t *testing.T) {
	for _, x := range []struct {
		n    [4]int64
		want int64
	}{{[4]int64{100, 100, 100, 100}, 60}, {[4]int64{100, 0, 0, 0}, 0}, {[4]int64{100, 50, 50, 50}, 30}, {[4]int64{50, 100, 100, 100}, 60}, {[4]int64{}, 0}} {
		s := four(x.n, [4]int64{10, 0, 0, 0}, 2)
		if kv, n := s.Unheard(2); n != x.want || kv != x.want {
			t.Errorf("shares of %v: %d tokens, %d requests, want %d", x.n, kv, n, x.want)
		}
	}
}
