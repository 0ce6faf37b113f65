package eplb

import "math"

// twoEach says whether every GPU has two slots and the same speed. For given
// counts the best placement is then known: the largest replica goes with the
// smallest, the second largest with the second smallest, and so on (a fold).
// What is left to search is the counts.
func (s *solver) twoEach() bool {
	if !s.u.equal || s.u.slots != 2*len(s.u.gpu) {
		return false
	}
	for g := range s.u.gpu {
		if s.u.room(g) != 2 {
			return false
		}
	}
	return true
}

// ladder is how far above the bound the count search aims, rung by rung.
var ladder = []float64{2e-4, 5e-4, 1e-3, 2e-3, 4e-3, 8e-3}

// foldWork bounds the search for counts, in pairs folded: about a second, which
// only layers of thousands of experts take.
const foldWork = 1 << 28

// searchPairs fills s.best for two slots a GPU. From Adams' counts it moves one
// copy at a time from one expert to another, each time the move that most
// lessens what the pairs of the fold carry above an aim near the bound. It
// returns the bound, raised by the threshold bound.
func (s *solver) searchPairs(bound, tolerance float64, stop func() bool) float64 {
	if !s.adams(s.u.slots, len(s.u.gpu), nil) {
		return bound
	}
	s.listRuns()
	s.foldOut()
	bound = s.thresholdBound(bound, s.best.level, false)
	s.foldWork = foldWork
	for _, rung := range ladder {
		aim := bound * (1 + rung)
		if s.best.level <= max(aim, bound*(1+tolerance)) || stop() {
			break
		}
		copy(s.count, s.best.count)
		s.listRuns()
		if s.descendCounts(aim) {
			break
		}
	}
	return s.thresholdBound(bound, s.best.level, true)
}

// run is the replicas of one replicated expert, all of one size.
type run struct {
	size float64
	id   int32
	n    int32
}

// listRuns lists the replicated experts by the size of a replica.
func (s *solver) listRuns() {
	s.runs = s.runs[:0]
	for e, c := range s.count {
		if c > 1 {
			s.runs = insertRun(s.runs, run{s.w[e] / float64(c), int32(e), c})
		}
	}
}

// insertRun inserts x into runs, the largest size first, ties by index.
func insertRun(runs []run, x run) []run {
	runs = append(runs, x)
	i := len(runs) - 1
	for ; i > 0 && (runs[i-1].size < x.size || (runs[i-1].size == x.size && runs[i-1].id > x.id)); i-- {
		runs[i] = runs[i-1]
	}
	runs[i] = x
	return runs
}

// folded is what a fold carries above an aim.
type folded struct {
	excess float64 // summed over the pairs
	most   float64 // the fullest pair
	big    float64 // the larger of its two
}

// fold pairs the largest replica with the smallest, and so on inwards, as long
// as a pair can exceed aim or the walk has found less than enough. Replicated
// experts come from runs, the others from s.order.
func (s *solver) fold(runs []run, aim, enough float64) folded {
	var f folded
	top, bottom := 0, len(s.order)-1 // of the experts with one replica
	hi, lo := 0, len(runs)-1         // of the runs
	var hiLeft, loLeft int32
	if lo >= 0 {
		hiLeft, loLeft = runs[0].n, runs[lo].n
	}
	for range len(s.u.gpu) {
		for top < len(s.order) && s.count[s.order[top]] > 1 {
			top++
		}
		for bottom >= 0 && s.count[s.order[bottom]] > 1 {
			bottom--
		}
		var a, b float64
		if hi < len(runs) && (top >= len(s.order) || runs[hi].size >= s.w[s.order[top]]) {
			a = runs[hi].size
			if hiLeft--; hiLeft == 0 {
				if hi++; hi < len(runs) {
					hiLeft = runs[hi].n
				}
			}
		} else {
			a = s.w[s.order[top]]
			top++
		}
		if lo >= 0 && (bottom < 0 || runs[lo].size <= s.w[s.order[bottom]]) {
			b = runs[lo].size
			if loLeft--; loLeft == 0 {
				if lo--; lo >= 0 {
					loLeft = runs[lo].n
				}
			}
		} else {
			b = s.w[s.order[bottom]]
			bottom--
		}
		x := a + b
		if x > f.most {
			f.most, f.big = x, a
		}
		if x > aim {
			f.excess += x - aim
			if f.excess >= enough {
				return f
			}
		}
		if a <= aim/2 {
			return f
		}
	}
	return f
}

