package problem

import (
	"math"
	"slices"
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
	rows  [][]float64 // windows with load
	total []float64   // load of each
	of    []int       // which sum each is in
	near  []float64   // how far each is from what stands for it
	sums  [][]float64 // what stands for the windows
	whole []float64   // load of each sum
}

// live lists the windows of layer l that have load in it. Where they are more
// than mostWindows, sums of alike ones stand for them: windows are gathered round
// those that are farthest from each other, as shares of their load, then round the
// sums. A sum of windows takes no more time than they do, and as much where they
// are alike.
// Cost: O(mostWindows·windows·experts).
func (r *representatives) live(p *Problem, l int) [][]float64 {
	r.rows, r.total = r.rows[:0], r.total[:0]
	add := func(w []float64) {
		sum := 0.0
		for _, x := range w {
			sum += x
		}
		if sum > 0 {
			r.rows, r.total = append(r.rows, w), append(r.total, sum)
		}
	}
	if len(p.Windows) == 0 {
		add(p.Loads[l])
		return r.rows
	}
	for _, w := range p.Windows {
		add(w[l])
	}
	if len(r.rows) <= mostWindows {
		return r.rows
	}
	return r.gather()
}

// gather sums up alike windows.
func (r *representatives) gather() [][]float64 {
	n := len(r.rows)
	r.of = slices.Grow(r.of[:0], n)[:n]
	r.near = slices.Grow(r.near[:0], n)[:n]
	r.leave()
	centre := slices.Index(r.total, slices.Max(r.total))
	for k := range mostWindows {
		r.join(k, r.rows[centre], r.total[centre])
		far := -1.0
		for i, d := range r.near { // what is far and large matters most
			if x := float64(d * r.total[i]); x > far {
				far, centre = x, i
			}
		}
	}
	r.sumUp()
	for range regathers {
		r.leave()
		for k, sum := range r.sums {
			if r.whole[k] > 0 {
				r.join(k, sum, r.whole[k])
			}
		}
		r.sumUp()
	}
	out := r.rows[:0]
	for k, sum := range r.sums {
		if r.whole[k] > 0 {
			out = append(out, sum)
		}
	}
	return out
}

// leave takes all windows out of their sums.
func (r *representatives) leave() {
	for i := range r.near {
		r.near[i] = math.Inf(1)
	}
}

// join puts the windows into sum k that are nearer to what stands for it, a window of
// so much load, than to what they are with.
func (r *representatives) join(k int, what []float64, load float64) {
	for i, w := range r.rows {
		if d := distance(w, what, 1/r.total[i], 1/load); d < r.near[i] {
			r.near[i], r.of[i] = d, k
		}
	}
}

// sumUp adds up the windows that stand together.
func (r *representatives) sumUp() {
	for len(r.sums) < mostWindows {
		r.sums = append(r.sums, make([]float64, len(r.rows[0])))
	}
	r.whole = slices.Grow(r.whole[:0], mostWindows)[:mostWindows]
	clear(r.whole)
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
