package traffic

import "slices"

// visited keeps count of the nodes that tokens visit while experts change places.
type visited struct {
	*Tokens
	counter *Visits
	on      []uint64  // nodes of each expert
	by      [][]int32 // tokens that chose each expert
	chose   []float64 // and their weight
	upTo    []float64 // weight of a token and those before it
	all     float64   // of all
	first   []int32   // of equal parts of all, as many as there are tokens: the token that each begins in
	nodes   []uint8   // of each token
}

func newVisited(t *Tokens, nodes int, on []uint64) *visited {
	v := &visited{Tokens: t, counter: NewVisits(nodes), on: on, by: make([][]int32, len(on)), nodes: make([]uint8, t.Len())}
	v.chose, _ = t.chosen(len(on))
	for i := range int32(t.Len()) {
		v.all += t.weight(i)
		v.upTo = append(v.upTo, v.all)
		for _, e := range t.of(i) {
			v.by[e] = append(v.by[e], i)
		}
	}
	i := int32(0)
	for k := range v.upTo {
		for v.upTo[i] < float64(k)/float64(len(v.upTo))*v.all {
			i++
		}
		v.first = append(v.first, i)
	}
	return v
}

// any is a token by weight, of random bits.
func (v *visited) any(random uint64) int32 {
	if v.Weight == nil {
		return int32(random >> 32 * uint64(v.Len()) >> 32)
	}
	at := float64(random>>11) / (1 << 53)
	i := v.first[int(at*float64(len(v.first)))]
	for v.upTo[i] < at*v.all {
		i++
	}
	return i
}

// count counts the nodes of token i anew.
func (v *visited) count(i int32) { v.nodes[i] = uint8(v.counter.Of(v.of(i), v.on)) }

// weigh returns by how much tokens visit more nodes, a token, than were counted before two
// experts came from nodes where they were; of what is more than most it only says so. A
// token may be rid of one node for each expert that moves: it ends where not even that is
// enough.
func (v *visited) weigh(moved [2]int32, was [2]uint64, most float64) float64 {
	limit, more, left := most*v.all+1, 0.0, 0.0 // whatever rounding does
	for k, e := range moved {
		if v.on[e] != was[k] {
			left += v.chose[e] // weight of the tokens that were not looked at yet
		}
	}
	first := -1 // whose tokens were looked at
	for k, e := range moved {
		if v.on[e] == was[k] {
			continue
		}
		for _, i := range v.by[e] {
			if more-left > limit {
				break
			}
			token, w := v.of(i), v.weight(i)
			left -= w
			if n := v.counter.Of(token, v.on); n != int(v.nodes[i]) && (first < 0 || !slices.Contains(token, uint16(first))) {
				more += float64(n-int(v.nodes[i])) * w
			}
		}
		first = int(e)
	}
	return (more - left) / v.all
}

// recount counts the tokens of expert e anew.
func (v *visited) recount(e int32) {
	for _, i := range v.by[e] {
		v.count(i)
	}
}
