package problem

import (
	"math"
	"slices"
)

// mostWindows is how many windows a layer is planned over at most. Plans for 300 windows
// whose load drifts stand 1.5% above those that know them all, 2.5% with 16.
const mostWindows = 24

// representatives picks the windows of a layer to plan over.
type representatives struct {
	rows  [][]float64 // windows with load
	total []float64   // load of each
	sums  [][]float64 // of alike windows; memory
}

// live lists the windows of layer l that have load in it. Where they are more
// than mostWindows, sums of alike ones stand for them: windows are gathered round
// those that are farthest from each other, as shares of their load. A sum of windows
// takes no more time than they do, and as much where they are alike.
// Cost: O(mostWindows·windows·experts).
func (r *representatives) live(p *Problem, l int) {
	r.rows, r.total = r.rows[:0], r.total[:0]
	for _, w := range p.Windows {
		if sum := Sum(w[l]); sum > 0 {
			r.rows, r.total = append(r.rows, w[l]), append(r.total, sum)
		}
	}
	if len(r.rows) > mostWindows {
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
	of := make([]int, len(r.rows)) // the sum that each window is in
	near := slices.Repeat([]float64{math.Inf(1)}, len(r.rows))
	n, far, most := 0, slices.Index(r.total, slices.Max(r.total)), 1.0
	for ; n < mostWindows && most > 0; n++ {
		center := far
		most = 0
		for i, w := range r.rows {
			if d := distance(w, r.rows[center], 1/r.total[i], 1/r.total[center]); d < near[i] {
				near[i], of[i] = d, n
			}
			if x := float64(near[i] * r.total[i]); x > most { // what is far and large matters most
				most, far = x, i
			}
		}
	}
	for len(r.sums) < n {
		r.sums = append(r.sums, make([]float64, len(r.rows[0])))
	}
	total := make([]float64, n)
	for _, sum := range r.sums {
		clear(sum)
	}
	for i, k := range of {
		total[k] += r.total[i]
		for e, x := range r.rows[i] {
			r.sums[k][e] += x
		}
	}
	r.rows, r.total = append(r.rows[:0], r.sums[:n]...), append(r.total[:0], total...)
}

// distance is how far two windows are apart, as shares: the sum of differences.
func distance(a, b []float64, scaleA, scaleB float64) float64 {
	sum := 0.0
	for e, x := range a {
		sum += math.Abs(float64(x*scaleA) - float64(b[e]*scaleB))
	}
	return sum
}
