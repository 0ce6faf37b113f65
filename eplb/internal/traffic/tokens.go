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
	on      []uint64 // nodes of each expert, the state's own
	first   []int32  // expert e is chosen by the tokens by[first[e]:first[e+1]]
	by      []int32
	upTo    []int64 // of tokens with weights: of a token and those before it
	nodes   []uint8 // of each token
	total   int64   // nodes of all tokens, by weight
	weight  int64   // of all tokens
	news    []visit // tokens that the change at hand changes
	chose   []int64 // weight of the tokens that chose each expert
	sum     int64   // by how much the change at hand changes total
	left    int64   // weight of the tokens of its experts that were not looked at yet
	// Where every expert's copy is sent apart: the GPUs of each node, and of all. What is
	// counted is then GPUs of nodes without a replica, and weight times all GPUs that of
	// all tokens.
	gpus []int
	all  int
}

// visit is a token and its nodes.
type visit struct {
	token int32
	nodes uint8
}

func newVisited(t *Tokens, nodes int, on []uint64) *visited {
	experts := len(on)
	v := &visited{t: t, counter: NewVisits(nodes), on: on, first: make([]int32, experts+1)}
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
	v.nodes, v.chose = make([]uint8, t.Len()), make([]int64, experts)
	for i := range v.nodes {
		w := t.weight(int32(i))
		for _, e := range t.of(int32(i)) {
			v.chose[e] += w
		}
		v.weight += w
		if t.Weight != nil {
			v.upTo = append(v.upTo, v.weight)
		}
	}
	return v
}

// apart has v count the copies that leave their node, one an expert, in place of nodes.
func (v *visited) apart(perNode []int, gpus int) { v.gpus, v.all = perNode, gpus }

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
	if v.gpus != nil {
		return float64(v.weight) * float64(v.all)
	}
	return float64(v.weight)
}

// count counts all tokens anew.
func (v *visited) count() {
	v.total = 0
	if v.gpus != nil {
		for e, n := range v.chose {
			v.total += n * v.without(v.on[e])
		}
		return
	}
	for i := range v.nodes {
		n := v.counter.Of(v.t.of(int32(i)), v.on)
		v.nodes[i] = uint8(n)
		v.total += int64(n) * v.t.weight(int32(i))
	}
}

// weigh returns by how much a change changes the nodes of all tokens; of one that adds
// more than most it only says so.
func (v *visited) weigh(change *[2]recast, most int64) int64 {
	v.news, v.sum, v.left = v.news[:0], 0, 0
	a, b := &change[0], &change[1]
	oldA, oldB := v.on[a.e], v.on[b.e]
	if v.gpus != nil {
		v.sum = v.chose[a.e]*(v.without(a.on)-v.without(oldA)) + v.chose[b.e]*(v.without(b.on)-v.without(oldB))
		return v.sum
	}
	v.on[a.e], v.on[b.e] = a.on, b.on
	skip := int32(-1)
	if oldB != b.on {
		v.left = v.chose[b.e]
	}
	if oldA != a.on {
		v.left += v.chose[a.e]
		v.weighOf(a.e, -1, most)
		skip = a.e
	}
	if oldB != b.on {
		v.weighOf(b.e, skip, most)
	}
	v.on[a.e], v.on[b.e] = oldA, oldB
	return v.sum - v.left
}

// weighOf weighs the tokens of expert e but those that chose skip too. A token may be
// rid of one node for each expert that moves: it ends where not even that is enough.
func (v *visited) weighOf(e, skip int32, most int64) {
	for _, i := range v.by[v.first[e]:v.first[e+1]] {
		if v.sum-v.left > most {
			return
		}
		token, w := v.t.of(i), v.t.weight(i)
		v.left -= w
		if n := v.counter.Of(token, v.on); n != int(v.nodes[i]) && (skip < 0 || !slices.Contains(token, uint16(skip))) {
			v.sum += int64(n-int(v.nodes[i])) * w
			v.news = append(v.news, visit{i, uint8(n)})
		}
	}
}

// apply makes the change that was weighed.
func (v *visited) apply() {
	for _, n := range v.news {
		v.nodes[n.token] = n.nodes
	}
	v.total += v.sum
}
