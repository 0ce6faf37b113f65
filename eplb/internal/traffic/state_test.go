package traffic

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/eplb/internal/search"
)

// testUnit has nodes of unlike GPUs in slots and speed.
func testUnit(rng *rand.Rand, nodes int) *Layer {
	first, node, speed := []int{0}, []int{}, []float64{}
	for n := range nodes {
		for range 1 + rng.IntN(3) {
			node = append(node, n)
			first = append(first, first[len(first)-1]+2+rng.IntN(3))
			speed = append(speed, []float64{1, 1, .5}[rng.IntN(3)])
		}
	}
	sum := 0.0
	for _, v := range speed {
		sum += v
	}
	for g := range speed {
		speed[g] *= float64(len(speed)) / sum
	}
	return unitOf(first, node, speed, nodes)
}

// unitOf is GPUs without a layer.
func unitOf(first, node []int, speed []float64, nodes int) *Layer {
	return &Layer{Task: search.Task{First: first, Node: node, Speed: speed}, Nodes: nodes}
}

// inForce makes a placement the one in force.
func (y *Layer) inForce(slot []int32) {
	y.Prev, y.Had = slices.Clone(slot), make([]uint64, y.GPUs()*y.Words())
	for g := range y.Node {
		for _, e := range slot[y.First[g]:y.First[g+1]] {
			y.Had[g*y.Words()+int(e>>6)] |= 1 << (e & 63)
		}
	}
}

// testLayer is a layer of u and a placement of it, every expert at least once and
// none twice on a GPU.
func testLayer(rng *rand.Rand, u *Layer, experts, windows, k, tokens int) (*Layer, []int32) {
	of := *u
	y := &of
	y.Experts, y.Load = experts, make([]float64, experts*windows)
	for w := range windows {
		row, sum := make([]float64, experts), 0.0
		for e := range row {
			row[e] = rng.ExpFloat64()
			sum += row[e]
		}
		for e := range row {
			y.Load[e*windows+w] = row[e] * (float64(len(u.Node)) / sum)
		}
		y.Even = append(y.Even, 1.1)
		y.Most = append(y.Most, 1e9)
		y.Share = append(y.Share, 1/float64(windows))
	}
	y.Tokens = &Tokens{K: k}
	for range tokens {
		lo := rng.IntN(2) * experts / 2 // two kinds of tokens
		for _, e := range rng.Perm(experts / 2)[:k] {
			y.Tokens.IDs = append(y.Tokens.IDs, uint16(lo+e))
		}
	}
	slot := make([]int32, u.Slots())
	for {
		left := rng.Perm(experts)
		ok := true
		for g := range u.Node {
			mine := slot[u.First[g]:u.First[g+1]]
			for i := range mine {
				mine[i] = -1
				if len(left) > 0 {
					mine[i], left = int32(left[0]), left[1:]
					continue
				}
				for range 50 {
					if e := int32(rng.IntN(experts)); !slices.Contains(mine[:i], e) {
						mine[i] = e
						break
					}
				}
				ok = ok && mine[i] >= 0
			}
		}
		if ok {
			return y, slot
		}
	}
}

// naive counts what a state judges changes by.
func naive(u *Layer, y *Layer, slot []int32) (over float64, total int64, moves, off int) {
	experts, windows := y.Experts, len(y.Share)
	on := make([]uint64, experts)
	for g, n := range u.Node {
		for i := u.First[g]; i < u.First[g+1]; i++ {
			e := slot[i]
			on[e] |= 1 << n
			if y.Prev != nil && !slices.Contains(y.Prev[u.First[g]:u.First[g+1]], e) {
				moves++
			}
			if y.Home != nil && y.Home[e] >= 0 && int(y.Home[e]) != n {
				off++
			}
		}
	}
	share := naiveShares(u, y, slot)
	for k := range windows {
		load := make([]float64, len(u.Node))
		for e := range experts {
			for g, x := range share[e] {
				load[g] += x * y.Load[e*windows+k]
			}
		}
		for g, x := range load {
			over += max(0, x/u.Speed[g]-y.Even[k]) / float64(windows)
		}
	}
	for i := range y.Tokens.Len() {
		if y.PerExpert {
			for _, e := range y.Tokens.of(int32(i)) {
				for _, n := range u.Node { // a token from each GPU
					if on[e]>>n&1 == 0 {
						total += int64(y.Tokens.weight(int32(i)))
					}
				}
			}
			continue
		}
		total += int64(fewest(y.Tokens.of(int32(i)), on, u.Nodes)) * int64(y.Tokens.weight(int32(i)))
	}
	return over, total, moves, off
}

