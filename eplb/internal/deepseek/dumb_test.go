package deepseek_test

import "slices"

// dumbDeepSeek is the published algorithm for one layer once more, step by step
// with nothing clever in it: the expert and the replica rank in each slot.
func dumbDeepSeek(loads []float64, replicas, groups, nodes, gpus int) (expert, rank []int) {
	if groups%nodes != 0 {
		groups, nodes = 1, 1
	}
	size := len(loads) / groups
	var sums []float32
	for g := range groups {
		sums = append(sums, dumbSum(dumbFloat32(loads[g*size:(g+1)*size])))
	}
	for _, home := range dumbPack(sums, nodes) {
		var of []int
		for _, g := range home {
			for e := g * size; e < (g+1)*size; e++ {
				of = append(of, e)
			}
		}
		count := make([]int, len(loads))
		var ranks []int
		for _, e := range of {
			ranks = append(ranks, 0)
			count[e] = 1
		}
		own := slices.Clone(of)
		share := func(e int) float32 { return float32(loads[e]) / float32(count[e]) }
		for len(of) < replicas/nodes {
			top := own[0]
			for _, e := range own {
				if share(e) > share(top) {
					top = e
				}
			}
			of, ranks = append(of, top), append(ranks, count[top])
			count[top]++
		}
		var weight []float32
		for _, e := range of {
			weight = append(weight, share(e))
		}
		for _, gpu := range dumbPack(weight, gpus/nodes) {
			for _, i := range gpu {
				expert, rank = append(expert, of[i]), append(rank, ranks[i])
			}
		}
	}
	return expert, rank
}

func dumbFloat32(x []float64) (y []float32) {
	for _, v := range x {
		y = append(y, float32(v))
	}
	return y
}

// dumbPack lists the items of each pack.
func dumbPack(weight []float32, packs int) [][]int {
	list, sum := make([][]int, packs), make([]float32, packs)
	each := len(weight) / packs
	if each == 1 {
		for i := range list {
			list[i] = []int{i}
		}
		return list
	}
	for _, i := range dumbSort(weight) {
		to := -1
		for g := range list {
			if len(list[g]) < each && (to < 0 || sum[g] < sum[to]) {
				to = g
			}
		}
		list[to] = append(list[to], i)
		sum[to] += weight[i]
	}
	return list
}

// dumbSum adds up columns: from 8 numbers on 32 of them, else 4.
func dumbSum(x []float32) float32 {
	width := 1
	if len(x) >= 8 {
		width = 8
	}
	rows := len(x) / (4 * width)
	lane := make([]float32, 4*width)
	for c := range lane {
		var column []float32
		for r := range rows {
			column = append(column, x[r*4*width+c])
		}
		lane[c] = dumbLadder(column)
	}
	rest := x[rows*4*width:]
	for ; len(rest) >= width; rest = rest[width:] {
		for c := range width {
			lane[c] += rest[c]
		}
	}
	for c := width; c < 4*width; c++ {
		lane[c%width] += lane[c]
	}
	sum := dumbChain(rest)
	for _, v := range lane[:width] {
		sum += v
	}
	return sum
}

// dumbLadder adds sums of 256, then sums of 16, to what is left.
func dumbLadder(x []float32) float32 {
	var large, small float32
	for ; len(x) >= 256; x = x[256:] {
		var blocks float32
		for b := range 16 {
			blocks += dumbChain(x[16*b : 16*b+16])
		}
		large += blocks
	}
	for ; len(x) >= 16; x = x[16:] {
		small += dumbChain(x[:16])
	}
	return dumbChain(x) + small + large
}

func dumbChain(x []float32) (sum float32) {
	for _, v := range x {
		sum += v
	}
	return sum
}

// dumbSort is the order in which std::sort leaves items by falling weight.
func dumbSort(weight []float32) []int {
	order := make([]int, len(weight))
	for i := range order {
		order[i] = i
	}
	before := func(i, j int) bool { return weight[i] > weight[j] }
	depth := 0
	for n := len(order); n > 1; n /= 2 {
		depth += 2
	}
	var split func(a []int, depth int)
	split = func(a []int, depth int) {
		if len(a) <= 16 {
			return
		}
		if depth == 0 {
			dumbHeap(a, before)
			return
		}
		three := []int{1, len(a) / 2, len(a) - 1}
		x, y, z := a[three[0]], a[three[1]], a[three[2]]
		var m int
		if before(x, y) {
			if before(y, z) {
				m = 1
			} else if before(x, z) {
				m = 2
			}
		} else if !before(x, z) {
			m = 1
			if before(y, z) {
				m = 2
			}
		}
		a[0], a[three[m]] = a[three[m]], a[0]
		i, j := 1, len(a)-1
		for {
			for before(a[i], a[0]) {
				i++
			}
			for before(a[0], a[j]) {
				j--
			}
			if i >= j {
				break
			}
			a[i], a[j] = a[j], a[i]
			i++
			j--
		}
		split(a[i:], depth-1)
		split(a[:i], depth-1)
	}
	split(order, depth)
	slices.SortStableFunc(order, func(i, j int) int {
		switch {
		case before(i, j):
			return -1
		case before(j, i):
			return 1
		}
		return 0
	})
	return order
}

func dumbHeap(a []int, before func(i, j int) bool) {
	settle := func(n, hole, x int) {
		top := hole
		for 2*hole+1 < n {
			child := 2*hole + 1
			if child+1 < n && !before(a[child+1], a[child]) {
				child++
			}
			a[hole], hole = a[child], child
		}
		for hole > top && before(a[(hole-1)/2], x) {
			a[hole], hole = a[(hole-1)/2], (hole-1)/2
		}
		a[hole] = x
	}
	for i := len(a)/2 - 1; i >= 0; i-- {
		settle(len(a), i, a[i])
	}
	for n := len(a) - 1; n > 0; n-- {
		x := a[n]
		a[n] = a[0]
		settle(n, 0, x)
	}
}
