package traffic

import (
	"cmp"
	"slices"
)

// nearSeed constructs a placement for Nearest on the mean of the windows: every
// expert once, the hottest first, on the node that has least to do; then one copy
// more, again and again, of the expert whose fullest replica is fullest, on the
// node where that lessens it most; then replicas on the GPUs of their node that
// have least to do. false = an expert found no slot.
func (s *state) nearSeed(slot []int32) bool {
	y, experts := s.y, len(s.at)
	w := make([]float64, experts)
	order := make([]int32, experts)
	for e := range w {
		order[e] = int32(e)
		for k, a := range y.Share {
			w[e] += float64(a * y.Load[e*s.windows+k])
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(w[b], w[a]), cmp.Compare(a, b)) })
	room := make([]int, y.Nodes)
	for n := range room {
		if s.perNode[n] > 0 {
			room[n] = s.upTo[n+1] - s.upTo[n]
		}
	}
	count := make([][]int, experts) // of each expert's replicas on each node
	load := make([]float64, y.Nodes)
	for _, e := range order {
		count[e] = make([]int, y.Nodes)
		best := -1
		for n := range room {
			if room[n] > 0 && (best < 0 || load[n]*float64(s.perNode[best]) < load[best]*float64(s.perNode[n])) {
				best = n
			}
		}
		if best < 0 {
			return false
		}
		count[e][best]++
		room[best]--
		load[best] += w[e]
	}
	top := make([]float64, experts)
	for e := range top {
		top[e] = w[e] * s.nearTop(count[e])
	}
	for {
		e := 0
		for x := range top {
			if top[x] > top[e] {
				e = x
			}
		}
		if top[e] == 0 {
			break
		}
		best, least := -1, top[e]
		for n := range room {
			if room[n] == 0 || count[e][n] == s.perNode[n] {
				continue
			}
			count[e][n]++
			if x := w[e] * s.nearTop(count[e]); best < 0 || x < least {
				best, least = n, x
			}
			count[e][n]--
		}
		if best < 0 {
			top[e] = 0 // no more of it
			continue
		}
		count[e][best]++
		room[best]--
		top[e] = least
	}
	return s.nearPack(w, count, slot)
}

// nearTop is the share of an expert's tokens that its fullest replica gets, of so
// many on each node.
func (s *state) nearTop(count []int) float64 {
	all, away, n, top := s.y.GPUs(), 0, 0, 0
	for node, k := range count {
		n += k
		if k == 0 {
			away += s.perNode[node]
		} else {
			top = max(top, s.perNode[node]-k+1)
		}
	}
	return (float64(top) + float64(away)/float64(n)) / float64(all)
}

// nearPack puts replicas on GPUs, the largest first, each on that of its node which
// has least to do. The first replica of an expert on a node is its largest: others
// go to GPUs behind it as long as there is room.
func (s *state) nearPack(w []float64, count [][]int, slot []int32) bool {
	type item struct {
		e     int32
		node  int
		size  float64
		first bool
	}
	var items []item
	for e, row := range count {
		n, away := 0, 0
		for node, k := range row {
			n += k
			if k == 0 {
				away += s.perNode[node]
			}
		}
		for node, k := range row {
			for i := range k {
				x := 1 + float64(away)/float64(n)
				if i == 0 {
					x += float64(s.perNode[node] - k)
				}
				items = append(items, item{int32(e), node, w[e] * x / float64(s.y.GPUs()), i == 0})
			}
		}
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(b.size, a.size) })
	load := make([]float64, s.y.GPUs())
	fill := make([]int, s.y.GPUs())
	for _, x := range items {
		best, after := -1, false
		behind := false
		for g, n := range s.y.Node {
			if n != x.node {
				continue
			}
			mine := slot[s.y.First[g] : s.y.First[g]+fill[g]]
			if slices.Contains(mine, x.e) {
				behind = true
				continue
			}
			if s.y.First[g]+fill[g] == s.y.First[g+1] {
				continue
			}
			if best < 0 || behind && !after && !x.first || behind == after && load[g]*s.y.Speed[best] < load[best]*s.y.Speed[g] {
				best, after = g, behind && !x.first
			}
		}
		if best < 0 {
			return false
		}
		slot[s.y.First[best]+fill[best]] = x.e
		fill[best]++
		load[best] += x.size
	}
	for g := range fill {
		for i := s.y.First[g] + fill[g]; i < s.y.First[g+1]; i++ {
			slot[i] = -1
		}
	}
	return true
}
