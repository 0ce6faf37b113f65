package search

import "slices"

// forks is how many changes of a placement are gone on from.
const forks = 4

// branch is a placement: a change of another that a path passed.
type branch struct {
	gain
	from int32 // in Front.steps
	gone bool  // on from
}

// Spread walks many paths ahead from a layout at once, under the norm of the power 2^twice:
// of all placements that the best changes lead to, it goes on from the best of as many moves,
// width of one move, half as many of two, and so on. The first steps decide most, and one
// path a norm takes some of them wrongly.
func (s *State) Spread(f *Front, from []int32, twice, width int, goal Goal) {
	s.setOut(f, from, twice, goal)
	s.onward, s.most, s.forks = twice == 0, goal.Moves, forks
	defer func() { s.forks = 1 }()
	first, at := s.moves, f.at
	var all [][]branch // by moves
	for m := 0; ; {
		clear(s.isHot)
		if s.Time() <= goal.Time || goal.Stop() {
			return
		}
		s.Forward(leastGain)
		for _, g := range s.best {
			n := max(m, s.moves+s.CostOf(g.Change)-first)
			for len(all) <= n {
				all = append(all, nil)
			}
			all[n] = insert(all[n], branch{gain: g, from: at}, max(1, width/max(1, n)))
		}
		i := -1
		for ; m < len(all); m++ {
			if i = slices.IndexFunc(all[m], func(b branch) bool { return !b.gone }); i >= 0 {
				break
			}
		}
		if i < 0 {
			return
		}
		b := &all[m][i]
		b.gone = true
		s.Start(f.slots(b.from))
		f.at = b.from
		f.do(s, b.Change)
		at = f.at
	}
}

// insert puts a branch among others of as many moves, the best first, if it is one of the
// best. What is alike but for rounding is one placement, by other steps.
func insert(all []branch, b branch, most int) []branch {
	i := 0
	for ; i < len(all) && all[i].value < b.value; i++ {
	}
	for j := max(0, i-1); j < min(i+1, len(all)); j++ {
		if d := all[j].value - b.value; max(d, -d) < 1e-13*b.value {
			return all
		}
	}
	all = slices.Insert(all, i, b)
	return all[:min(len(all), most)]
}
