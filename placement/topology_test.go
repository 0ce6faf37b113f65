package placement

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// Node, Domain and FirstGPUs agree with a plain count, for nodes of any sizes.
func TestNodesAndDomains(t *testing.T) {
	const seed = 8
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 300 {
		var of []int
		top := Topology{NodeGPUs: []int{}}
		for node := range 1 + rng.IntN(5) {
			k := 1 + rng.IntN(4)
			top.NodeGPUs = append(top.NodeGPUs, k)
			for range k {
				of = append(of, node)
			}
		}
		top.GPUs = len(of)
		if rng.IntN(2) == 0 {
			top.DomainGPUs = []int{}
			for left := top.GPUs; left > 0; left -= top.DomainGPUs[len(top.DomainGPUs)-1] {
				top.DomainGPUs = append(top.DomainGPUs, 1+rng.IntN(left))
			}
		}
		if err := top.Validate(); err != nil {
			t.Fatalf("seed %d, case %d: %v", seed, n, err)
		}
		first := top.FirstGPUs()
		for g, want := range of {
			if top.Node(g) != want || g < first[want] || g >= first[want+1] {
				t.Fatalf("seed %d, case %d: GPU %d of %v is on node %d, not %d (%v)", seed, n, g, top.NodeGPUs, top.Node(g), want, first)
			}
			domain, left := 0, g
			if top.DomainGPUs == nil {
				domain = want
			} else {
				for left >= top.DomainGPUs[domain] {
					left -= top.DomainGPUs[domain]
					domain++
				}
			}
			if top.Domain(g) != domain {
				t.Fatalf("seed %d, case %d: GPU %d of %v is in domain %d, not %d", seed, n, g, top.DomainGPUs, top.Domain(g), domain)
			}
		}
	}
	even := Topology{GPUs: 12, Nodes: 3}
	if got := fmt.Sprint(even.Node(3), even.Node(4), even.Node(11), even.FirstGPUs(), even.Domain(8), even.DomainCount(), even.EvenNodes()); got != "0 1 2 [0 4 8 12] 2 3 true" {
		t.Error(got)
	}
	if (&Topology{GPUs: 5, NodeGPUs: []int{2, 3}}).EvenNodes() {
		t.Error("2 and 3 are even")
	}
}

func TestTopologyValidate(t *testing.T) {
	for _, c := range []struct {
		name string
		t    Topology
		kind error
		want string
	}{
		{"nodes too large", Topology{GPUs: 20, NodeGPUs: []int{8, 8, 8}}, ErrShape, "gpus_per_node: index 2: 8: the nodes add up to more than the 20 GPUs"},
		{"nodes too small", Topology{GPUs: 20, NodeGPUs: []int{8, 8}}, ErrShape, "gpus_per_node: they add up to 16 GPUs, but there are 20"},
		{"a node of no GPU", Topology{GPUs: 20, NodeGPUs: []int{20, 0}}, ErrValue, "gpus_per_node: index 1: 0"},
		{"nodes of nothing", Topology{GPUs: 20, NodeGPUs: []int{}}, ErrShape, "gpus_per_node: they add up to 0"},
		{"nodes that overflow", Topology{GPUs: 20, NodeGPUs: []int{1 << 30, 1 << 30}}, ErrShape, "gpus_per_node: index 0"},
		{"two numbers of nodes", Topology{GPUs: 2, Nodes: 1, NodeGPUs: []int{1, 1}}, ErrShape, "gpus_per_node: 2 entries for 1 nodes"},
		{"domains too small", Topology{GPUs: 20, DomainGPUs: []int{10}}, ErrShape, "domains: they add up to 10 GPUs, but there are 20"},
		{"a domain of less than no GPU", Topology{GPUs: 2, DomainGPUs: []int{3, -1}}, ErrShape, "domains: index 0"},
		{"a domain of no GPU", Topology{GPUs: 2, DomainGPUs: []int{0, 2}}, ErrValue, "domains: index 0: 0: a domain has at least 1 GPU"},
		{"uneven nodes", Topology{GPUs: 20, Nodes: 3}, ErrShape, "num_nodes: 20 GPUs cannot be shared evenly by 3 nodes"},
	} {
		wantError(t, c.name, c.t.Validate(), c.kind, c.want)
	}
	good := Topology{GPUs: 20, Nodes: 3, NodeGPUs: []int{8, 8, 4}, DomainGPUs: []int{20}}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
}
