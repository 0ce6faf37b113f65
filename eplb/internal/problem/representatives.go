package problem

import (
	"math"
	"slices"

	"github.com/moelb/moelb/placement"
)

const (
	// mostWindows is how many windows a layer is planned over at most. A recording
	// of a thousand steps is planned within .9% of what all of them give in 24
	// windows, within 1.7% in 16.
	mostWindows = 24
	// regathers is how often windows then change to the sum that they are most
	// alike: 24 windows without it are worth 18.
	regathers = 2
)

// representatives picks the windows of a layer to plan over.
type representatives struct {
	rows  [][]float64          // windows with load
	total []float64            // load of each
	of    []int                // which sum each is in
	near  []float64            // how far each is from what stands for it
	sums  [][]float64          // what stands for the windows
	whole [mostWindows]float64 // load of each sum
}

// live lists the windows of layer l that have load in it. Where they are more
// than mostWindows, sums of alike ones stand for them: windows are gathered round
// those that are farthest from each other, as shares of their load, then round the
// sums. A sum of windows takes no more time than they do, and as much where they
// are alike.
// Cost: O(mostWindows·windows·experts).
func (r *representatives) live(p *Problem, l int) {
	r.rows, r.total = r.rows[:0], r.total[:0]
	windows := p.Windows
	if len(windows) == 0 {
		windows = []placement.Loads{p.Loads}
	}
	for _, w := range windows {
		if sum := Sum(w[l]); sum > 0 {
			r.rows, r.total = append(r.rows, w[l]), append(r.total, sum)
		}
	}
	if n := len(r.rows); n > mostWindows {
		r.of, r.near = slices.Grow(r.of[:0], n)[:n], slices.Grow(r.near[:0], n)[:n]
		r.gather()
	}
}

// Sum is that of some loads.
func Sum(loads []float64) (sum float64) {
	for _, x := range loads {
		sum += x
	}
	return sum
}

// gather sums up alike windows.
func (r *representatives) gather() {
	for len(r.sums) < mostWindows {
		r.sums = append(r.sums, make([]float64, len(r.rows[0])))
	}
	far := slices.Index(r.total, slices.Max(r.total))
	for pass := range 1 + regathers {
		for i := range r.near {
			r.near[i] = math.Inf(1)
		}
		for k := range mostWindows {
			if pass == 0 {
				far = r.join(k, r.rows[far], r.total[far])
			} else if r.whole[k] > 0 {
				r.join(k, r.sums[k], r.whole[k])
			}
		}
		r.sumUp()
	}
	r.rows, r.total = r.rows[:0], r.total[:0]
	for k, sum := range r.sums {
		if r.whole[k] > 0 {
			r.rows, r.total = append(r.rows, sum), append(r.total, r.whole[k])
		}
	}
}

// join puts the windows into sum k that are nearer to what stands for it, a window of
// so much load, than to what they are with. It returns the window that is then
// farthest; what is far and large matters most.
func (r *representatives) join(k int, what []float64, load float64) (far int) {
	most := -1.0
	for i, w := range r.rows {
		if d := distance(w, what, 1/r.total[i], 1/load); d < r.near[i] {
			r.near[i], r.of[i] = d, k
		}
		if x := float64(r.near[i] * r.total[i]); x > most {
			most, far = x, i
		}
	}
	return far
}

// sumUp adds up the windows that stand together.
func (r *representatives) sumUp() {
	r.whole = [mostWindows]float64{}
	for _, sum := range r.sums {
		clear(sum)
	}
	for i, w := range r.rows {
		sum := r.sums[r.of[i]]
		r.whole[r.of[i]] += r.total[i]
		for e, x := range w {
			sum[e] += x
		}
	}
}

// distance is how far two windows are apart, as shares: the sum of differences.
func distance(a, b []float64, scaleA, scaleB float64) float64 {
	sum := 0.0
	for e, x := range a {
		sum += math.Abs(float64(x*scaleA) - float64(b[e]*scaleB))
	}
	return sum
}