// descendCounts moves copies until no pair of the fold is above aim, or no move
// helps; the best fold on the way is kept. It says whether aim was reached.
func (s *solver) descendCounts(aim float64) bool {
	now := s.fold(s.runs, aim, math.Inf(1))
	for now.excess > 0 && s.foldWork > 0 {
		big, small := now.big, aim-now.big
		bestE, bestF, best := int32(-1), int32(-1), now
		for _, f := range s.runs {
			// Each copy of f that is left would exceed the aim by this much.
			left := float64(f.n - 1)
			if x := s.w[f.id]/left - aim; x > 0 && x*left >= best.excess {
				continue
			}
			if s.foldWork -= len(s.order); s.foldWork <= 0 {
				return false
			}
			s.count[f.id]--
			fillers := 0
			for _, e := range s.order {
				c := s.count[e]
				x := s.w[e] / float64(c)
				y := s.w[e] / float64(c+1)
				// A further copy of e must take big replicas away or add small ones.
				if e == f.id || int(c) >= len(s.u.gpu) || (x < big && y > small) {
					continue
				}
				if x <= small {
					// Which cold expert is cut for one filler more matters little.
					if fillers++; fillers > 3 {
						break
					}
				}
				s.foldWork -= len(s.u.gpu)
				s.count[e]++
				s.trialRuns = s.trialRuns[:0]
				for _, r := range s.runs {
					if r.id != e && r.id != f.id {
						s.trialRuns = append(s.trialRuns, r)
					}
				}
				s.trialRuns = insertRun(s.trialRuns, run{y, e, c + 1})
				if f.n > 2 {
					s.trialRuns = insertRun(s.trialRuns, run{s.w[f.id] / left, f.id, f.n - 1})
				}
				if v := s.fold(s.trialRuns, aim, best.excess); v.excess < best.excess {
					bestE, bestF, best = e, f.id, v
				}
				s.count[e]--
			}
			s.count[f.id]++
		}
		if bestE < 0 {
			return false
		}
		s.count[bestE]++
		s.count[bestF]--
		s.listRuns()
		now = best
		if now.most < s.best.level || now.excess == 0 {
			s.foldOut()
		}
	}
	return true
}

// foldOut places the fold of the counts at hand and keeps it if it is the best.
// Two replicas of one expert that meet on a GPU are parted by an exchange with
// another pair.
func (s *solver) foldOut() {
	s.bySize()
	n := 0
	for _, e := range s.ranked {
		for range s.count[e] {
			g := n
			if n >= len(s.u.gpu) {
				g = s.u.slots - 1 - n
				s.slot[2*g+1] = e
			} else {
				s.slot[2*g] = e
			}
			n++
		}
	}
	for g := range s.u.gpu {
		if s.slot[2*g] == s.slot[2*g+1] && !s.part(g) {
			return
		}
	}
	s.keep()
}

// part exchanges the second replica of GPU g, which doubles the first, for that
// of the GPU where the larger sum of the two is least after it.
func (s *solver) part(g int) bool {
	a := s.slot[2*g]
	best, level := -1, 0.0
	for o := range s.u.gpu {
		x, y := s.slot[2*o], s.slot[2*o+1]
		if x == a || y == a {
			continue
		}
		if l := max(s.size[a]+s.size[y], s.size[x]+s.size[a]); best < 0 || l < level {
			best, level = o, l
		}
	}
	if best < 0 {
		return false
	}
	s.slot[2*g+1], s.slot[2*best+1] = s.slot[2*best+1], s.slot[2*g+1]
	return true
}
