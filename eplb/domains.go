package eplb

import (
	"cmp"
	"strings"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Experts on two fault domains are experts on two nodes of a topology whose
// nodes are those domains: nothing else in a plan that spreads experts depends on
// nodes.

// validateDomains turns TwoDomains into TwoNodes. Both together are what the
// coarser of the two asks, where one lies within the other; where they cross, two
// blocks of GPUs whose borders are borders of both.
func validateDomains(p *Problem, o *Options) error {
	if !o.TwoDomains {
		return nil
	}
	t := &p.Topology
	if err := cmp.Or(
		refuse.Value(o.Policy == DeepSeek, "two_domains", "policy deepseek knows no such thing: use policy optimal"),
		refuse.Value(o.Locality == ByGroup && t.Nodes > 1, "two_domains", "groups stay on one node each: use locality none"),
	); err != nil || o.TwoNodes && within(t, t.Domain, t.Node) { // two nodes are two domains
		return err
	}
	if o.TwoNodes && !within(t, t.Node, t.Domain) {
		if t.NodeGPUs = common(t); len(t.NodeGPUs) < 2 {
			return refuse.Errorf(placement.ErrFit, "two_domains", "beside two_nodes, but no border of a domain is one of a node: one of them is possible")
		}
		t.Nodes = len(t.NodeGPUs)
	} else if t.DomainGPUs != nil {
		t.NodeGPUs, t.Nodes = t.DomainGPUs, len(t.DomainGPUs)
	}
	o.TwoNodes = true
	return refuse.Edit(validateTwoNodes(p, o), func(e *placement.Error) {
		e.Field, e.Detail = "two_domains", strings.ReplaceAll(e.Detail, "node", "domain")
	})
}

// common is the sizes of the smallest blocks of GPUs, in order, that no node and no
// domain reaches out of.
func common(t *placement.Topology) (sizes []int) {
	n := 0
	for g := range t.GPUs {
		n++
		if g == t.GPUs-1 || t.Node(g) != t.Node(g+1) && t.Domain(g) != t.Domain(g+1) {
			sizes = append(sizes, n)
			n = 0
		}
	}
	return sizes
}

// within says whether all GPUs of a block of the first kind are in one of the
// second.
func within(t *placement.Topology, a, b func(gpu int) int) bool {
	for g := range t.GPUs - 1 {
		if a(g) == a(g+1) && b(g) != b(g+1) {
			return false
		}
	}
	return true
}
