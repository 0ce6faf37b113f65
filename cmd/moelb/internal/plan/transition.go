package plan

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/copies"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// transition is how a plan is reached from the placement in force, and whether
// it should be.
type transition struct {
	schedule schedule.Schedule
	stakes   schedule.Stakes
	decision *schedule.Decision // nil = the schedule has no price

	copyMilliseconds [2]float64 // of one copy over NVLink and over RDMA
}

// transition schedules the moves of a plan and weighs them.
func (s *solution) transition(f *copies.Flags) (*transition, error) {
	if s.Previous == nil {
		return nil, wire.Bad(placement.ErrShape, "schedule", -1, -1, "only with previous or --previous: there is nothing to move from")
	}
	x := &transition{stakes: f.Stakes()}
	x.copyMilliseconds = [2]float64{float64(s.bytes) / f.NVLink / 1e6, float64(s.bytes) / f.RDMA / 1e6}
	x.stakes.After, x.stakes.Weight = figures.Each(&s.result, figures.ImbalanceOf), s.Weights
	unit := s.Topology.Extend(s.Previous.GPUs)
	var err error
	if s.Previous.GPUs == unit.GPUs && unit.GPUs == s.Topology.GPUs {
		if x.stakes.Before, err = s.imbalanceOn(s.Previous, unit); err != nil {
			return nil, err
		}
	}
	if x.schedule, err = f.Schedule(s.Previous, &s.result.Placement, unit, s.bytes, &x.stakes); err != nil {
		return nil, err
	}
	forced, on, err := x.schedule.Forced(s.Previous, unit)
	if err != nil {
		return nil, err
	}
	if x.stakes.Before, err = s.imbalanceOn(&forced, on); err != nil {
		return nil, err
	}
	if x.schedule.Priced || len(x.schedule.Rounds) == 0 || f.Hidden == 1 {
		d, err := schedule.Decide(&x.schedule, x.stakes)
		if err != nil {
			return nil, err
		}
		x.decision = &d
	}
	return x, nil
}

// verdict says in few words whether the moves pay.
func (x *transition) verdict() string {
	switch d := x.decision; {
	case d == nil:
		return "worth unknown"
	case !d.Move:
		return "not worth moving"
	case math.IsInf(d.BreakEven, 1):
		return "needed"
	default:
		return fmt.Sprintf("paid back in %.3g steps", d.BreakEven)
	}
}

// decisionJSON is whether the moves pay.
type decisionJSON struct {
	Move      bool    `json:"move"`
	Rounds    int     `json:"rounds"`
	Gain      float64 `json:"gain_seconds_per_step"`
	Cost      float64 `json:"cost_seconds"`
	BreakEven float64 `json:"break_even_steps"` // null = never
	Horizon   float64 `json:"horizon_steps"`
	Reason    string  `json:"reason"`
	Text      string  `json:"text"`
}

// json is the decision; nil = there is none.
func (x *transition) json() *decisionJSON {
	d := x.decision
	if d == nil {
		return nil
	}
	return &decisionJSON{Move: d.Move, Rounds: d.Rounds, Gain: d.GainPerStep, Cost: d.Cost, BreakEven: d.BreakEven, Horizon: x.stakes.Horizon, Reason: d.Reason, Text: d.String()}
}

// remarks say how long the moves take and whether they pay.
func (x *transition) remarks() []string {
	s := &x.schedule
	if len(s.Rounds) == 0 {
		return []string{"Nothing to move"}
	}
	text := fmt.Sprintf("Copied in %s (no schedule has fewer than %d)", human.Plural(len(s.Rounds), "round"), s.RoundsBound)
	if s.Priced {
		text += fmt.Sprintf(" and %s (none takes less than %s)", human.Duration(s.Seconds), human.Duration(s.SecondsBound))
	}
	out := []string{text}
	what := fmt.Sprintf("A GPU deals with %s at most in a round", human.Plural(s.Peers, "other"))
	if s.StagedBytes > 0 {
		what = fmt.Sprintf("A GPU stages %.0f MB at most in a round, and deals with %s", float64(s.StagedBytes)/1e6, human.Plural(s.Peers, "other"))
	}
	out = append(out, what)
	if s.Restore > 0 {
		out = append(out, fmt.Sprintf("Experts without a copy are back after %s, %d of them from outside", human.Plural(s.Restore, "round"), s.Outside))
	}
	if s.Emptied > 0 {
		out = append(out, fmt.Sprintf("GPUs that leave are empty after %s", human.Plural(s.Emptied, "round")))
	}
	if x.decision == nil {
		return append(out, "Whether it pays is unknown: an expert's size is (--model, --expert-bytes)")
	}
	return append(out, human.Sentence(x.decision.String()))
}
