package main

import (
	"context"
	"fmt"
	"time"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// solution is a planned problem, with what is said about it.
type solution struct {
	*problem
	loads   placement.Loads // the windows' sum
	result  eplb.Result
	seconds float64              // of eplb.Plan alone
	before  *placement.Placement // what the plan is compared with; nil = nothing can be
	model   *placement.Model     // nil = unknown
	bytes   int64                // of an expert in one layer; 0 = unknown
	change  *transition          // nil = not asked for
}

// solve plans a problem.
func solve(ctx context.Context, p *problem, modelName string, copies *copyFlags) (*solution, error) {
	s := &solution{problem: p}
	var err error
	if s.model, err = findModel(modelName, len(p.windows[0]), p.windows[0].Experts()); err != nil {
		return nil, err
	}
	s.bytes = copies.bytes(s.model)
	if s.loads, err = p.sum(); err != nil {
		return nil, err
	}
	ask := p.ask()
	start := time.Now()
	s.result, err = eplb.Plan(ctx, ask, p.options)
	s.seconds = time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	s.before = s.compared()
	return s, nil
}

// ask is the problem in eplb's words.
func (p *problem) ask() eplb.Problem {
	ask := eplb.Problem{Replicas: p.replicas, Groups: p.groups, Topology: p.topology, Everywhere: p.must, Previous: p.previous, Routes: p.routes}
	if len(p.windows) == 1 {
		ask.Loads = p.windows[0]
	} else {
		ask.Windows = p.windows
	}
	return ask
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
	case s.previous == nil:
		b = placement.Trivial(layers, experts, s.replicas, s.topology.GPUs)
	case s.previous.GPUs != s.topology.GPUs:
		return nil
	default:
		b = s.previous.Clone()
	}
	first := b.FirstSlots()
	for _, row := range b.PhysicalToLogical {
		next := 0
		for g := range b.GPUs {
			for i := first[g]; i < first[g+1]; i++ {
				switch {
				case s.topology.SpeedOf(g) == 0:
					row[i] = -1
				case s.previous == nil:
					row[i] = next % experts
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
	if s.options.Dispatch == eplb.Nearest {
		return p.ScoreNearest(s.loads, s.topology)
	}
	return p.ScoreLayers(s.loads, s.topology)
}

// beforeImbalance is the imbalance of each layer before the plan, over several
// windows in proportion to their tokens; nil = unknown.
func (s *solution) beforeImbalance() ([]float64, error) {
	if s.before == nil {
		return nil, nil
	}
	return s.imbalanceOn(s.before, s.topology)
}

// imbalanceOn is the imbalance of each layer of a placement under the problem's
// loads, over several windows in proportion to their tokens.
func (s *solution) imbalanceOn(p *placement.Placement, t placement.Topology) ([]float64, error) {
	windows := s.windows
	if s.options.Dispatch == eplb.Split {
		windows = []placement.Loads{s.loads}
	}
	return imbalanceOver(p, windows, t, s.options.Dispatch)
}

// imbalanceOver is the imbalance of each layer of a placement over windows where
// tokens go to the nearest replica or, with any other dispatch, are split evenly.
func imbalanceOver(p *placement.Placement, windows []placement.Loads, t placement.Topology, d eplb.Dispatch) ([]float64, error) {
	if d == eplb.Nearest {
		return p.NearestOver(windows, t)
	}
	return p.ImbalanceOver(windows, t)
}

// each returns one figure of every layer of the plan.
func (s *solution) each(f func(eplb.Layer) float64) []float64 {
	out := make([]float64, len(s.result.Layers))
	for l, layer := range s.result.Layers {
		out[l] = f(layer)
	}
	return out
}

func imbalanceOf(l eplb.Layer) float64 { return l.Imbalance }
func boundOf(l eplb.Layer) float64     { return l.LowerBound }

// meanMax is the mean and the largest of a figure over the layers that have
// load, none where no layer has. A dense layer would only dilute the mean.
func meanMax(figure []float64, loads placement.Loads, none float64) (mean, most float64) {
	n := 0
	for l, x := range figure {
		if loaded(loads[l]) {
			mean += x
			most = max(most, x)
			n++
		}
	}
	if n == 0 {
		return none, none
	}
	return mean / float64(n), most
}

// weighedMean is the mean of a figure over the layers that have load, each in
// proportion to the tokens that it sees; 1 where none has any.
func weighedMean(figure []float64, loads placement.Loads, weights []float64) float64 {
	sum, total := 0.0, 0.0
	for l, x := range figure {
		if loaded(loads[l]) {
			sum += float64(x * weights[l])
			total += weights[l]
		}
	}
	if total == 0 {
		return 1
	}
	return sum / total
}

func loaded(row []float64) bool {
	for _, x := range row {
		if x > 0 {
			return true
		}
	}
	return false
}

// findModel returns the preset of a name. "auto" is the preset of that shape,
// its dense layers counted or not, and DeepSeek-V3 for any layers of 256
// experts; nil = none.
func findModel(name string, layers, experts int) (*placement.Model, error) {
	var names []string
	for _, m := range placement.Models() {
		same := m.Experts == experts && (layers == m.Layers || layers == m.Layers+m.DenseLayers || m == placement.DeepSeekV3())
		if name == m.Name || name == "auto" && same {
			return &m, nil
		}
		names = append(names, m.Name)
	}
	switch name {
	case "auto", "none":
		return nil, nil
	}
	return nil, usageError{fmt.Errorf("model %q is unknown: one of auto, none, %q is needed", name, names)}
}

// movedBytes is what a number of moves copies; false = an expert's size is unknown.
func (s *solution) movedBytes(moves int) (int64, bool) {
	return int64(moves) * s.bytes, moves == 0 || s.bytes > 0
}
