package plan

import (
	"slices"

	"github.com/moelb/moelb/eplb"
)

// without names the constraints of the plan that the placement beside it does not
// keep.
func (s *solution) without() []string {
	if s.before == nil {
		return nil
	}
	var out []string
	t := &s.Topology
	groups := 0
	if s.result.Locality != nil {
		groups = s.Groups
	}
	var members []int // of the groups, in order
	for e := range s.before.Experts {
		if !slices.Contains(s.Must, e) {
			members = append(members, e)
		}
	}
	scattered, oneNode, oneDomain, lacking := false, false, false, false
	first := s.before.FirstSlots()
	for _, row := range s.before.PhysicalToLogical {
		home := slices.Repeat([]int{-1}, max(groups, 1)) // the group's node
		node, domain := slices.Repeat([]int{-1}, s.before.Experts), slices.Repeat([]int{-1}, s.before.Experts)
		several, apart := make([]bool, s.before.Experts), make([]bool, s.before.Experts)
		for g := range s.before.GPUs {
			held := row[first[g]:first[g+1]]
			n, d := t.Node(g), t.Domain(g)
			for _, e := range held {
				if e < 0 {
					continue
				}
				if i, in := slices.BinarySearch(members, e); groups > 0 && in {
					group := i * groups / len(members)
					scattered = scattered || home[group] >= 0 && home[group] != n
					home[group] = n
				}
				several[e] = several[e] || node[e] >= 0 && node[e] != n
				apart[e] = apart[e] || domain[e] >= 0 && domain[e] != d
				node[e], domain[e] = n, d
			}
			for _, e := range s.Must {
				lacking = lacking || t.SpeedOf(g) > 0 && !slices.Contains(held, e)
			}
		}
		oneNode = oneNode || slices.Contains(several, false)
		oneDomain = oneDomain || slices.Contains(apart, false)
	}
	for _, c := range []struct {
		broken bool
		name   string
	}{
		{scattered, "groups on nodes"},
		{s.Options.TwoNodes && oneNode, "two nodes an expert"},
		{s.Options.TwoDomains && oneDomain, "two domains an expert"},
		{lacking, "experts everywhere"},
		{s.Options.Dispatch == eplb.Split, "tokens split per batch"},
	} {
		if c.broken {
			out = append(out, c.name)
		}
	}
	return out
}
