// Package deepseek is the published algorithm (github.com/deepseek-ai/EPLB,
// rebalance_experts), array for array. Each layer: groups are packed onto nodes by
// the sum of their loads; within a node the next redundant expert is always the one
// of largest load/replicas; and the node's replicas are packed onto its GPUs.
// Arithmetic that decides is float32 throughout, added, sorted and packed in the
// published program's order:
//
//	deepseek    groups, replicas, packing
//	cascade     sums in the order of PyTorch's kernel
//	introsort   torch.sort, ties included
//	tournament  the first of many that change
package deepseek

import "math"

// Planner plans layers of one shape, one after another. Not safe for concurrent use.
// Cost a layer: O(experts + slots·log(experts·GPUs)).
// Positions number the experts node by node, in the order in which the groups were
// packed; within a node, replica i < its experts is the first copy of the expert at that
// position, the others follow in the order of their making.
type Planner struct {
	slots, gpus, nodes, groups int

	load   []float32 // of each expert
	expert []int32   // at each position
	weight []float32 // of the expert at each position
	count  []int32   // its replicas
	key    []uint64  // what is to be sorted or packed, see descending
	first  tournament
	packed []int32   // the item in each place of the packs
	next   []int32   // the next place of each pack
	of     []replica // of one node
	hot    []float64 // loads above the mean of a GPU
}

// replica is one copy: of the expert at a position of its node, the how manieth from 0.
type replica struct{ at, rank int32 }

// New is a planner for experts in groups, shared by nodes with equally many GPUs and
// slots. Nodes share the groups evenly, or there is one of both.
func New(experts, slots, groups, nodes, gpus int) *Planner {
	return &Planner{slots: slots, gpus: gpus, nodes: nodes, groups: groups,
		load: make([]float32, experts), weight: make([]float32, experts),
		expert: make([]int32, experts), count: make([]int32, experts),
		key: make([]uint64, slots), first: newTournament(max(experts, gpus)),
		packed: make([]int32, slots), next: make([]int32, gpus), of: make([]replica, slots/nodes), hot: make([]float64, 0, experts)}
}

// Plan fills in a layer's experts and replica ranks by slot, and returns its
// imbalance and a lower bound that leaves the groups aside: it counts replicas alone.
func (d *Planner) Plan(loads []float64, row, rank []int) (imbalance, bound float64) {
	for e, w := range loads {
		d.load[e] = float32(w)
	}
	d.packGroups()
	experts, slots, gpus := len(loads)/d.nodes, d.slots/d.nodes, d.gpus/d.nodes
	each := slots / gpus
	var total, most float64 // load of all GPUs, of the fullest
	for n := range d.nodes {
		at := n * experts
		expert, count := d.expert[at:at+experts], d.count[at:at+experts]
		d.replicate(d.weight[at:at+experts], count)
		if each > 1 {
			introsort(d.key[:slots])
		}
		d.pack(slots, gpus)
		for s := 0; s < slots; {
			load := 0.0
			for end := s + each; s < end; s++ {
				r := d.of[d.packed[s]]
				e := expert[r.at]
				row[n*slots+s], rank[n*slots+s] = int(e), int(r.rank)
				load += loads[e] / float64(count[r.at])
			}
			total += load
			most = max(most, load)
		}
	}
	if total == 0 {
		return 1, 1
	}
	imbalance = most * float64(d.gpus) / total
	return imbalance, min(imbalance, d.replicaBound(loads, total/float64(d.gpus)))
}

// bisections are enough to tell a bound to a part in 10⁹, of a mean that thousands of
// GPUs share.
const bisections = 44

// replicaBound is the level, in units of the mean, below which the slots do not
// suffice to cut every expert's load into replicas; 1 where it is less. To sort the loads,
// as other bounds want them, takes as long as all else.
func (d *Planner) replicaBound(loads []float64, mean float64) float64 {
	d.hot = d.hot[:0]
	high := mean
	for _, w := range loads {
		if w >= mean {
			d.hot = append(d.hot, w)
			high = max(high, w)
		}
	}
	scarce := func(level float64) bool { // for each replica to be below level
		left := d.slots - len(loads)
		for _, w := range d.hot {
			left -= int(w / level)
		}
		return left < 0
	}
	if mean == 0 || !scarce(mean) { // 0 of a load too small to be divided
		return 1
	}
	low := mean
	for range bisections {
		if mid := low + (high-low)/2; scarce(mid) {
			low = mid
		} else {
			high = mid
		}
	}
	return low / mean
}

// packGroups shares the groups over the nodes and so orders the experts.
func (d *Planner) packGroups() {
	size := len(d.load) / d.groups
	if d.groups > d.nodes {
		key := d.key[:d.groups]
		for g := range key {
			key[g] = descending(cascadeSum(d.load[g*size:(g+1)*size]), g)
		}
		introsort(key)
	}
	d.pack(d.groups, d.nodes)
	at := 0
	for _, g := range d.packed[:d.groups] {
		for e := int(g) * size; e < (int(g)+1)*size; e++ {
			d.expert[at], d.weight[at] = int32(e), d.load[e]
			at++
		}
	}
}

// replicate makes one node's replicas, in d.of, with their keys, in d.key.
func (d *Planner) replicate(weight []float32, count []int32) {
	t := &d.first
	for i, leaf := 0, t.start(len(weight)); i < len(leaf); i++ {
		leaf[i] = descending(weight[i], i)
		d.of[i], count[i] = replica{at: int32(i)}, 1
	}
	t.build()
	for i := len(weight); i < len(d.of); i++ {
		e := item(t.top())
		d.of[i] = replica{int32(e), count[e]}
		count[e]++
		t.set(e, descending(weight[e]/float32(count[e]), e))
	}
	for i, r := range d.of {
		d.key[i] = t.at(int(r.at))&^math.MaxUint32 | uint64(i)
	}
}

// pack deals the first n keys, sorted, into packs of equally many items: each
// goes to the lightest pack with room, the first of equals. It leaves the items
// of d.packed in the order of packs and of their coming. Packs of one item are
// taken as they come: item i in pack i.
func (d *Planner) pack(n, packs int) {
	each := n / packs
	if each == 1 {
		for i := range d.packed[:n] {
			d.packed[i] = int32(i)
		}
		return
	}
	t := &d.first
	for g, leaf := 0, t.start(packs); g < packs; g++ {
		leaf[g], d.next[g] = uint64(g), int32(g*each)
	}
	t.build()
	for _, k := range d.key[:n] {
		top := t.top()
		g := item(top)
		d.packed[d.next[g]] = int32(item(k))
		if d.next[g]++; d.next[g] == int32((g+1)*each) {
			t.set(g, math.MaxUint64)
			continue
		}
		sum := math.Float32frombits(uint32(top>>32)) + weightOf(k)
		t.set(g, uint64(math.Float32bits(sum))<<32|uint64(g))
	}
}

// descending is a key that sorts items by falling load, equal ones by number.
// Loads are ≥ 0, so their bits are in the order of their values; a -0 counts as 0.
func descending(load float32, item int) uint64 {
	return uint64(^(math.Float32bits(load)&math.MaxInt32))<<32 | uint64(item)
}

// item is the number in a key.
func item(key uint64) int { return int(uint32(key)) }

// weightOf is the load in a key made by descending.
func weightOf(key uint64) float32 { return math.Float32frombits(^uint32(key >> 32)) }
