package plan

import (
	"context"
	"time"

	"github.com/moelb/moelb/cmd/moelb/internal/copies"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// solution is a planned problem, with what is said about it.
type solution struct {
	*problem.Problem
	loads   placement.Loads // the windows' sum
	result  eplb.Result
	seconds float64              // of eplb.Plan alone
	before  *placement.Placement // what the plan is compared with; nil = nothing can be
	model   *placement.Model     // nil = unknown
	bytes   int64                // of an expert in one layer; 0 = unknown
	change  *transition          // nil = not asked for
}

// solve plans a problem.
func solve(ctx context.Context, p *problem.Problem, modelName string, copies *copies.Flags) (*solution, error) {
	s := &solution{Problem: p}
	var err error
	if s.model, err = problem.FindModel(modelName, len(p.Windows[0]), p.Windows[0].Experts()); err != nil {
		return nil, err
	}
	s.bytes = copies.Bytes(s.model)
	if s.loads, err = p.Sum(); err != nil {
		return nil, err
	}
	ask := p.Ask()
	start := time.Now()
	s.result, err = eplb.Plan(ctx, ask, p.Options)
	s.seconds = time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	s.before = s.compared()
	return s, nil
}

// moves counts the plan's moves.
func (s *solution) moves() int {
	n := 0
	for _, l := range s.result.Layers {
		n += l.Moves
	}
	return n
}

// compared is the placement that a plan is shown beside: the previous one
// without the GPUs that are out of service, else expert after expert, as
// engines start; nil where the previous one was on other GPUs or is none
// without those.
func (s *solution) compared() *placement.Placement {
	plan := &s.result.Placement
	layers, experts := len(plan.PhysicalToLogical), plan.Experts
	var b placement.Placement
	switch {
	case s.Previous == nil:
		b = placement.Trivial(layers, experts, s.Replicas, s.Topology.GPUs)
		b.LayerExperts = plan.LayerExperts
	case s.Previous.GPUs != s.Topology.GPUs:
		return nil
	default:
		b = s.Previous.Clone()
	}
	first := b.FirstSlots()
	for l, row := range b.PhysicalToLogical {
		next := 0
		for g := range b.GPUs {
			for i := first[g]; i < first[g+1]; i++ {
				switch {
				case s.Topology.SpeedOf(g) == 0:
					row[i] = -1
				case s.Previous == nil:
					row[i] = next % plan.ExpertsOf(l)
					next++
				}
			}
		}
	}
	if b.CheckComplete() != nil {
		return nil // an expert has lost its last replica
	}
	return &b
}

// scores measures a placement under the problem's loads.
func (s *solution) scores(p *placement.Placement) ([]placement.Score, error) {
	if s.Options.Dispatch == eplb.Nearest {
		return p.ScoreNearest(s.loads, s.Topology)
	}
	return p.ScoreLayers(s.loads, s.Topology)
}

// beforeImbalance is the imbalance of each layer before the plan, over several
// windows in proportion to their tokens; nil = unknown.
func (s *solution) beforeImbalance() ([]float64, error) {
	if s.before == nil {
		return nil, nil
	}
	return s.imbalanceOn(s.before, s.Topology)
}

// imbalanceOn is the imbalance of each layer of a placement under the problem's
// loads, over several windows in proportion to their tokens.
func (s *solution) imbalanceOn(p *placement.Placement, t placement.Topology) ([]float64, error) {
	return figures.ImbalanceOver(p, s.Windows, t, s.Options.Dispatch)
}

// movedBytes is what a number of moves copies; false = an expert's size is unknown.
func (s *solution) movedBytes(moves int) (int64, bool) {
	return int64(moves) * s.bytes, moves == 0 || s.bytes > 0
}
