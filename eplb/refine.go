package eplb

import "math/rand/v2"

// refine changes the best plan of a small layer one slot at a time as long as
// the split of the given loads gets more even: a slot gets a copy of another
// expert in place of one that has more, or two GPUs exchange a replica. Where no
// change helps it nudges the plan a little and descends anew. It tries most
// changes at most, each at the cost of a split.
func (p *splitPlanner) refine(goal float64, most int, stop func() bool) {
	s, b := p.s, &p.best
	if len(s.slot)*(len(s.slot)+len(s.count)) > most/4 {
		return
	}
	rng := rand.New(rand.NewPCG(uint64(most), 0))
	level := 0.0
	better := func() bool {
		most--
		x := p.given(s.slot, s.count)
		if x >= level*(1-sameSplit) {
			return false
		}
		level = x
		return true
	}
	for round := 0; b.split > goal && most > 0 && !stop(); round++ {
		copy(s.slot, b.slot)
		copy(s.count, b.count)
		level = b.split
		if round > 0 {
			for range 1 + rng.IntN(4) {
				p.nudge(rng)
			}
			most--
			level = p.given(s.slot, s.count)
		}
		for p.step(&most, better) && level > goal {
		}
		if level < b.split*(1-sameSplit) {
			p.offer(s.slot, s.count)
		}
	}
}

// nudge makes some change that is allowed.
func (p *splitPlanner) nudge(rng *rand.Rand) {
	s := p.s
	i, j := rng.IntN(len(s.slot)), rng.IntN(len(s.slot))
	e := rng.IntN(len(s.count))
	g, o := gpuOf(s.u, i), gpuOf(s.u, j)
	a, b := s.slot[i], s.slot[j]
	switch {
	case rng.IntN(2) == 0 && s.count[a] > 1 && !on(s, g, int32(e)):
		s.slot[i] = int32(e)
		s.count[a]--
		s.count[e]++
	case !on(s, g, b) && !on(s, o, a):
		s.slot[i], s.slot[j] = b, a
	}
}

// gpuOf is the GPU that has slot i.
func gpuOf(u *unit, i int) int {
	g := 0
	for i >= u.first[g+1] {
		g++
	}
	return g
}

// step makes the first change that is better and says whether there was one.
func (p *splitPlanner) step(most *int, better func() bool) bool {
	s, u := p.s, p.s.u
	for g := range u.gpu {
		for i := u.first[g]; i < u.first[g+1]; i++ {
			was := s.slot[i]
			for e := range s.count {
				if s.count[was] < 2 || *most <= 0 {
					break
				}
				if on(s, g, int32(e)) {
					continue
				}
				s.slot[i] = int32(e)
				s.count[e]++
				s.count[was]--
				if better() {
					return true
				}
				s.slot[i] = was
				s.count[e]--
				s.count[was]++
			}
			for o := g + 1; o < len(u.gpu) && *most > 0; o++ {
				if on(s, o, was) {
					continue
				}
				for j := u.first[o]; j < u.first[o+1]; j++ {
					if on(s, g, s.slot[j]) {
						continue
					}
					s.slot[i], s.slot[j] = s.slot[j], s.slot[i]
					if better() {
						return true
					}
					s.slot[i], s.slot[j] = s.slot[j], s.slot[i]
				}
			}
		}
	}
	return false
}

// on says whether GPU g has a replica of e in the slots at hand.
func on(s *solver, g int, e int32) bool {
	for _, x := range s.slot[s.u.first[g]:s.u.first[g+1]] {
		if x == e {
			return true
		}
	}
	return false
}