// naiveShares is what each GPU gets of each expert's tokens.
func naiveShares(u *Layer, y *Layer, slot []int32) [][]float64 {
	share := make([][]float64, y.Experts)
	for e := range share {
		share[e] = make([]float64, len(u.Node))
		var at []int
		for g := range u.Node {
			if slices.Contains(slot[u.First[g]:u.First[g+1]], int32(e)) {
				at = append(at, g)
			}
		}
		for source, n := range u.Node { // what each GPU sends
			to := at
			if y.Nearest {
				near := slices.DeleteFunc(slices.Clone(at), func(g int) bool { return u.Node[g] != n })
				switch {
				case slices.Contains(at, source):
					to = []int{source}
				case len(near) > 0:
					to = near[:1]
				}
			}
			for _, g := range to {
				share[e][g] += 1 / float64(len(u.Node)) / float64(len(to))
			}
		}
	}
	return share
}

func TestStateAgainstCountingAnew(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 2))
		u := testUnit(rng, 2+rng.IntN(7))
		experts := max(6, u.Slots()*2/3)
		y, slot := testLayer(rng, u, experts, 1+rng.IntN(3), 3, 60+500*rng.IntN(2))
		if seed%2 == 0 { // in runs of four
			for i := range y.Tokens.IDs {
				y.Tokens.IDs[i] = y.Tokens.IDs[i/12*12+i%3]
			}
		}
		y.Nearest, y.PerExpert = rng.IntN(2) == 1, seed%5 == 0
		y.Moves, y.MovePrice = math.MaxInt, .01
		y.inForce(slot)
		if seed%3 == 0 {
			y.Tokens.Weight = make([]int64, y.Tokens.Len())
			for i := range y.Tokens.Weight {
				y.Tokens.Weight[i] = int64(rng.IntN(5))
			}
		}
		y.Home, y.MostOff = make([]int32, experts), math.MaxInt
		for e := range y.Home {
			y.Home[e] = int32(rng.IntN(u.Nodes+1)) - 1
		}
		anew := func(slot []int32) (over, price, nodes float64) {
			over, total, _, _ := naive(u, y, slot)
			price = riskPrice*naiveRisk(u, y, slot) - gpuPrice*naivePairs(u, y, slot)
			if nodes = float64(total) / weightOf(y.Tokens); y.PerExpert {
				nodes /= float64(len(u.Node))
			}
			return over, price + nodes, nodes
		}
		over, price, _ := anew(slot)
		s := newState(y, slot, 1, never)
		s.dear = dear
		changes, kept := 0, 0
		for range 300 {
			c := search.Change{A: int32(rng.IntN(len(slot))), B: -1, E: int32(rng.IntN(experts))}
			if rng.IntN(2) == 0 {
				c.B = int32(rng.IntN(len(slot)))
			}
			before := slices.Clone(s.Slots())
			if s.try(c, []float64{math.Inf(-1), .1 * rng.NormFloat64(), 1e9}[rng.IntN(3)]) {
				changes++
			} else if kept++; !slices.Equal(before, s.Slots()) {
				t.Fatalf("seed %d: %v was not taken back", seed, c)
			}
		}
		o, p, _ := anew(s.Slots())
		_, _, moves, off := naive(u, y, s.Slots())
		if want := p - price + dear*(o-over) + y.MovePrice*float64(moves); math.Abs(want-s.worth) > 1e-9 || moves != s.Moves() || off != s.Off() || changes < 20 || kept < 50 {
			t.Fatalf("seed %d after %d changes and %d not made: worth %v moves %d off %d, anew %v %d %d", seed, changes, kept, s.worth, s.Moves(), s.Off(), want, moves, off)
		}
		share := naiveShares(u, y, s.Slots())
		for k := range y.Share {
			for g, v := range u.Speed {
				load := 0.0
				for e := range experts {
					load += share[e][g] * y.Load[e*len(y.Share)+k]
				}
				if x := s.Level(int32(g))[k]; math.Abs(x-load/v) > 1e-9 {
					t.Fatalf("seed %d: GPU %d at %v, anew %v", seed, g, x, load/v)
				}
			}
		}
		for e, on := range s.on {
			for n := range u.Nodes {
				if here := slices.ContainsFunc(s.At(int32(e)), func(i int32) bool { return u.Node[s.GPU(i)] == n }); here != (on>>n&1 != 0) {
					t.Fatalf("seed %d: expert %d on nodes %b", seed, e, on)
				}
			}
		}
		if s.visits() {
			for i, n := range s.tokens.nodes {
				if want := fewest(y.Tokens.of(int32(i)), s.on, u.Nodes); int(n) != want {
					t.Fatalf("seed %d: token %d visits %d nodes, anew %d", seed, i, n, want)
				}
			}
		}
		for g := range u.Node {
			mine := slices.Clone(s.Slots()[u.First[g]:u.First[g+1]])
			slices.Sort(mine)
			if len(slices.Compact(mine)) != u.First[g+1]-u.First[g] {
				t.Fatalf("seed %d: GPU %d holds an expert twice", seed, g)
			}
		}
	}
}

