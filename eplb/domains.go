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

// validateDomains turns TwoDomains into TwoNodes. Both together are two blocks of GPUs
// whose borders are borders of both: the coarser of the two, where one lies within the
// other.
func validateDomains(p *Problem, o *Options) error {
	if !o.TwoDomains {
		return nil
	}
	t := &p.Topology
	if err := cmp.Or(
		refuse.Value(o.Policy == DeepSeek, "two_domains", "policy deepseek knows no such thing: use policy optimal"),
		refuse.Value(o.Locality == ByGroup && t.Nodes > 1, "two_domains", "groups stay on one node each: use locality none"),
	); err != nil {
		return err
	}
	if o.Locality == ByGroup { // of one node, where every group is at home
		o.Locality = Free
	}
	sizes := []int{0}
	for g := range t.GPUs {
		if g > 0 && t.Domain(g-1) != t.Domain(g) && (!o.TwoNodes || t.Node(g-1) != t.Node(g)) {
			sizes = append(sizes, 0)
		}
		sizes[len(sizes)-1]++
	}
	if o.TwoNodes && len(sizes) < 2 {
		return refuse.Errorf(placement.ErrFit, "two_domains", "beside two_nodes, but no border of a domain is one of a node")
	}
	t.NodeGPUs, t.Nodes, o.TwoNodes = sizes, len(sizes), true
	return refuse.Edit(validateTwoNodes(p, o), func(e *placement.Error) {
		e.Field, e.Detail = "two_domains", strings.ReplaceAll(e.Detail, "node", "domain")
	})
}
