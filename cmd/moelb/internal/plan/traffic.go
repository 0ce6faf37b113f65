package plan

import (
	"bytes"
	"fmt"
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/eplb"
)

func nodesOf(l eplb.Layer) float64 { return l.NodesPerToken }

// trafficTable sums up for people what routes were planned for.
func (s *solution) trafficTable(b *bytes.Buffer) {
	t := s.result.Traffic
	if t == nil {
		return
	}
	figure := func(x []float64) string {
		if x == nil || math.IsNaN(figures.MeanOf(x)) {
			return "-"
		}
		return fmt.Sprintf("%.3f", figures.MeanOf(x))
	}
	g := human.Table{}
	g.Add("nodes a token visits", s.beforeName(), "without routes", "plan", "lower bound")
	g.Add("mean of the layers", figure(t.Previous), figure(t.Even), figure(figures.Each(&s.result, nodesOf)), figure(t.LowerBound))
	if t.HeldOut != nil {
		g.Add("of tokens not planned with", "", figure(t.HeldOutEven), figure(t.HeldOut))
	}
	if t.GPUs != nil {
		g.Add("GPUs a token visits", "", figure(t.EvenGPUs), figure(t.GPUs))
	}
	g.Add("copies off its node, one a "+s.Options.Copies.String(), "", figure(t.EvenSent), figure(t.Sent))
	even, _ := figures.MeanMax(t.EvenImbalance, s.loads, 1)
	mean, _ := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
	g.Add("imbalance, mean of the layers", "", fmt.Sprintf("%.4f", even), fmt.Sprintf("%.4f", mean))
	if t.HeldOutImbalance != nil {
		g.Add("imbalance, of tokens not planned with", "", fmt.Sprintf("%.4f", figures.MeanOf(t.HeldOutEvenImbalance)), fmt.Sprintf("%.4f", figures.MeanOf(t.HeldOutImbalance)))
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
	if t == nil || len(t.Between) > pageNodes {
		return nil
	}
	d := &trafficData{Was: t.EvenBetween, WasName: "the plan without routes", Is: t.Between, PerExpert: s.Options.Copies == eplb.PerExpert}
	if t.PreviousBetween != nil {
		d.Was, d.WasName = t.PreviousBetween, s.beforeName()+" placement"
	}
	return d
}
