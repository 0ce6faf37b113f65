package simulate

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// visits are the flags that say where tokens find their experts; 0 = as experts
// anywhere would have it.
type visits struct{ nodes, gpus, copies float64 }

func (v *visits) flags(cmd *cobra.Command) {
	l := cmd.Flags()
	l.Float64Var(&v.nodes, "nodes-per-token", 0, "prefill: nodes that a token visits, as moelb plan --routes reports them; 0 = as group-limited routing makes them, 2.93 of 4")
	l.Float64Var(&v.gpus, "gpus-per-token", 0, "prefill within one NVLink domain: GPUs that a token visits; 0 = those of experts anywhere on these nodes")
	l.Float64Var(&v.copies, "copies-off-node", 0, "decode: copies of a token, one an expert, that leave its node; 0 = those of experts anywhere")
}

// set gives a unit the figures of its phase.
func (v *visits) set(u *cost.Unit) {
	if u.Phase == cost.PrefillPhase {
		u.NodesPerToken, u.GPUsPerToken = v.nodes, v.gpus
	} else {
		u.CopiesOffNode = v.copies
	}
}

// table adds what a unit's tokens visit, where it is known.
func (v *visits) table(u *cost.Unit, y *human.Table) {
	for _, x := range []struct {
		what  string
		value float64
	}{{"nodes a token visits", u.NodesPerToken}, {"GPUs a token visits", u.GPUsPerToken}, {"copies of a token off its node", u.CopiesOffNode}} {
		if x.value > 0 {
			y.Add(x.what, fmt.Sprintf("%.3f", x.value))
		}
	}
}

// placed are the files of a placement and of tokens that find their experts on it.
type placed struct{ placement, routes string }

func (p *placed) flags(cmd *cobra.Command) {
	l := cmd.Flags()
	l.StringVar(&p.placement, "placement", "", "the placement's file, beside --routes: where tokens go, and how evenly, is counted")
	l.StringVar(&p.routes, "routes", "", "the file of tokens' experts, as moelb plan reads them")
}

// count counts, on the nodes of a unit, what the flags that are not given stand for:
// the mean of the layers.
func (p *placed) count(cmd *cobra.Command, u *cost.Unit, v *visits, experts *float64) error {
	switch {
	case p.placement == "" && p.routes == "":
		return nil
	case p.placement == "" || p.routes == "":
		return console.Usagef("--placement and --routes go together")
	}
	for _, name := range tokenFlags {
		if cmd.Flags().Changed(name) {
			return console.Usagef("--%s: --placement and --routes say it themselves: leave it out, or them", name)
		}
	}
	at, err := formats.ReadPlacement(p.placement, u.Ranks())
	if err != nil {
		return fmt.Errorf("--placement: %w", err)
	}
	r, err := problem.ReadRoutes(p.routes)
	if err != nil {
		return err
	}
	k := u.Model.TopK
	switch {
	case at.GPUs != u.Ranks():
		return fmt.Errorf("%s: %d GPUs, but the unit has %d", p.placement, at.GPUs, u.Ranks())
	case at.Experts != u.Model.Experts:
		return fmt.Errorf("%s: %d experts, but %s has %d", p.placement, at.Experts, u.Model.Name, u.Model.Experts)
	case r.Routes.TopK != k:
		return fmt.Errorf("%s: %d experts a token, but %s chooses %d", p.routes, r.Routes.TopK, u.Model.Name, k)
	}
	t := placement.Topology{GPUs: at.GPUs, Nodes: u.Blocks()}
	layers, err := eplb.ScoreRoutes(&at, &r.Routes, t)
	if err != nil {
		return fmt.Errorf("%s under %s: %w", p.placement, p.routes, err)
	}
	mean := eplb.MeanVisited(layers)
	if u.Phase == cost.PrefillPhase {
		if v.nodes = mean.Nodes; u.GPU.Domain >= u.Ranks() && !math.IsNaN(mean.GPUs) {
			v.gpus = mean.GPUs
		}
	} else if u.GPU.Domain < u.Ranks() {
		v.copies = mean.Sent[eplb.PerExpert]
	}
	if !cmd.Flags().Changed("imbalance-experts") {
		loads := r.Routes.Loads(at.Experts)
		level, err := figures.ImbalanceOver(&at, []placement.Loads{loads}, t, eplb.Even)
		if err != nil {
			return fmt.Errorf("%s under %s: %w", p.placement, p.routes, err)
		}
		*experts, _ = figures.MeanMax(level, loads, 1)
	}
	return nil
}