func weightOf(t *Tokens) float64 {
	_, all := t.chosen(1 << 16)
	return all
}

// naivePairs is the mean pairs of a token's experts on one GPU, each replica by its
// share.
func naivePairs(u *Layer, y *Layer, slot []int32) float64 {
	share := naiveShares(u, y, slot)
	sum, weight := 0.0, 0.0
	for i := range int32(y.Tokens.Len()) {
		weight += y.Tokens.weight(i)
		for g := range u.Node {
			for x, a := range slot[u.First[g]:u.First[g+1]] {
				for _, b := range slot[u.First[g] : u.First[g]+x] {
					if token := y.Tokens.of(i); a != b && slices.Contains(token, uint16(a)) && slices.Contains(token, uint16(b)) {
						sum += y.Tokens.weight(i) * share[a][g] * share[b][g]
					}
				}
			}
		}
	}
	return sum / weight
}

// naiveRisk is the sum over GPUs of the variance of what a block of tokens loads
// them with, a token, block by block.
func naiveRisk(u *Layer, y *Layer, slot []int32) float64 {
	t := y.Tokens
	mean := meanOf(t, y.Experts)
	block := t.block(mean)
	share := naiveShares(u, y, slot)
	token, all := 0.0, 0.0 // what a token loads the GPU with, and their weight
	sum := 0.0
	for g := range u.Node {
		loads := make([]float64, t.Len())
		token, all = 0, 0
		for i := range loads {
			for _, e := range slot[u.First[g]:u.First[g+1]] {
				if slices.Contains(t.of(int32(i)), uint16(e)) {
					loads[i] += share[e][g]
				}
			}
			token += t.weight(int32(i)) * loads[i]
			all += t.weight(int32(i))
		}
		expect, square, blocks := token/all*float64(block), 0.0, 0.0
		for lo := 0; lo+block <= len(loads); lo += block {
			w, x := 1.0, 0.0
			if t.Weight != nil {
				w = t.weight(int32(lo))
			}
			for _, v := range loads[lo : lo+block] {
				x += v
			}
			blocks += w
			square += w * x * x
		}
		sum += (square/blocks - expect*expect) / float64(block)
	}
	each := float64(y.Tokens.K) / float64(len(u.Node))
	if t.Weight != nil {
		all = pairsLater
	}
	return sum / (each * each * max(all, leastLater))
}
