package traffic

import (
	"math/bits"
	"slices"
)

// visited keeps count of the nodes that tokens visit while experts change places.
type visited struct {
	*Tokens
	counter *Visits
	on      []uint64  // nodes of each expert
	by      [][]int32 // tokens that chose each expert
	chose   []int64   // and their weight
	upTo    []int64   // weight of a token and those before it
	nodes   []uint8   // of each token
	total   int64     // nodes of all tokens, by weight
}

func newVisited(t *Tokens, nodes int, on []uint64) *visited {
	v := &visited{Tokens: t, counter: NewVisits(nodes), on: on, by: make([][]int32, len(on)), nodes: make([]uint8, t.Len())}
	v.chose, _ = t.chosen(len(on))
	sum := int64(0)
	for i := range int32(t.Len()) {
		sum += t.weight(i)
		v.upTo = append(v.upTo, sum)
		for _, e := range t.of(i) {
			v.by[e] = append(v.by[e], i)
		}
	}
	return v
}

// any is a token by weight, of random bits.
func (v *visited) any(random uint64) int32 {
	if v.Weight == nil {
		return int32(random >> 32 * uint64(v.Len()) >> 32)
	}
	x, _ := bits.Mul64(random, uint64(v.upTo[len(v.upTo)-1]))
	i, _ := slices.BinarySearch(v.upTo, int64(x)+1)
	return int32(i)
}

// count counts the tokens of expert e anew.
func (v *visited) count(e int32) {
	for _, i := range v.by[e] {
		n := v.counter.Of(v.of(i), v.on)
		v.total += int64(n-int(v.nodes[i])) * v.weight(i)
		v.nodes[i] = uint8(n)
	}
}

// weigh returns by how much a change would change the nodes of all tokens; of one that
// adds more than most it only says so. A token may be rid of one node for each expert
// that moves: it ends where not even that is enough.
func (v *visited) weigh(change *[2]recast, most int64) (more int64) {
	left := int64(0) // weight of the tokens that were not looked at yet
	for i := range change {
		c := &change[i]
		if v.on[c.e], c.on = c.on, v.on[c.e]; v.on[c.e] != c.on {
			left += v.chose[c.e]
		}
	}
	first := int32(-1) // whose tokens were looked at
	for _, c := range change {
		if v.on[c.e] == c.on {
			continue
		}
		for _, i := range v.by[c.e] {
			if more-left > most {
				break
			}
			token, w := v.of(i), v.weight(i)
			left -= w
			if n := v.counter.Of(token, v.on); n != int(v.nodes[i]) && (first < 0 || !slices.Contains(token, uint16(first))) {
				more += int64(n-int(v.nodes[i])) * w
			}
		}
		first = c.e
	}
	for i := range change {
		c := &change[i]
		v.on[c.e], c.on = c.on, v.on[c.e]
	}
	return more - left
}
