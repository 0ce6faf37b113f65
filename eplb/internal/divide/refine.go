package divide

import (
	"math/rand/v2"

	"github.com/moelb/moelb/eplb/internal/search"
)

// refine changes the best plan of a small layer one slot at a time as long as
// the split of the given loads gets more even: a slot gets a copy of another
// expert in place of one that has more, or two GPUs exchange a replica. Where no
// change helps it nudges the plan a little and descends anew. It tries most
// changes at most, each at the cost of a split. Without it 8 experts on 4 GPUs of 3
// slots stand .2% higher, 6 on 4 of 2 .5%.
func (p *Planner) refine(goal float64, most int, stop func() bool) {
	s, at := p.s, &p.at
	if len(s.Slot)*(len(s.Slot)+len(s.Count)) > most/4 {
		return
	}
	rng := rand.New(rand.NewPCG(uint64(most), 0))
	at.Set(&search.Task{Experts: len(s.W), First: s.U.First, Speed: s.U.Speed}) // of no window
	level := 0.0
	better := func() bool {
		most--
		x := p.given(at.Slots())
		if x >= level*(1-SameSplit) {
			return false
		}
		level = x
		return true
	}
	for round := 0; p.split > goal && most > 0 && !stop(); round++ {
		at.Start(s.Best.Slot)
		level = p.split
		if round > 0 {
			for range 1 + rng.IntN(4) {
				p.nudge(rng)
			}
			most--
			level = p.given(at.Slots())
		}
		for p.step(&most, better) && level > goal {
		}
		if level < p.split*(1-SameSplit) {
			p.offer(at.Slots(), at.Counts())
		}
	}
}

// nudge makes some change that is allowed.
func (p *Planner) nudge(rng *rand.Rand) {
	at, slots := &p.at, len(p.s.Slot)
	i, j := int32(rng.IntN(slots)), int32(rng.IntN(slots))
	c := search.Change{A: i, B: -1, E: int32(rng.IntN(len(p.s.Count)))}
	if rng.IntN(2) == 0 && at.May(c) {
		at.Apply(c)
	} else if c = (search.Change{A: i, B: j, E: -1}); at.May(c) {
		at.Apply(c)
	}
}

// step makes the first change that is better and says whether there was one.
func (p *Planner) step(most *int, better func() bool) bool {
	at, first := &p.at, p.s.U.First
	try := func(c, back search.Change) bool {
		if *most <= 0 || !at.May(c) {
			return false
		}
		if at.Apply(c); better() {
			return true
		}
		at.Apply(back)
		return false
	}
	for i, was := range at.Slots() {
		c := search.Change{A: int32(i), B: -1}
		for c.E = range int32(len(at.Counts())) {
			if try(c, search.Change{A: c.A, B: -1, E: was}) {
				return true
			}
		}
		for c.B = int32(first[p.linker.GPU[i]+1]); int(c.B) < first[len(first)-1]; c.B++ {
			if try(c, c) {
				return true
			}
		}
	}
	return false
}
