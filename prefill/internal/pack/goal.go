package pack

import "math"

// goal is the rank that a prompt waits for, and until when it is worth that.
type goal struct {
	rank int // -1 = it starts wherever there is room
	end  float64
}

// goal finds where a prompt of which each rank caches its own would end first, after
// what has started there and what waits for it. It stays where it starts, so it starts
// elsewhere only if it ends there as soon: a rank that caches its prefix is of no use once
// more is before it there than computing the prefix again would take. O(ranks).
func (f *Former) goal(it *Item) goal {
	w := goal{-1, math.Inf(1)}
	if !it.local() {
		return w
	}
	uncached := f.Cost.Of(Work{it.tokens(), pairsOf(it.tokens(), 0)})
	for g := range f.load {
		l := &f.load[g]
		if !f.takes(g, it) {
			continue
		}
		_, _, seconds := f.on(it, g)
		if l.mostTokens == 0 && it.Waited > uncached-seconds { // nobody says when it may compute again
			continue
		}
		if end := (f.before(l, seconds, l.claimed, l.claims) + seconds) / l.speed; end < w.end {
			w = goal{g, end}
		}
	}
	w.end *= 1 + 1e-9 // rounding decides nothing
	return w
}

// before is how long the unfinished prompts of a rank, and others of so many seconds, hold
// up one. All may be more urgent; but the steps of a deep queue are shared among all, and
// none holds up another for longer than that takes itself.
func (f *Former) before(l *load, seconds, others float64, n int32) float64 {
	all := l.rest + others
	if f.Deep {
		all = min(all, float64(float64(l.unfinished+n)*seconds))
	}
	return all
}

// reaches reports whether a prompt of so many seconds on a rank ends as soon there as
// where it would wait.
func (f *Former) reaches(w goal, l *load, seconds float64) bool {
	return w.rank < 0 || (f.before(l, seconds, 0, 0)+seconds)/l.speed <= w.end
}

// claim notes that a prompt which finds no room waits for its rank.
func (f *Former) claim(i int32, w goal) {
	f.waits[i] = w
	if w.rank >= 0 {
		_, _, seconds := f.on(&f.Items[i], w.rank)
		f.load[w.rank].claimed += seconds
		f.load[w.rank].claims++
	}
}
