package schedule

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/placement"
)

// TestSlowdown holds the curve against throughput: a step that is s longer
// yields 1/(1+s) of the tokens.
func TestSlowdown(t *testing.T) {
	for _, s := range []Sensitivity{PrefillSensitivity(), DecodeSensitivity(), {.072, .189}, {}} {
		for x, lost := range map[float64]float64{.5: 0, 1: 0, 1.10: s.At110, 1.30: s.At130} {
			if got := 1 - 1/(1+s.Slowdown(x)); math.Abs(got-lost) > 1e-12 {
				t.Errorf("%+v loses %v of the throughput at %v, want %v", s, got, x, lost)
			}
		}
		for x := 1.0; x < 4; x += .01 {
			if s.Slowdown(x+.01) < s.Slowdown(x) {
				t.Errorf("%+v falls at %v", s, x)
			}
			if rise := s.Slowdown(x+.02) - 2*s.Slowdown(x+.01) + s.Slowdown(x); rise < -1e-12 {
				t.Errorf("%+v is not convex at %v", s, x)
			}
		}
	}
}

// rounds is a schedule of one move a round, of these layers, a second each.
func rounds(layers ...int) Schedule {
	s := Schedule{Priced: true}
	for i, l := range layers {
		s.Rounds = append(s.Rounds, Round{Seconds: 1, Moves: []placement.Move{{Layer: l, Expert: 0, From: 0, To: i + 1}}})
		s.Seconds++
	}
	return s
}

