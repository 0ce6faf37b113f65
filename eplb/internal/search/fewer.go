package search

// moveHeat is the number of moves more that is hardly minded by Fewer.
const moveHeat = .3

// Fewer draws so many changes of the placement at hand and leaves the one of fewest
// moves, fewer than most, that it passed within goal at hand, or where there was none,
// the last. A move counts as much as so much overload at first, then less and
// less. least moves are few enough.
func (a *Annealer) Fewer(s *State, draws int, goal, move float64, least, most int, stop func() bool) {
	a.start(s, draws)
	s.Above(goal)
	best := most
	if best <= least || stop() {
		return
	}
	a.survey()
	a.cool(draws, a.drawBack, func(c Change) float64 {
		return float64((float64(moveHeat*a.unlikely()) - float64(s.CostOf(c))) * move)
	}, func() (end bool) {
		if s.moves < best && len(a.full.all) == 0 && (s.n == 1 || s.Time() <= goal) {
			best = s.moves
			copy(a.kept, s.slot)
		}
		return false
	}, func() (end bool) {
		move *= .93 // to 1/100
		return best <= least || stop()
	})
	if best == most {
		return // none within the goal has fewer
	}
	s.Start(a.kept)
}

// drawBack proposes that an expert comes back to a GPU where it was, that what came
// is another expert or comes elsewhere, or a change at a full GPU.
func (a *Annealer) drawBack() (c Change, ok bool) {
	s := a.s
	if (len(a.full.all) > 0 || s.n > 1) && a.intN(2) == 0 {
		return a.draw()
	}
	if len(a.moved.all) == 0 {
		return c, false
	}
	i := a.moved.all[a.intN(len(a.moved.all))]
	if a.intN(2) == 0 {
		if c = (Change{i, -1, 0}); a.intN(2) == 0 {
			c.B = a.moved.all[a.intN(len(a.moved.all))]
		} else {
			c.E = int32(a.intN(len(s.count)))
		}
		return c, s.May(c)
	}
	x := a.drawGone(s.gpu[i])
	if x < 0 {
		return c, false
	}
	c = Change{i, -1, x}
	if k := a.intN(len(s.at[x]) + 1); k < len(s.at[x]) {
		c.B = s.at[x][k]
	}
	return c, s.May(c)
}

// drawGone is an expert that GPU g had and has no more, -1 where there is none.
func (a *Annealer) drawGone(g int32) int32 {
	x, n := int32(-1), 0
	a.s.missing(g, func(e int32) {
		if n++; a.intN(n) == 0 {
			x = e
		}
	})
	return x
}
