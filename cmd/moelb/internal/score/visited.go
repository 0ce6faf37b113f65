package score

import (
	"bytes"
	"fmt"
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// visited reads tokens' experts, where a flag names a file, and counts where they are
// found on p; with their loads.
func (f *flags) visited(p *placement.Placement, t placement.Topology) ([]eplb.Visited, []placement.Loads, error) {
	if f.routes == "" {
		return nil, nil, nil
	}
	r, err := problem.ReadRoutes(f.routes)
	if err != nil {
		return nil, nil, err
	}
	v, err := eplb.ScoreRoutes(p, &r.Routes, t)
	if err != nil {
		return nil, nil, fmt.Errorf("%s under %s: %w", f.at, f.routes, err)
	}
	loads := placement.NewLoads(len(r.Loads), p.Experts) // experts that no token chose are none of the file's
	for l, row := range r.Loads {
		copy(loads[l], row)
	}
	return v, []placement.Loads{loads}, nil
}

// visitedTable says where tokens find their experts.
func (s *scored) visitedTable(b *bytes.Buffer) {
	if s.visited == nil {
		return
	}
	b.WriteByte('\n')
	g := human.Table{Numbers: true}
	g.Add("layer", "nodes a token", "GPUs a token", "copies off its node, one a node", "one an expert")
	row := func(name string, y eplb.Visited) {
		figure := func(x float64) string {
			if math.IsNaN(x) {
				return "-"
			}
			return fmt.Sprintf("%.3f", x)
		}
		g.Add(name, figure(y.Nodes), figure(y.GPUs), figure(y.Sent[eplb.PerNode]), figure(y.Sent[eplb.PerExpert]))
	}
	for l, y := range s.visited {
		row(fmt.Sprint(l), y)
	}
	row("mean", eplb.MeanVisited(s.visited))
	g.Write(b, "")
}

// known is nil where nothing is.
func known(x float64) *float64 {
	if math.IsNaN(x) {
		return nil
	}
	return &x
}
