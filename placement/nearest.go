package placement

// ScoreNearest is ScoreLayers where every GPU sends all its tokens of an expert
// to one replica: its own; else the first, of the lowest slot, on its node; else
// they are spread evenly over all GPUs that have one. Tokens come evenly from all
// GPUs in service. This is what SGLang's static dispatch does, whose choice among
// far replicas is random, but fair. t says which GPUs share a node.
func (p *Placement) ScoreNearest(loads Loads, t Topology) ([]Score, error) {
	return p.score(loads, t, true)
}

// near computes where the tokens of one layer go.
type near struct {
	node  []int   // of each GPU
	alive []int   // GPUs in service of each node
	all   int     // in all
	at    [][]int // GPUs of each expert, ascending
}

// newNear is nil unless it is wanted.
func newNear(p *Placement, t *Topology, wanted bool) *near {
	if !wanted {
		return nil
	}
	n := &near{node: make([]int, p.GPUs), alive: make([]int, t.NodeCount()), at: make([][]int, p.Experts)}
	for g := range n.node {
		n.node[g] = t.Node(g)
		if t.SpeedOf(g) > 0 {
			n.alive[n.node[g]]++
			n.all++
		}
	}
	return n
}

// add says that expert e is on GPU g; GPUs come in ascending order.
func (n *near) add(e, g int) {
	if k := len(n.at[e]); k == 0 || n.at[e][k-1] != g {
		n.at[e] = append(n.at[e], g)
	}
}

// load adds the loads of the experts to those of their GPUs, and forgets where
// they are.
func (n *near) load(gpu, loads []float64) {
	for e, at := range n.at {
		each := loads[e] / float64(n.all) // what a GPU sends
		away := n.all
		for i := 0; i < len(at); {
			node := n.node[at[i]]
			j := i
			for ; j < len(at) && n.node[at[j]] == node; j++ {
				gpu[at[j]] += each
			}
			gpu[at[i]] += float64(each * float64(n.alive[node]-(j-i)))
			away -= n.alive[node]
			i = j
		}
		for _, g := range at {
			gpu[g] += float64(each * float64(away) / float64(len(at)))
		}
		n.at[e] = at[:0]
	}
}
