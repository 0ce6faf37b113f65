package schedule

import (
	"math/rand/v2"
	"testing"
)

// Units that grow, shrink, lose GPUs and get other slots, under limits of memory
// and peers: no contract is broken.
func TestScheduleRandomResizes(t *testing.T) {
	const seed = 21
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds, bound := 0, 0
	cases := 6000
	if testing.Short() {
		cases = 2000
	}
	for i := range cases {
		prev, next, top, o := randomResize(rng, 3+i%6)
		if i%3 == 0 {
			prev, next, top, o = randomPlan(rng, 3+i%5)
		}
		randomLimits(rng, &o)
		s, err := New(&prev, &next, top, o)
		if err == nil {
			err = execute(&s, &prev, &next, top, o)
		}
		if err != nil {
			t.Fatalf("seed %d, case %d: %v\n%+v\n%+v\n%+v\n%+v\n%+v", seed, i, err, top, o, prev, next, s)
		}
		rounds, bound = rounds+len(s.Rounds), bound+s.RoundsBound
	}
	t.Logf("%d rounds, bound %d: %.3f", rounds, bound, float64(rounds)/float64(bound))
}
