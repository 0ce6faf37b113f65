// Package deepseek is the published algorithm (github.com/deepseek-ai/EPLB,
// rebalance_experts), array for array. Each layer: groups are packed onto nodes by
// the sum of their loads; within a node the next redundant expert is always the one
// of largest load/replicas; and the node's replicas are packed onto its GPUs.
// Arithmetic that decides is float32 throughout, added, sorted and packed in the
// published program's order:
//
//	deepseek    groups, replicas, packing, a report
//	cascade     sums in the order of PyTorch's kernel
//	introsort   torch.sort, ties included
//	tournament  the first of many that change
package deepseek

import "math"

// Planner plans layers of one shape, one after another. Not safe for concurrent use.
// Cost a layer: O(experts + slots·log(experts·GPUs)).
// Positions number the experts node by
// node, in the order in which the groups were packed; within a node, replica i
// < its experts is the first copy of the expert at that position, the others
// follow in the order of their making.
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
	hot    []float64 // loads above the mean of a GPU
	of     []replica // of one node
}

// replica is one copy: whose, the how manieth from 0, and its share of the load.
type replica struct {
	expert, rank int32
	share        float64
}

// New is a planner for experts in groups, shared by nodes with equally many GPUs and
// slots. Nodes share the groups evenly, or there is one of both.
func New(experts, slots, groups, nodes, gpus int) *Planner {
	d := &Planner{slots: slots, gpus: gpus, nodes: nodes, groups: groups}
	floats, ints := make([]float32, 2*experts), make([]int32, 2*experts+d.slots+d.gpus)
	d.load, d.weight = floats[:experts], floats[experts:]
	d.expert, d.count, ints = ints[:experts], ints[experts:2*experts], ints[2*experts:]
	d.packed, d.next = ints[:d.slots], ints[d.slots:]
	d.key = make([]uint64, d.slots)
	d.first = newTournament(max(experts, d.gpus))
	d.of = make([]replica, d.slots/d.nodes)
	d.hot = make([]float64, 0, experts)
	return d
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
		d.replicate(loads, d.expert[at:at+experts], d.weight[at:at+experts], d.count[at:at+experts])
		if each > 1 {
			introsort(d.key[:slots])
		}
		d.pack(slots, gpus)
		for s := 0; s < slots; {
			load := 0.0
			for end := s + each; s < end; s++ {
				r := &d.of[d.packed[s]]
				row[n*slots+s], rank[n*slots+s] = int(r.expert), int(r.rank)
				load += r.share
			}
			total += load
			if load > most {
				most = load
			}
		}
	}
	return d.report(loads, total, most)
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
func (d *Planner) replicate(loads []float64, expert []int32, weight []float32, count []int32) {
	of, key := d.of, d.key[:len(d.of)]
	for i, w := range weight {
		key[i] = descending(w, i)
		count[i] = 1
		e := expert[i]
		of[i] = replica{expert: e, share: loads[e]}
	}
	n := len(weight)
	if len(of) == n {
		return
	}
	t := &d.first
	copy(t.start(n), key[:n])
	t.build()
	for i := n; i < len(of); i++ {
		e := item(t.top())
		of[i] = replica{expert: int32(e), rank: count[e]} // e is a position until the end
		count[e]++
		t.set(e, descending(weight[e]/float32(count[e]), e))
	}
	for i := n; i < len(of); i++ {
		e := int(of[i].expert)
		share := loads[expert[e]] / float64(count[e])
		of[e].share = share
		of[i].expert, of[i].share = expert[e], share
		key[e] = t.at(e)
		key[i] = key[e]&^math.MaxUint32 | uint64(i)
	}
}

// pack deals the first n keys, sorted, into packs of equally many items: each
// goes to the lightest pack with room, the first of equals. It leaves the items
// of d.packed in the order of packs and of their coming. Packs of one item are
// taken as they come: item i in pack i.
func (d *Planner) pack(n, packs int) {
	each := n / packs
	packed := d.packed[:n]
	if each == 1 {
		for i := range packed {
			packed[i] = int32(i)
		}
		return
	}
	key := d.key[:n]
	t := &d.first
	leaf := t.start(packs)
	next := d.next[:packs]
	for g := range leaf {
		leaf[g] = uint64(g)
		next[g] = int32(g * each)
	}
	t.build()
	for _, k := range key {
		top := t.top()
		g := item(top)
		packed[next[g]] = int32(item(k))
		next[g]++
		if next[g] == int32((g+1)*each) {
			t.set(g, math.MaxUint64)
			continue
		}
		sum := math.Float32frombits(uint32(top>>32)) + weightOf(k)
		t.set(g, uint64(math.Float32bits(sum))<<32|uint64(g))
	}
}

// report measures the layer just planned.
func (d *Planner) report(loads []float64, total, most float64) (imbalance, bound float64) {
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
// suffice to cut every expert's load into replicas; 1 where it is less.
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

// descending is a key that sorts items by falling load, equal ones by number.
// Loads are ≥ 0, so their bits are in the order of their values; a -0 counts as 0.
func descending(load float32, item int) uint64 {
	return uint64(^(math.Float32bits(load)&math.MaxInt32))<<32 | uint64(item)
}

// item is the number in a key.
func item(key uint64) int { return int(uint32(key)) }

// weightOf is the load in a key made by descending.
func weightOf(key uint64) float32 { return math.Float32frombits(^uint32(key >> 32)) }
