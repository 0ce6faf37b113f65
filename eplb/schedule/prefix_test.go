package schedule

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/moelb/moelb/placement"
)

// Any number of rounds, whole or as a prefix, is what its moves make of the placement,
// serves, leaves nothing on GPUs that leave once the rounds are done that empty them, goes
// to JSON and back, and can be gone on from: by the rest of the rounds, and by a schedule
// of its own, where a GPU dies too.
func TestGoingOnFromAnyRound(t *testing.T) {
	rng := rand.New(rand.NewPCG(91, 0))
	emptied, died := 0, 0
	for i := range 400 {
		prev, next, unit, o := randomResize(rng, 6)
		if i%2 == 0 {
			prev, next, unit, o = randomPlan(rng, 4)
		}
		randomLimits(rng, &o)
		s, err := New(&prev, &next, unit, o)
		if err != nil {
			t.Fatal(err)
		}
		gpu, now := s.GPUOf(), onto(&prev, s.GPUSlots).PhysicalToLogical
		for k := range len(s.Rounds) {
			whole, err := s.Apply(&prev, k)
			if err != nil || !reflect.DeepEqual(whole.PhysicalToLogical, now) {
				t.Fatalf("case %d, %d rounds: %v is %v, %v", i, k, now, whole.PhysicalToLogical, err)
			}
			for _, m := range s.Rounds[k].Moves {
				now[m.Layer][m.To] = m.Expert
			}
			last := k + rng.IntN(len(s.Rounds)-k+1)
			there, err := s.Apply(&prev, last)
			if by, e := s.Resume(&whole, k, last); err != nil || e != nil || !reflect.DeepEqual(by, there) {
				t.Fatalf("case %d, %d rounds by way of %d: %v, not %v, %v, %v", i, last, k, by, there, err, e)
			}
			cut, back := s.Prefix(k), Schedule{}
			text, err := json.Marshal(cut)
			if e := json.Unmarshal(text, &back); err != nil || e != nil || !reflect.DeepEqual(cut, back) {
				t.Fatalf("case %d, a prefix of %d rounds: %v, %v\n%+v\n%+v", i, k, err, e, cut, back)
			}
			part, err := cut.Apply(&prev, k)
			if err != nil || k >= s.Restore && part.CheckComplete() != nil {
				t.Fatalf("case %d, a prefix of %d rounds: %v, %v", i, k, part, err)
			}
			if k >= s.Emptied && s.Emptied > 0 {
				emptied++
				for l, row := range part.PhysicalToLogical {
					for slot, e := range row {
						if e >= 0 && slices.Contains(s.Leaving, gpu[slot]) || cut.Emptied != s.Emptied {
							t.Fatalf("case %d, a prefix of %d rounds, %d of which empty %v: layer %d is %v", i, k, s.Emptied, s.Leaving, l, row)
						}
					}
				}
			}
			for _, on := range []*placement.Placement{&part, &whole} {
				dead := unit
				if first := next.FirstSlots(); on == &whole { // GPUs die that the next placement does not use
					dead.Speed = nil
					for g := range unit.GPUs {
						used := g < next.GPUs && slices.ContainsFunc(next.PhysicalToLogical, func(row []int) bool {
							return slices.Max(append([]int{-1}, row[first[g]:first[g+1]]...)) >= 0
						})
						dead.Speed = append(dead.Speed, unit.SpeedOf(g))
						if g < next.GPUs && !used && !slices.Contains(o.Leaving, g) {
							dead.Speed[g] = 0
							died++
						}
					}
				}
				rest, err := New(on, &next, dead, o)
				if err == nil {
					err = execute(&rest, on, &next, dead, o)
				}
				if err != nil {
					t.Fatalf("case %d, from %d rounds: %v", i, k, err)
				}
			}
		}
	}
	if emptied < 30 || died < 100 {
		t.Errorf("%d prefixes empty GPUs, %d died: too few", emptied, died)
	}
}
