package traffic

import (
	"cmp"
	"slices"
)

// mostBounded is the most experts for which Bound counts pairs.
const mostBounded = 2048

// Bound returns a lower bound on the mean nodes of some tokens under any
// placement on so many slots of each node, however uneven; 1 where it has nothing
// to say.
//
// A token that visits v nodes has its experts in v parts, each on one node, and so
// at least as many pairs of experts that share a node as v even parts hold. An
// expert of c replicas shares nodes with c·(slots-1) others at most, at best with
// those that tokens choose most often with it; replicas are shared out where they
// bring together most. Cost: O(tokens·K²) and O(experts² log experts).
func Bound(t *Tokens, experts int, slots []int) float64 {
	if t.Len() == 0 || t.K < 2 || experts > mostBounded {
		return 1
	}
	pairs := t.together(experts, 1)
	_, weight := t.chosen(experts)
	all, room, nodes := 0, 0, 0
	for _, n := range slots {
		all += n
		room = max(room, n)
		if n > 0 {
			nodes++
		}
	}
	if room < 2 {
		return float64(t.K)
	}
	// What a further replica of an expert brings together: the first is a must.
	var gains []float64
	together := 0.0 // pairs of all tokens, each from both sides
	for a := range experts {
		row := pairs[a*experts : (a+1)*experts]
		row[a] = 0
		slices.SortFunc(row, func(x, y float64) int { return cmp.Compare(y, x) })
		for c := range nodes {
			sum := 0.0
			for _, x := range row[min(c*(room-1), experts):min((c+1)*(room-1), experts)] {
				sum += x
			}
			if c == 0 {
				together += sum
			} else if sum > 0 {
				gains = append(gains, sum)
			}
		}
	}
	slices.SortFunc(gains, func(x, y float64) int { return cmp.Compare(y, x) })
	for _, x := range gains[:min(len(gains), max(all-experts, 0))] {
		together += x
	}
	return leastParts(t.K, together/2/weight)
}

// leastParts is the least mean number of parts of k things where no more than so
// many pairs, in the mean, are within a part: the inverse of the pairs in even
// parts, which fall ever more slowly.
func leastParts(k int, pairs float64) float64 {
	within := func(parts int) float64 {
		n, more := k/parts, k%parts
		return float64(more*(n+1)*n/2 + (parts-more)*n*(n-1)/2)
	}
	for v := 1; v < k; v++ {
		if a, b := within(v), within(v+1); pairs > b {
			return float64(v) + max(0, a-pairs)/(a-b)
		}
	}
	return float64(k)
}
