package problem

import (
	"math"
	"slices"
)

// mostWindows is how many windows a layer is planned over at most.
const mostWindows = 16

// Representatives picks the windows of a layer to plan over.
type Representatives struct {
	rows  [][]float64
	sums  [][]float64
	of    []int
	near  []float64
	total []float64
}

// Live lists the windows of layer l that have load in it. Where they are more
// than mostWindows, sums of alike ones stand for them: windows are gathered round
// those that are farthest from each other, as shares of their load. A sum of
// windows takes no more time than they do, and as much where they are alike.
// Cost: O(mostWindows·windows·experts).
func (r *Representatives) Live(p *Problem, l int) [][]float64 {
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
func (r *Representatives) gather() [][]float64 {
	n := len(r.rows)
	r.of = slices.Grow(r.of[:0], n)[:n]
	r.near = slices.Grow(r.near[:0], n)[:n]
	for i := range r.near {
		r.near[i] = math.Inf(1)
	}
	centre := 0 // the largest comes first
	for i, x := range r.total {
		if x > r.total[centre] {
			centre = i
		}
	}
	for k := range mostWindows {
		far, next := -1.0, 0
		for i, w := range r.rows {
			if d := distance(w, r.rows[centre], 1/r.total[i], 1/r.total[centre]); d < r.near[i] {
				r.near[i], r.of[i] = d, k
			}
			// What is far and large matters most.
			if x := float64(r.near[i] * r.total[i]); x > far {
				far, next = x, i
			}
		}
		centre = next
	}
	for len(r.sums) < mostWindows {
		r.sums = append(r.sums, make([]float64, len(r.rows[0])))
	}
	used := make([]bool, mostWindows)
	for _, sum := range r.sums {
		clear(sum)
	}
	for i, w := range r.rows {
		used[r.of[i]] = true
		sum := r.sums[r.of[i]]
		for e, x := range w {
			sum[e] += x
		}
	}
	out := r.rows[:0]
	for k, sum := range r.sums {
		if used[k] {
			out = append(out, sum)
		}
	}
	return out
}

// distance is how far two windows are apart, as shares: the sum of differences.
func distance(a, b []float64, scaleA, scaleB float64) float64 {
	sum := 0.0
	b = b[:len(a)]
	for e, x := range a {
		sum += math.Abs(float64(x*scaleA) - float64(b[e]*scaleB))
	}
	return sum
}
