package search

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

// Annealing keeps what must hold, never ends worse than it began, is the same again,
// and mostly finds the best placement of a tiny task.
func TestAnneal(t *testing.T) {
	better := 0
	for seed := range uint64(100) {
		task, slot := random(rand.New(rand.NewPCG(seed, 6)))
		var s State
		var a Annealer
		s.Set(task)
		s.Start(slot)
		was := s.Time()
		a.Anneal(&s, 1<<12, 1, func() bool { return false })
		check(t, &s)
		if x := s.Time(); x > was+1e-9 {
			t.Fatalf("seed %d: %v from %v", seed, x, was)
		} else if x < was-1e-9 {
			better++
		}
		first := slices.Clone(s.Slots())
		s.Start(slot)
		a.Anneal(&s, 1<<12, 1, func() bool { return false })
		if !slices.Equal(first, s.Slots()) {
			t.Fatalf("seed %d: another placement the second time", seed)
		}
	}
	if better < 90 {
		t.Errorf("%d of 100 better than at first", better)
	}
}

// Every change that is drawn is allowed: it keeps homes, domains, a replica of each
// expert and none twice on a GPU; and every kind is drawn under every constraint.
func TestDraws(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(600) {
		task, slot := randomOn(rand.New(rand.NewPCG(seed, 7)), int(seed%2))
		var s State
		var a Annealer
		s.Set(task)
		s.Start(slot)
		a.start(&s, 0)
		a.sink(1)
		under := "free"
		if task.Home != nil {
			under = "homes"
		} else if task.Domain != nil {
			under = "domains"
		}
		for i := range 200 {
			draw, kind := a.draw, "draw"
			if i%2 == 1 && s.n == 1 {
				draw, kind = a.drawBack, "back"
			}
			c, ok := draw()
			if !ok {
				continue
			}
			if kind += " exchange"; c.B < 0 {
				kind = kind[:4] + " replace"
			}
			kinds[under+" "+kind]++
			if s.Off() > 0 && under == "homes" {
				kinds[under+" "+kind+" off"]++
			}
			was, cost := s.Moves(), s.CostOf(c)
			s.Apply(c)
			check(t, &s)
			if s.Moves() != was+cost {
				t.Fatalf("seed %d: %d moves after %d, %d promised", seed, s.Moves(), was, cost)
			}
			if s.n == 1 {
				s.over = s.Time() * .9
			}
			a.survey()
		}
	}
	for _, under := range []string{"free", "homes", "domains"} {
		for _, kind := range []string{"draw exchange", "draw replace", "back exchange", "back replace"} {
			if kinds[under+" "+kind] < 20 {
				t.Errorf("%s, %s: drawn %d times", under, kind, kinds[under+" "+kind])
			}
		}
	}
	if kinds["homes draw exchange off"] < 20 || kinds["homes draw replace off"] < 20 {
		t.Errorf("replicas off their home: %v", kinds)
	}
}

// unlikely is a table of logarithms, none of which the last digits of another's could
// round elsewhere.
func TestUnlikely(t *testing.T) {
	for i, x := range unlikely {
		want := -math.Log((float64(i) + .5) / 256)
		for _, off := range []float64{1 - 1e-13, 1, 1 + 1e-13} {
			if y := float64(float32(want * off)); x != y {
				t.Errorf("%d: %v, not %v", i, x, y)
			}
		}
	}
}
