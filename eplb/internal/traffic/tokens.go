package traffic

import "slices"

// Tokens are the experts that tokens chose.
type Tokens struct {
	K      int
	IDs    []uint16 // [tokens][K], distinct within a token
	Weight []int64  // of each token; nil = 1
}

// Len is the number of tokens.
func (t *Tokens) Len() int { return len(t.IDs) / t.K }

func (t *Tokens) of(i int32) []uint16 { return t.IDs[int(i)*t.K : (int(i)+1)*t.K] }

func (t *Tokens) weight(i int32) int64 {
	if t.Weight == nil {
		return 1
	}
	return t.Weight[i]
}

// chosen is the weight of the tokens that choose each expert, and of all.
func (t *Tokens) chosen(experts int) (each []int64, all int64) {
	each = make([]int64, experts)
	for i := range int32(t.Len()) {
		w := t.weight(i)
		all += w
		for _, e := range t.of(i) {
			each[e] += w
		}
	}
	return each, all
}

// pairs is the weight of the tokens that choose both of two experts, [experts][experts],
// 0 of one and itself.
func (t *Tokens) pairs(experts int) []int64 {
	out := make([]int64, experts*experts)
	for i := range int32(t.Len()) {
		token, w := t.of(i), t.weight(i)
		for x, a := range token {
			for _, b := range token[:x] {
				out[int(a)*experts+int(b)] += w
				out[int(b)*experts+int(a)] += w
			}
		}
	}
	return out
}

// apart is tokens that visit one node more for every copy that leaves their node where
// experts are sent one each: each is of an expert and of another, after the last, that
// stands for a node the copies may come from. They come evenly from all GPUs.
func (t *Tokens) apart(experts int, gpus []int) *Tokens {
	each, _ := t.chosen(experts)
	out := &Tokens{K: 2}
	for node, n := range gpus {
		for e, w := range each {
			out.IDs = append(out.IDs, uint16(e), uint16(experts+node))
			out.Weight = append(out.Weight, w*int64(n))
		}
	}
	return out
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
	news    []visit // tokens that the change at hand changes
	chose   []int64 // weight of the tokens that chose each expert
	sum     int64   // by how much the change at hand changes total
	left    int64   // weight of the tokens of its experts that were not looked at yet
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
	v.nodes = make([]uint8, t.Len())
	v.chose, _ = t.chosen(experts)
	sum := int64(0)
	for _, w := range t.Weight {
		sum += w
		v.upTo = append(v.upTo, sum)
	}
	return v
}

// count counts all tokens anew.
func (v *visited) count() {
	v.total = 0
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
