package search

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// norm is the smooth objective that stands in for State.Time: the sum over
// windows of their share times the norm of the levels, with a power of 2^twice.
// The maximum itself cares for one GPU a window, and a search for it is soon
// stuck. twice 0 is another objective: the overload of the GPUs above a level,
// summed, for a search that knows where it may end.
type norm struct {
	twice int
	over  float64
	power []float64 // of each level, [GPUs][windows]
	total []float64 // over the GPUs, [windows]
	part  []float64 // of the objective, by window
	scale []float64 // steps of roots a total, by window
}

func (p *norm) set(s *State) {
	p.power = memory.Resize(p.power, len(s.level))
	p.total = memory.Resize(p.total, s.n)
	p.part = memory.Resize(p.part, s.n)
	p.scale = memory.Resize(p.scale, s.n)
}

// raise is what a level adds to its window's total.
func (p *norm) raise(x float64) float64 {
	if p.twice == 0 {
		// A touch of the square tells apart what ends below the level.
		return max(0, x-p.over) + float64(blend*x*x)
	}
	for range p.twice {
		x *= x
	}
	return float64(x) // rounded here, whatever it is added to
}

// blend is how much of the square there is in the overload.
const blend = 1e-10

// root is a window's norm.
func (p *norm) root(total float64) float64 {
	for range p.twice {
		total = math.Sqrt(total)
	}
	return total
}

// unroot is the total of a norm.
func (p *norm) unroot(x float64) float64 {
	x = max(0, x)
	for range p.twice {
		x *= x
	}
	return x
}

// rootSteps is how many steps of roots there are up to the total at hand.
const rootSteps = 64

// roots are the norms of totals in steps, by how often 2 is squared less Softest.
var roots = func() (t [4][2*rootSteps + 1]float64) {
	for i := range t {
		p := norm{twice: Softest + i}
		for k := range t[i] {
			t[i][k] = p.root(float64(k) / rootSteps)
		}
	}
	return t
}()

// Plans over several windows go by soft norms, since what just fits these does not fit those
// to come: of the power 16 mostly, and of 8 at least. Powers are given as how often 2 is
// squared.
const Soft, Softest = 4, 3

// bound is no more than what window k adds to the objective where its total is x,
// after weigh with several windows: the norm is concave, and what lies between two
// steps above the line from one to the other. Of most changes that says enough, at a
// quarter of the time.
func (p *norm) bound(k int, x float64) float64 {
	x *= p.scale[k]
	t := &roots[p.twice-Softest]
	if !(x < 2*rootSteps) {
		return float64(p.part[k] * t[2*rootSteps])
	}
	i := int(x)
	return float64(p.part[k] * (t[i] + float64((x-float64(i))*(t[i+1]-t[i]))))
}

// weigh adds up all powers and returns the objective.
func (s *State) weigh() float64 {
	clear(s.total)
	for i, x := range s.level {
		y := s.raise(x)
		s.power[i] = y
		s.total[i%s.n] += y
	}
	sum := 0.0
	for k, a := range s.t.Share {
		s.part[k] = float64(a * s.root(s.total[k]))
		s.scale[k] = rootSteps / s.total[k]
		sum += s.part[k]
	}
	return sum
}

// key is the soft norm. Of two placements over several windows it
// tells better than their time which one holds in the windows to come.
func (s *State) key() float64 {
	twice := s.twice
	s.twice = Soft
	sum := s.weigh()
	s.twice = twice
	return sum
}

// Above is what Fewer makes small beside moves: what GPUs carry above a level,
// summed, or over several windows the soft norm.
func (s *State) Above(level float64) float64 {
	if s.twice, s.over = 0, level; s.n > 1 {
		s.twice = Soft
	}
	return s.weigh()
}
