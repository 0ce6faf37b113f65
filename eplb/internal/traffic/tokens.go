package traffic

import (
	"math/bits"
	"slices"
)

// Tokens are the experts that tokens chose.
type Tokens struct {
	K      int
	IDs    []uint16 // [tokens][K], distinct within a token
	Weight []int32  // of each token; nil = 1
}

// Len is the number of tokens.
func (t *Tokens) Len() int { return len(t.IDs) / t.K }

func (t *Tokens) of(i int32) []uint16 { return t.IDs[int(i)*t.K : (int(i)+1)*t.K] }

func (t *Tokens) weight(i int32) int64 {
	if t.Weight == nil {
		return 1
	}
	return int64(t.Weight[i])
}

// visited keeps count of the nodes that tokens visit while experts change places.
type visited struct {
	t       *Tokens
	counter *Visits
	on      []uint64 // of each expert: its nodes or, of few, the sets that meet them
	first   []int32  // expert e is chosen by the tokens by[first[e]:first[e+1]]
	by      []int32
	upTo    []int64 // of tokens with weights: of a token and those before it
	nodes   []uint8 // of each token
	total   int64   // nodes of all tokens, by weight
	weight  int64   // of all tokens
	news    []visit // tokens that the change at hand changes
	// Where every expert's copy is sent apart: how many chose each expert, and the GPUs
	// of each node. What is counted is then GPUs of nodes without a replica, and weight
	// times all GPUs that of all tokens.
	chose []int64
	gpus  []int
	all   int
	sum   int64 // and by how much
}

// visit is a token and its nodes.
type visit struct {
	token int32
	nodes uint8
}

func newVisited(t *Tokens, nodes, experts int) *visited {
	v := &visited{t: t, counter: NewVisits(nodes), on: make([]uint64, experts), first: make([]int32, experts+1)}
	for _, e := range t.IDs {
		v.first[e+1]++
	}
	for e := range experts {
		v.first[e+1] += v.first[e]
	}
	v.by = make([]int32, len(t.IDs))
	next := slices.Clone(v.first)
	for i, e := range t.IDs {
		v.by[next[e]] = int32(i / t.K)
		next[e]++
	}
	v.nodes = make([]uint8, t.Len())
	for i := range v.nodes {
		v.weight += t.weight(int32(i))
		if t.Weight != nil {
			v.upTo = append(v.upTo, v.weight)
		}
	}
	return v
}

// apart has v count the copies that leave their node, one an expert, in place of nodes.
func (v *visited) apart(perNode []int, gpus int) {
	v.chose, v.gpus, v.all = make([]int64, len(v.on)), perNode, gpus
	for e := range v.chose {
		for _, i := range v.by[v.first[e]:v.first[e+1]] {
			v.chose[e] += v.t.weight(i)
		}
	}
}

// without is the GPUs of nodes that are not among on.
func (v *visited) without(on uint64) int64 {
	n := v.all
	for ; on != 0; on &= on - 1 {
		n -= v.gpus[bits.TrailingZeros64(on)]
	}
	return int64(n)
}

// one is how much of what is counted is one node, or one copy, a token.
func (v *visited) one() float64 {
	if v.chose != nil {
		return float64(v.weight) * float64(v.all)
	}
	return float64(v.weight)
}

// key is a set of nodes as counting wants it.
func (v *visited) key(on uint64) uint64 {
	if v.counter.hits == nil || v.chose != nil {
		return on
	}
	return v.counter.hits[on]
}

// count counts all tokens anew.
func (v *visited) count(on []uint64) {
	for e, m := range on {
		v.on[e] = v.key(m)
	}
	v.total = 0
	if v.chose != nil {
		for e, n := range v.chose {
			v.total += n * v.without(on[e])
		}
		return
	}
	for i := range v.nodes {
		n := v.at(v.t.of(int32(i)))
		v.nodes[i] = uint8(n)
		v.total += int64(n) * v.t.weight(int32(i))
	}
}

// at is the nodes of one token.
func (v *visited) at(token []uint16) int {
	if v.counter.hits == nil {
		return v.counter.Of(token, v.on)
	}
	sets := ^uint64(0)
	for _, e := range token {
		sets &= v.on[e]
	}
	return v.counter.smallest(sets)
}

// weigh returns by how much a change changes the nodes of all tokens.
func (v *visited) weigh(change *[2]recast) int64 {
	v.news, v.sum = v.news[:0], 0
	a, b := &change[0], &change[1]
	oldA, oldB, newA, newB := v.on[a.e], v.on[b.e], v.key(a.on), v.key(b.on)
	if oldA == newA && oldB == newB {
		return 0
	}
	if v.chose != nil {
		v.sum = v.chose[a.e]*(v.without(newA)-v.without(oldA)) + v.chose[b.e]*(v.without(newB)-v.without(oldB))
		return v.sum
	}
	v.on[a.e], v.on[b.e] = newA, newB
	if oldA != newA {
		v.weighOf(a.e, -1)
	}
	if oldB != newB {
		skip := int32(-1)
		if oldA != newA {
			skip = a.e
		}
		v.weighOf(b.e, skip)
	}
	v.on[a.e], v.on[b.e] = oldA, oldB
	return v.sum
}

// weighOf weighs the tokens of expert e but those that chose skip too.
func (v *visited) weighOf(e, skip int32) {
	for _, i := range v.by[v.first[e]:v.first[e+1]] {
		token := v.t.of(i)
		if n := v.at(token); n != int(v.nodes[i]) && (skip < 0 || !slices.Contains(token, uint16(skip))) {
			v.sum += int64(n-int(v.nodes[i])) * v.t.weight(i)
			v.news = append(v.news, visit{i, uint8(n)})
		}
	}
}

// most bounds by how much a change can lessen the nodes of all tokens: a token
// may be rid of one node for each expert that moves.
func (v *visited) most(change *[2]recast) int64 {
	a, b := change[0].e, change[1].e
	n := int64(v.first[a+1] - v.first[a] + v.first[b+1] - v.first[b])
	if v.chose != nil {
		n *= int64(v.all)
	}
	return n
}

// apply makes the change that was weighed.
func (v *visited) apply(change *[2]recast) {
	for i := range change {
		v.on[change[i].e] = v.key(change[i].on)
	}
	for _, n := range v.news {
		v.nodes[n.token] = n.nodes
	}
	v.total += v.sum
}
