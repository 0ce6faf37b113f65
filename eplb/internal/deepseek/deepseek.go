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

import (
	"math"
	"math/bits"
)

// Planner plans layers of one shape, one after another. Not safe for concurrent use.
// Cost a layer: O(experts + slots·log(experts·GPUs)).
// Positions number the experts node by node, in the order in which the groups were
// packed; within a node, replica i < its experts is the first copy of the expert at that
// position, the others follow in the order of their making.
type Planner struct {
	slots, gpus, nodes, groups int

	load   []float32  // of each expert
	expert []int32    // at each position
	weight []float32  // of the expert at each position
	count  []int32    // its replicas
	key    []uint64   // what is to be sorted or packed, see descending
	first  tournament // memory
	packed []int32    // the item in each place of the packs
	next   []int32    // the next place of each pack
	of     []replica  // of one node
}

// replica is one copy: of the expert at a position of its node, the how manieth from 0.
type replica struct{ at, rank int32 }

// New is a planner for experts in groups, shared by nodes with equally many GPUs and
// slots. Nodes share the groups evenly, or there is one of both.
func New(experts, slots, groups, nodes, gpus int) *Planner {
	return &Planner{slots: slots, gpus: gpus, nodes: nodes, groups: groups,
		load: make([]float32, experts), weight: make([]float32, experts),
		expert: make([]int32, experts), count: make([]int32, experts),
		key: make([]uint64, slots), first: make(tournament, 2<<bits.Len(uint(max(experts, gpus)-1))),
		packed: make([]int32, slots), next: make([]int32, gpus), of: make([]replica, slots)}
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
		d.replicate(d.weight[at:at+experts], count, d.of[:slots])
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

// replicaBound is the level, in units of the mean, below which the slots do not
// suffice to cut every expert's load into replicas; 1 where it is less.
func (d *Planner) replicaBound(loads []float64, mean float64) float64 {
	d.apportion(d.load, d.count, d.of[:d.slots-len(loads)])
	// Below the largest replica that expert needs one more; below what one replica less
	// would make of any, as many as it has.
	largest, less := 0.0, math.Inf(1)
	for e, w := range loads {
		if n := float64(d.count[e]); n > 1 {
			w, less = w/n, min(less, w/(n-1))
		}
		largest = max(largest, w)
	}
	if mean == 0 { // of a load too small to be divided
		return 1
	}
	return max(1, min(largest, less)/mean)
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

// apportion counts the replicas of experts, and lists those beyond the first of each: the
// next is one of the expert of largest load/replicas, the first of equals.
func (d *Planner) apportion(weight []float32, count []int32, more []replica) {
	t, key := d.first.start(len(weight))
	for e, w := range weight {
		key[e], count[e] = descending(w, e), 1
	}
	t.build()
	for i := range more {
		e := item(t[1])
		more[i] = replica{int32(e), count[e]}
		count[e]++
		t.set(e, descending(weight[e]/float32(count[e]), e))
	}
}

// replicate makes one node's replicas, in of, with their keys, in d.key.
func (d *Planner) replicate(weight []float32, count []int32, of []replica) {
	d.apportion(weight, count, of[len(weight):])
	for i := range weight {
		of[i] = replica{at: int32(i)}
	}
	for i, r := range of {
		d.key[i] = descending(weight[r.at]/float32(count[r.at]), i)
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
	t, key := d.first.start(packs)
	for g := range key {
		key[g], d.next[g] = uint64(g), int32(g*each)
	}
	t.build()
	for _, k := range d.key[:n] {
		top := t[1]
		g := item(top)
		d.packed[d.next[g]] = int32(item(k))
		next := uint64(math.MaxUint64) // full
		if d.next[g]++; d.next[g] < int32((g+1)*each) {
			sum := math.Float32frombits(uint32(top>>32)) + weightOf(k)
			next = uint64(math.Float32bits(sum))<<32 | uint64(g)
		}
		t.set(g, next)
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
