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
	u, experts := s.u, len(s.at)
	w := make([]float64, experts)
	order := make([]int32, experts)
	for e := range w {
		order[e] = int32(e)
		for k, row := range s.y.Loads {
			w[e] += float64(s.y.Weight[k] * row[e])
		}
	}
	slices.SortFunc(order, func(a, b int32) int { return cmp.Or(cmp.Compare(w[b], w[a]), cmp.Compare(a, b)) })
	room := make([]int, u.Nodes)
	for n := range room {
		if u.perNode[n] > 0 {
			room[n] = u.slots[n+1] - u.slots[n]
		}
	}
	count := make([][]int, experts) // of each expert's replicas on each node
	load := make([]float64, u.Nodes)
	for _, e := range order {
		count[e] = make([]int, u.Nodes)
		best := -1
		for n := range room {
			if room[n] > 0 && (best < 0 || load[n]*float64(u.perNode[best]) < load[best]*float64(u.perNode[n])) {
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
		top[e] = w[e] * u.nearTop(count[e])
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
			if room[n] == 0 || count[e][n] == u.perNode[n] {
				continue
			}
			count[e][n]++
			if x := w[e] * u.nearTop(count[e]); best < 0 || x < least {
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
	return u.nearPack(w, count, slot)
}

// nearTop is the share of an expert's tokens that its fullest replica gets, of so
// many on each node.
func (u *Unit) nearTop(count []int) float64 {
	all, away, n, top := len(u.Node), 0, 0, 0
	for node, k := range count {
		n += k
		if k == 0 {
			away += u.perNode[node]
		} else {
			top = max(top, u.perNode[node]-k+1)
		}
	}
	return (float64(top) + float64(away)/float64(n)) / float64(all)
}

// nearPack puts replicas on GPUs, the largest first, each on that of its node which
// has least to do. The first replica of an expert on a node is its largest: others
// go to GPUs behind it as long as there is room.
func (u *Unit) nearPack(w []float64, count [][]int, slot []int32) bool {
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
				away += u.perNode[node]
			}
		}
		for node, k := range row {
			for i := range k {
				x := 1 + float64(away)/float64(n)
				if i == 0 {
					x += float64(u.perNode[node] - k)
				}
				items = append(items, item{int32(e), node, w[e] * x / float64(len(u.Node)), i == 0})
			}
		}
	}
	slices.SortStableFunc(items, func(a, b item) int { return cmp.Compare(b.size, a.size) })
	load := make([]float64, len(u.Node))
	fill := make([]int, len(u.Node))
	for _, x := range items {
		best, after := -1, false
		behind := false
		for g, n := range u.Node {
			if n != x.node {
				continue
			}
			mine := slot[u.First[g] : u.First[g]+fill[g]]
			if slices.Contains(mine, x.e) {
				behind = true
				continue
			}
			if u.First[g]+fill[g] == u.First[g+1] {
				continue
			}
			if best < 0 || behind && !after && !x.first || behind == after && load[g]*u.Speed[best] < load[best]*u.Speed[g] {
				best, after = g, behind && !x.first
			}
		}
		if best < 0 {
			return false
		}
		slot[u.First[best]+fill[best]] = x.e
		fill[best]++
		load[best] += x.size
	}
	for g := range fill {
		for i := u.First[g] + fill[g]; i < u.First[g+1]; i++ {
			slot[i] = -1
		}
	}
	return true
}