// TestDecideByHand: a step of 1 s; imbalance 1.10 costs 1/9 of it and 1.30
// another 2/9. Four layers, so that one that goes from 1.30 to 1 gains 1/12 s a
// step, from 1.10 to 1 it gains 1/36.
func TestDecideByHand(t *testing.T) {
	sensitivity := Sensitivity{At110: .1, At130: .25} // slowdown 1/9, 1/3
	for _, x := range []struct {
		name          string
		schedule      Schedule
		before, after []float64
		change        func(*Stakes, *Schedule)
		want          string
	}{
		{"one layer pays", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, nil,
			"move 1 of 1 rounds: it pays (83.33 ms a step gained for 1000 ms of stall, paid back after 12 steps of 100)"},
		{"the second layer does not", rounds(0, 1), []float64{1.3, 1.1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon = 30 },
			"move 1 of 2 rounds: it pays (83.33 ms a step gained for 1000 ms of stall, paid back after 12 steps of 30)"},
		{"but on a longer horizon it does", rounds(0, 1), []float64{1.3, 1.1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon = 37 },
			"move 2 of 2 rounds: it pays (111.1 ms a step gained for 2000 ms of stall, paid back after 18 steps of 37)"},
		{"a layer counts when it is finished", rounds(0, 1, 0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon = 37 },
			"move 3 of 3 rounds: it pays (83.33 ms a step gained for 3000 ms of stall, paid back after 36 steps of 37)"},
		{"too short a horizon", rounds(0, 1, 0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon = 36 },
			"not worth moving: it would not pay within the horizon (3 of 3 rounds: 83.33 ms a step gained for 3000 ms of stall, paid back after 36 steps of 36)"},
		{"half of it hidden", rounds(0, 1, 0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon, k.Hidden = 36, .5 },
			"move 3 of 3 rounds: it pays (83.33 ms a step gained for 1500 ms of stall, paid back after 18 steps of 36)"},
		{"no more even", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1.3, 1, 1, 1}, nil,
			"not worth moving: it gains nothing (1 of 1 rounds: 0 ms a step gained for 1000 ms of stall, never paid back)"},
		{"less even", rounds(0), []float64{1, 1, 1, 1}, []float64{1.3, 1, 1, 1}, nil,
			"not worth moving: it gains nothing (1 of 1 rounds: -83.33 ms a step gained for 1000 ms of stall, never paid back)"},
		{"below the margin", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon, k.Margin = 18, .5 },
			"not worth moving: it would not pay by the margin (1 of 1 rounds: 83.33 ms a step gained for 1000 ms of stall, paid back after 12 steps of 18)"},
		{"just above it", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Horizon, k.Margin = 18.1, .5 },
			"move 1 of 1 rounds: it pays (83.33 ms a step gained for 1000 ms of stall, paid back after 12 steps of 18.1)"},
		{"a must", rounds(0, 1), []float64{1, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, s *Schedule) { s.Restore = 1 },
			"move 1 of 2 rounds: experts without a copy come back (0 ms a step gained for 1000 ms of stall, never paid back)"},
		{"a must and more", rounds(0, 1), []float64{1, 1.3, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, s *Schedule) { s.Restore = 1 },
			"move 2 of 2 rounds: experts without a copy come back (83.33 ms a step gained for 2000 ms of stall, paid back after 24 steps of 100)"},
		{"a must, and no more pays", rounds(0, 1), []float64{1, 1.3, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, s *Schedule) { s.Restore, k.Horizon = 1, 10 },
			"move 1 of 2 rounds: experts without a copy come back (0 ms a step gained for 1000 ms of stall, never paid back)"},
		{"all hidden, of unknown length", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, s *Schedule) { s.Priced, s.Rounds[0].Seconds, k.Hidden = false, 0, 1 },
			"move 1 of 1 rounds: it pays (83.33 ms a step gained for 0 ms of stall, paid back after 0 steps of 100)"},
		{"GPUs that leave", rounds(0, 1), []float64{1, 1, 1, 1}, []float64{1.1, 1.1, 1, 1}, func(k *Stakes, s *Schedule) { s.Emptied = 2 },
			"move 2 of 2 rounds: GPUs that leave are emptied (-55.56 ms a step gained for 2000 ms of stall, never paid back)"},
		{"nothing is known of a layer", rounds(0, 1), []float64{math.Inf(1), 1.3, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, s *Schedule) { s.Restore = 1 },
			"move 2 of 2 rounds: experts without a copy come back (83.33 ms a step gained for 2000 ms of stall, paid back after 24 steps of 100)"},
		{"a layer of half weight", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Weight = []float64{.5, 1, 1, 1} },
			"move 1 of 1 rounds: it pays (47.62 ms a step gained for 1000 ms of stall, paid back after 21 steps of 100)"},
		{"a layer without weight", rounds(0), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, func(k *Stakes, _ *Schedule) { k.Weight = []float64{0, 1, 1, 1} },
			"not worth moving: it gains nothing (1 of 1 rounds: 0 ms a step gained for 1000 ms of stall, never paid back)"},
		{"no moves", rounds(), []float64{1.3, 1, 1, 1}, []float64{1, 1, 1, 1}, nil, "nothing to move"},
	} {
		k := Stakes{StepSeconds: 1, Sensitivity: sensitivity, Before: x.before, After: x.after, Horizon: 100}
		if x.change != nil {
			x.change(&k, &x.schedule)
		}
		d, err := Decide(&x.schedule, k)
		if err != nil || d.String() != x.want || d.Move != (d.Rounds > 0) {
			t.Errorf("%s: %v, %v (%d rounds)\nwant %s", x.name, d, err, d.Rounds, x.want)
		}
	}
}

