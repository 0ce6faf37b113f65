package main

import (
	"bytes"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// readRoutes reads tokens' experts, [layers][tokens][k].
func readRoutes(s *wire.Scanner, field string) (*placement.Routes, error) {
	if !s.Take('[') {
		return nil, s.Wanted("a list of layers", field, -1, -1)
	}
	r := &placement.Routes{}
	for room := placement.MaxRouteIDs; !s.Take(']'); {
		l := len(r.IDs)
		switch {
		case l > 0 && !s.Take(','):
			return nil, s.Wanted(`"," or "]"`, field, l, -1)
		case l == placement.MaxLayers:
			return nil, wire.Bad(placement.ErrShape, field, -1, -1, "more than %d layers are not supported", placement.MaxLayers)
		case !s.Take('['):
			return nil, s.Wanted("a list of tokens", field, l, -1)
		}
		ids, err := readTokens(s, field, l, &r.TopK, room)
		if err != nil {
			return nil, err
		}
		r.IDs = append(r.IDs, ids)
		room -= len(ids)
	}
	if r.TopK == 0 {
		return nil, wire.Bad(placement.ErrShape, field, -1, -1, "no tokens")
	}
	return r, nil
}

// readTokens reads the tokens of a layer, whose opening bracket is taken. topK is
// the experts of a token, 0 = the first token says.
func readTokens(s *wire.Scanner, field string, l int, topK *int, room int) ([]uint16, error) {
	ids := []uint16{}
	for token := 0; !s.Take(']'); token++ {
		if token > 0 && !s.Take(',') {
			return nil, s.Wanted(`"," or "]"`, field, l, token)
		}
		if !s.Take('[') {
			return nil, s.Wanted("a list of a token's experts", field, l, token)
		}
		k := 0
		for ; !s.Take(']'); k++ {
			if k > 0 && !s.Take(',') {
				return nil, s.Wanted(`"," or "]"`, field, l, token)
			}
			if k == placement.MaxTopK {
				return nil, wire.Bad(placement.ErrShape, field, l, token, "more than %d experts a token are not supported", placement.MaxTopK)
			}
			e, err := s.Number("an expert's number", field, l, token)
			if err != nil {
				return nil, err
			}
			if e < 0 || e >= placement.MaxExperts || e != math.Trunc(e) {
				return nil, wire.Bad(placement.ErrValue, field, l, token, "%s is no expert's number", wire.Plain(e))
			}
			ids = append(ids, uint16(e))
		}
		switch {
		case k == 0:
			return nil, wire.Bad(placement.ErrShape, field, l, token, "a token without experts")
		case *topK == 0:
			*topK = k
		case k != *topK:
			return nil, wire.Bad(placement.ErrShape, field, l, token, "%d experts, but the first token has %d", k, *topK)
		}
		if len(ids) > room {
			return nil, wire.Bad(placement.ErrShape, field, l, token, "more than %d expert ids are not supported", placement.MaxRouteIDs)
		}
	}
	return ids, nil
}

// exampleRoutes is the name of no file, but of generated tokens.
const exampleRoutes = "example"

// routedFields is DeepSeek-V2-Lite on four nodes of two GPUs, with tokens.
func routedFields() fields {
	m := placement.DeepSeekV2Lite()
	r := workload.Routes(m, 1024, 1)
	return fields{version: 1, loads: []placement.Loads{r.Loads(m.Experts)}, routes: r, replicas: m.Experts + 8, nodes: 4, gpus: 8, maxMoves: -1}
}

// overrideRoutes reads the routes' file that a flag names; without loads theirs
// are planned for.
func (f *planFlags) overrideRoutes(cmd *cobra.Command, given *fields) error {
	set := cmd.Flags().Changed
	if set("traffic-slack") {
		given.hasSlack, given.slack = true, f.slack
	}
	if f.routes == "" || f.routes == exampleRoutes && given.routes != nil {
		return nil
	}
	if f.replays {
		return usagef("--routes: windows are replayed without them")
	}
	r, err := formats.ReadRoutes(f.routes, 0)
	if err != nil {
		return fmt.Errorf("routes: %w", err)
	}
	given.routes = &r.Routes
	if given.loads == nil {
		given.loads = []placement.Loads{r.Loads}
	}
	return nil
}

// checkRoutes takes the routes, and refuses a slack without any.
func (p *problem) checkRoutes(f *fields) error {
	p.routes = f.routes
	switch {
	case f.hasSlack && f.routes == nil:
		return wire.Bad(placement.ErrShape, "traffic_slack", -1, -1, "%v: only with routes", f.slack)
	case f.hasSlack && !(f.slack >= 0):
		return wire.Bad(placement.ErrValue, "traffic_slack", -1, -1, "%v is negative", f.slack)
	case f.hasSlack && f.slack == 0:
		p.options.TrafficSlack = -1 // to eplb 0 is the default
	case f.hasSlack:
		p.options.TrafficSlack = f.slack
	}
	return nil
}

// meanOf is the mean of a figure over the layers that have one; NaN = none has.
func meanOf(figure []float64) float64 {
	sum, n := 0.0, 0
	for _, x := range figure {
		if !math.IsNaN(x) {
			sum += x
			n++
		}
	}
	return sum / float64(n)
}

// number writes a figure, null where there is none.
func number(e *wire.Encoder, x float64) {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		e.Raw("null")
		return
	}
	e.Float(x)
}

func nodesOf(l eplb.Layer) float64 { return l.NodesPerToken }

// traffic writes what routes were planned for.
func (s *solution) traffic(e *wire.Encoder) {
	t := s.result.Traffic
	e.Field("traffic")
	e.Raw(`{"without_routes":{"nodes_per_token_mean":`)
	number(e, meanOf(t.Even))
	e.Field("imbalance_mean")
	mean, _ := meanMax(t.EvenImbalance, s.loads, 1)
	e.Float(mean)
	e.Raw("}")
	if t.HeldOut != nil {
		e.Field("held_out")
		e.Raw(`{"nodes_per_token_mean":`)
		number(e, meanOf(t.HeldOut))
		e.Field("without_routes")
		number(e, meanOf(t.HeldOutEven))
		e.Raw("}")
	}
	e.Field("lower_bound_mean")
	number(e, meanOf(t.LowerBound))
	moves := 0
	for _, n := range t.Moves {
		moves += n
	}
	e.Field("moves")
	e.Int(int64(moves))
	e.Raw("}")
}

// trafficTable sums up for people what routes were planned for.
func (s *solution) trafficTable(b *bytes.Buffer) {
	t := s.result.Traffic
	if t == nil {
		return
	}
	figure := func(x []float64) string {
		if x == nil || math.IsNaN(meanOf(x)) {
			return "-"
		}
		return fmt.Sprintf("%.3f", meanOf(x))
	}
	g := grid{}
	g.add("nodes a token visits", s.beforeName(), "without routes", "plan", "lower bound")
	g.add("mean of the layers", figure(t.Previous), figure(t.Even), figure(s.each(nodesOf)), figure(t.LowerBound))
	if t.HeldOut != nil {
		g.add("of tokens not planned with", "", figure(t.HeldOutEven), figure(t.HeldOut))
	}
	even, _ := meanMax(t.EvenImbalance, s.loads, 1)
	mean, _ := meanMax(s.each(imbalanceOf), s.loads, 1)
	g.add("imbalance, mean of the layers", "", fmt.Sprintf("%.4f", even), fmt.Sprintf("%.4f", mean))
	g.write(b, "  ")
	b.WriteByte('\n')
}
