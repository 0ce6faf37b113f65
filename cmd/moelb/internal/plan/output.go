package plan

import (
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/answer"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// planJSON is the contract's answer to moelb plan. Slots of the schedule are those
// of physical_to_logical_map; from -1 = from outside the unit, expert -1 = emptied.
type planJSON struct {
	Version           int                `json:"version"`
	Policy            string             `json:"policy"`
	GPUs              int                `json:"num_gpus"`
	Experts           int                `json:"num_experts"`
	GPUSlots          []int              `json:"gpu_slots,omitempty"`
	LayerExperts      []int              `json:"layer_experts,omitempty"`
	PhysicalToLogical [][]int            `json:"physical_to_logical_map" lines:""`
	LogicalToPhysical [][][]int          `json:"logical_to_physical_map" lines:""`
	LogicalCount      [][]int            `json:"logical_count" lines:""`
	Report            reportJSON         `json:"report"`
	Schedule          *schedule.Schedule `json:"schedule,omitempty"`
	Decision          **decisionJSON     `json:"decision,omitempty"` // null = the schedule has no price
}

// reportJSON is what is said about the plan.
type reportJSON struct {
	Mean          float64       `json:"imbalance_mean"`
	Max           float64       `json:"imbalance_max"`
	Bound         float64       `json:"lower_bound_mean"`
	WeightedMean  *float64      `json:"imbalance_weighted_mean,omitempty"`
	Moves         int           `json:"moves"`
	MovedBytes    *int64        `json:"moved_bytes"`
	Seconds       float64       `json:"seconds"`
	Before        *beforeJSON   `json:"before,omitempty"`
	NodesPerToken *float64      `json:"nodes_per_token_mean,omitempty"`
	Traffic       *trafficJSON  `json:"traffic,omitempty"`
	Layers        []layerJSON   `json:"layers" lines:""`
	Locality      *localityJSON `json:"locality,omitempty"`
}

type beforeJSON struct {
	Mean          float64  `json:"imbalance_mean"`
	Max           float64  `json:"imbalance_max"`
	NodesPerToken *float64 `json:"nodes_per_token_mean,omitempty"`
	Without       []string `json:"without,omitempty"`
}

type layerJSON struct {
	Imbalance     float64  `json:"imbalance"`
	LowerBound    float64  `json:"lower_bound"`
	Moves         int      `json:"moves"`
	Status        string   `json:"status"`
	NodesPerToken *float64 `json:"nodes_per_token,omitempty"`
}

type localityJSON struct {
	Home            [][]int   `json:"home" lines:""`
	FreeMean        float64   `json:"free_imbalance_mean"`
	OffNodeReplicas []int     `json:"off_node_replicas"`
	OffNodeShare    []float64 `json:"off_node_share"`
	OffNodeMean     float64   `json:"off_node_share_mean"`
}

// trafficJSON is what routes were planned for.
type trafficJSON struct {
	Without struct {
		NodesPerToken float64 `json:"nodes_per_token_mean"`
		Imbalance     float64 `json:"imbalance_mean"`
	} `json:"without_routes"`
	HeldOut *heldOutJSON `json:"held_out,omitempty"`
	Bound   float64      `json:"lower_bound_mean"`
	Moves   int          `json:"moves"`
	Copies  string       `json:"copies"`
	GPUs    *changeJSON  `json:"gpus_per_token_mean,omitempty"`
	Sent    changeJSON   `json:"copies_off_node_mean"`
	Between struct {
		Plan    [][]float64 `json:"plan"`
		Without [][]float64 `json:"without_routes"`
		Before  [][]float64 `json:"before,omitempty"`
	} `json:"copies_between_nodes"`
}

// changeJSON is a figure under the plan and under that without routes.
type changeJSON struct {
	Plan    float64 `json:"plan"`
	Without float64 `json:"without_routes"`
}

// heldOutJSON is of tokens that were not planned with.
type heldOutJSON struct {
	NodesPerToken float64    `json:"nodes_per_token_mean"`
	Without       float64    `json:"without_routes"`
	Imbalance     changeJSON `json:"imbalance_mean"`
}

// json is the contract's answer to moelb plan.
func (s *solution) json() ([]byte, error) {
	p := &s.result.Placement
	counts := p.LogicalCount()
	width := 0
	for _, row := range counts {
		for _, n := range row {
			width = max(width, n)
		}
	}
	if cells := int64(len(counts)) * int64(p.Experts) * int64(width); cells > placement.MaxCells {
		return nil, wire.Bad(placement.ErrShape, "logical_to_physical_map", -1, -1, "%d layers of %d experts with up to %d replicas: at most %d numbers are written (--format has narrower ones)", len(counts), p.Experts, width, placement.MaxCells)
	}
	before, err := s.beforeImbalance()
	if err != nil {
		return nil, err
	}
	a := planJSON{
		Version: 1, Policy: s.Options.Policy.String(), GPUs: p.GPUs, Experts: p.Experts, GPUSlots: p.GPUSlots, LayerExperts: p.LayerExperts,
		PhysicalToLogical: p.PhysicalToLogical, LogicalToPhysical: p.LogicalToPhysical(), LogicalCount: counts,
		Report: s.report(before),
	}
	if s.change != nil {
		d := s.change.json()
		a.Schedule, a.Decision = &s.change.schedule, &d
	}
	return answer.JSON(&a)
}

// report is what is said about the plan; before = the imbalance of each layer of
// what it is compared with, nil = unknown.
func (s *solution) report(before []float64) reportJSON {
	imbalance := figures.Each(&s.result, figures.ImbalanceOf)
	r := reportJSON{Moves: s.moves(), Seconds: s.seconds}
	r.Mean, r.Max = figures.MeanMax(imbalance, s.loads, 1)
	r.Bound, _ = figures.MeanMax(figures.Each(&s.result, figures.BoundOf), s.loads, 1)
	if s.Weights != nil {
		r.WeightedMean = new(figures.WeighedMean(imbalance, s.loads, s.Weights))
	}
	if n, known := s.movedBytes(r.Moves); known {
		r.MovedBytes = &n
	}
	traffic := s.result.Traffic
	if before != nil {
		b := &beforeJSON{Without: s.without()}
		b.Mean, b.Max = figures.MeanMax(before, s.loads, 1)
		if traffic != nil && traffic.Previous != nil {
			b.NodesPerToken = new(eplb.MeanVisited(traffic.Previous).Nodes)
		}
		r.Before = b
	}
	if traffic != nil {
		r.NodesPerToken = new(eplb.MeanVisited(traffic.Plan).Nodes)
		r.Traffic = s.traffic()
	}
	for _, x := range s.result.Layers {
		l := layerJSON{Imbalance: x.Imbalance, LowerBound: x.LowerBound, Moves: x.Moves, Status: x.Status.String()}
		if traffic != nil {
			l.NodesPerToken = &x.NodesPerToken
		}
		r.Layers = append(r.Layers, l)
	}
	if k := s.result.Locality; k != nil {
		c := &localityJSON{Home: k.Home, OffNodeReplicas: k.OffNodeReplicas, OffNodeShare: k.OffNodeShare}
		c.FreeMean, _ = figures.MeanMax(k.FreeImbalance, s.loads, 1)
		c.OffNodeMean, _ = figures.MeanMax(k.OffNodeShare, s.loads, 0)
		r.Locality = c
	}
	return r
}

// traffic is what is said of the routes that were planned for.
func (s *solution) traffic() *trafficJSON {
	t, c := s.result.Traffic, s.Options.Copies
	plan, even := eplb.MeanVisited(t.Plan), eplb.MeanVisited(t.Even)
	out := &trafficJSON{Bound: figures.MeanOf(t.LowerBound), Copies: c.String(), Sent: changeJSON{plan.Sent[c], even.Sent[c]}}
	out.Without.NodesPerToken = even.Nodes
	out.Without.Imbalance, _ = figures.MeanMax(t.EvenImbalance, s.loads, 1)
	if !math.IsNaN(plan.HeldOut) {
		out.HeldOut = &heldOutJSON{plan.HeldOut, even.HeldOut, changeJSON{plan.HeldOutImbalance, even.HeldOutImbalance}}
	}
	if !math.IsNaN(plan.GPUs) {
		out.GPUs = &changeJSON{plan.GPUs, even.GPUs}
	}
	out.Between.Plan, out.Between.Without, out.Between.Before = plan.Between[c], even.Between[c], eplb.MeanVisited(t.Previous).Between[c]
	for _, n := range t.Moves {
		out.Moves += n
	}
	return out
}
