package plan

import (
	"bytes"
	"fmt"
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/eplb"
)

// trafficTable sums up for people what routes were planned for.
func (s *solution) trafficTable(b *bytes.Buffer) {
	t := s.result.Traffic
	if t == nil {
		return
	}
	plan, even, c := eplb.MeanVisited(t.Plan), eplb.MeanVisited(t.Even), s.Options.Copies
	figure := func(x float64) string {
		if math.IsNaN(x) {
			return "-"
		}
		return fmt.Sprintf("%.3f", x)
	}
	g := human.Table{}
	g.Add("nodes a token visits", s.beforeName(), "without routes", "plan", "lower bound")
	g.Add("mean of the layers", figure(eplb.MeanVisited(t.Previous).Nodes), figure(even.Nodes), figure(plan.Nodes), figure(figures.MeanOf(t.LowerBound)))
	held := !math.IsNaN(plan.HeldOut)
	if held {
		g.Add("of tokens not planned with", "", figure(even.HeldOut), figure(plan.HeldOut))
	}
	if !math.IsNaN(plan.GPUs) {
		g.Add("GPUs a token visits", "", figure(even.GPUs), figure(plan.GPUs))
	}
	g.Add("copies off its node, one a "+c.String(), "", figure(even.Sent[c]), figure(plan.Sent[c]))
	was, _ := figures.MeanMax(t.EvenImbalance, s.loads, 1)
	is, _ := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
	g.Add("imbalance, mean of the layers", "", fmt.Sprintf("%.4f", was), fmt.Sprintf("%.4f", is))
	if held {
		g.Add("imbalance, of tokens not planned with", "", fmt.Sprintf("%.4f", even.HeldOutImbalance), fmt.Sprintf("%.4f", plan.HeldOutImbalance))
	}
	g.Write(b, "  ")
	b.WriteByte('\n')
}

// trafficData is what the page draws of the copies that tokens send from node to
// node.
type trafficData struct {
	Was       [][]float64 `json:"was"`
	WasName   string      `json:"wasName"`
	Is        [][]float64 `json:"is"`
	PerExpert bool        `json:"perExpert"`
}

// pageNodes is the most nodes whose traffic is drawn.
const pageNodes = 32

// drawn is what the page draws of traffic; nil = nothing.
func (s *solution) drawn() *trafficData {
	t := s.result.Traffic
	if t == nil || len(t.Plan[0].Between[s.Options.Copies]) > pageNodes {
		return nil
	}
	between := func(y []eplb.Visited) [][]float64 { return eplb.MeanVisited(y).Between[s.Options.Copies] }
	d := &trafficData{Was: between(t.Even), WasName: "the plan without routes", Is: between(t.Plan), PerExpert: s.Options.Copies == eplb.PerExpert}
	if t.Previous != nil {
		d.Was, d.WasName = between(t.Previous), s.beforeName()+" placement"
	}
	return d
}
