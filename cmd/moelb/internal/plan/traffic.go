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
	even, _ := figures.MeanMax(t.EvenImbalance, s.loads, 1)
	mean, _ := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
	g.Add("imbalance, mean of the layers", "", fmt.Sprintf("%.4f", even), fmt.Sprintf("%.4f", mean))
	g.Write(b, "  ")
	b.WriteByte('\n')
}