// TestDecideIsBest holds random decisions against a try of every prefix, and
// what more at stake must not undo: a longer horizon, more hidden, a step that
// takes longer.
func TestDecideIsBest(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	moved := 0
	for i := range 5000 {
		layers := 1 + rng.IntN(6)
		k := Stakes{StepSeconds: rng.Float64(), Sensitivity: DecodeSensitivity(), Horizon: float64(rng.IntN(2000)),
			Hidden: float64(rng.IntN(3)) / 2.5, Margin: float64(rng.IntN(2)) / 3}
		var order []int
		for l := range layers {
			k.Before = append(k.Before, 1+rng.Float64())
			k.After = append(k.After, 1+.3*rng.Float64())
			for range rng.IntN(4) {
				order = append(order, l)
			}
		}
		rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		s := rounds(order...)
		d, err := Decide(&s, k)
		if err != nil {
			t.Fatal(err)
		}
		best, bestRounds := 0.0, 0
		for n := 1; n <= len(order); n++ {
			later := map[int]bool{}
			for _, l := range order[n:] {
				later[l] = true
			}
			some := map[int]bool{}
			gain := 0.0
			for _, l := range order[:n] {
				if !later[l] && !some[l] {
					some[l] = true
					gain += (k.Sensitivity.Slowdown(k.Before[l]) - k.Sensitivity.Slowdown(k.After[l])) * k.StepSeconds / float64(layers)
				}
			}
			net := gain*k.Horizon - float64(n)*(1-k.Hidden)*(1+k.Margin)
			if net > best+1e-9 {
				best, bestRounds = net, n
			}
		}
		if d.Rounds != bestRounds || d.Move != (bestRounds > 0) {
			t.Fatalf("seed %d, case %d: %v: want %d rounds, which leave %v s", seed, i, d, bestRounds, best)
		}
		if !d.Move {
			continue
		}
		moved++
		for _, f := range []func(*Stakes){
			func(k *Stakes) { k.Horizon *= 2 },
			func(k *Stakes) { k.Hidden = (1 + k.Hidden) / 2 },
			func(k *Stakes) { k.StepSeconds *= 2 },
		} {
			more := k
			f(&more)
			if e, err := Decide(&s, more); err != nil || !e.Move || e.Rounds < d.Rounds {
				t.Fatalf("seed %d, case %d: %v, with more at stake %v, %v", seed, i, d, e, err)
			}
		}
	}
	if moved < 500 || moved > 4500 {
		t.Errorf("%d of 5000 cases move: too few or too many to tell", moved)
	}
}

func TestDecideBadInput(t *testing.T) {
	for _, x := range []struct {
		spoil func(*Stakes, *Schedule)
		kind  error
		want  string
	}{
		{func(k *Stakes, _ *Schedule) { k.StepSeconds = -1 }, placement.ErrValue, "step_seconds: -1: between 0 and 1e+15 is possible"},
		{func(k *Stakes, _ *Schedule) { k.Horizon = math.Inf(1) }, placement.ErrValue, "horizon: +Inf: between 0 and 1e+15 is possible"},
		{func(k *Stakes, _ *Schedule) { k.Hidden = 1.5 }, placement.ErrValue, "hidden: 1.5: between 0 and 1 is possible"},
		{func(k *Stakes, _ *Schedule) { k.Margin = math.NaN() }, placement.ErrValue, "margin: NaN: between 0 and 1e+15 is possible"},
		{func(k *Stakes, _ *Schedule) { k.Sensitivity = Sensitivity{.2, .1} }, placement.ErrValue, "sensitivity: 0.2: between 0 and 0.1 is possible"},
		{func(k *Stakes, _ *Schedule) { k.Weight = []float64{0, 0} }, placement.ErrValue, "weight: no layer has any"},
		{func(k *Stakes, _ *Schedule) { k.After = k.After[:1] }, placement.ErrShape, "after: 1 layers, but before has 2"},
		{func(k *Stakes, _ *Schedule) { k.After[1] = math.NaN() }, placement.ErrValue, "imbalance: layer 1: 1, NaN, of weight 1: finite numbers ≥ 0 are needed"},
		{func(_ *Stakes, s *Schedule) { s.Rounds[0].Moves[0].Layer = 2 }, placement.ErrShape, "before: 2 layers, but the schedule moves layer 2"},
		{func(_ *Stakes, s *Schedule) { s.Priced = false }, placement.ErrValue, "schedule: its seconds are not known: give the bytes of an expert and the bandwidths"},
	} {
		k := Stakes{StepSeconds: 1, Sensitivity: DecodeSensitivity(), Before: []float64{1.2, 1}, After: []float64{1, 1}, Horizon: 10}
		s := rounds(0, 1)
		x.spoil(&k, &s)
		if _, err := Decide(&s, k); !errors.Is(err, x.kind) || err.Error() != x.want {
			t.Errorf("got %v, want %s", err, x.want)
		}
	}
}
