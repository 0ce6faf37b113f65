package experts

import (
	"context"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/placement"
)

// plans keeps what was planned for a window from a placement on, and where it led:
// the loads of a window are those of every run on the same topics.
type plans map[planKey]*planned

type planKey struct {
	from   *placement.Placement
	window int
}

// planned is the way to the next placement. before and after are the layers'
// imbalance on the loads that it was planned on.
type planned struct {
	schedule.Schedule
	before, after []float64
	led           map[int]*placement.Placement // by the rounds that were done
}

// Advance enters a window: it plans on what the windows before showed, and
// returns the seconds that the units stop for the copying.
func (e *Experts) Advance(step float64) (stall float64, err error) {
	e.learn(e.window)
	e.window++
	if e.policy != Alone {
		if stall, err = e.replan(step); err != nil {
			return 0, err
		}
	}
	return stall, e.measure()
}

// replan plans a window's placement and moves to it. The first placement is loaded
// before the units start, and costs nothing.
func (e *Experts) replan(step float64) (stall float64, err error) {
	key := planKey{e.current, e.window}
	way, known := e.plans[key]
	if !known {
		p, o := e.problem()
		r, err := eplb.Plan(context.Background(), p, o)
		if err != nil {
			return 0, err
		}
		if e.window == 0 {
			e.current = &r.Placement
			return 0, nil
		}
		if way, err = e.way(&r.Placement); err != nil {
			return 0, err
		}
		if e.speed == nil {
			e.plans[key] = way
		}
	}
	return e.move(way, step)
}

// problem is what the policy asks of package eplb.
func (e *Experts) problem() (eplb.Problem, eplb.Options) {
	u := e.unit
	p := eplb.Problem{Loads: e.forecast, Replicas: e.current.Slots(), Groups: 1, Topology: e.topology}
	p.Topology.Speed = e.speed
	if e.policy == DeepSeek && e.speed == nil {
		p.Topology.Nodes = u.Nodes
		if grouped(u) {
			p.Groups = u.Model.Groups
		}
		return p, eplb.Options{Policy: eplb.DeepSeek}
	}
	// Many paths for still fewer moves would take most of a run's time, and save a
	// tenth of them.
	o := eplb.Options{Locality: eplb.Free, Restarts: -1}
	if e.window > 0 {
		p.Previous = e.current
	}
	if grouped(u) {
		p.Groups = u.Model.Groups
		o.Locality, o.OffNodeReplicas = eplb.ByGroup, 8
	}
	return p, o
}

// grouped says whether groups stay on their node, so that a token goes to few nodes.
func grouped(u *cost.Unit) bool {
	return u.Phase == cost.PrefillPhase && u.Model.Groups > 1 && u.Model.Groups%u.Nodes == 0 && u.GPU.Domain == u.GPU.Node
}

// way is the schedule from the placement in force to the next.
func (e *Experts) way(next *placement.Placement) (*planned, error) {
	s, err := schedule.New(e.current, next, e.topology, schedule.Options{ExpertBytes: e.unit.Model.ExpertBytes(), PerGPU: 4, RDMAPerGPU: 1})
	if err != nil {
		return nil, err
	}
	w := &planned{Schedule: s, led: map[int]*placement.Placement{}}
	for _, x := range []struct {
		of *placement.Placement
		to *[]float64
	}{{e.current, &w.before}, {next, &w.after}} {
		scores, err := x.of.ScoreLayers(e.forecast, placement.Topology{GPUs: e.unit.Ranks()})
		if err != nil {
			return nil, err
		}
		for _, layer := range scores {
			*x.to = append(*x.to, layer.Imbalance)
		}
	}
	return w, nil
}

// move goes a way, to its end for the published algorithm, and as far as the gain
// over a window pays for the copying otherwise.
func (e *Experts) move(w *planned, step float64) (float64, error) {
	s, rounds := w.Schedule, len(w.Rounds)
	if e.policy == Optimal && step > 0 {
		k := schedule.Stakes{StepSeconds: step, Sensitivity: schedule.DecodeSensitivity(), Horizon: WindowSeconds / step, Before: w.before, After: w.after}
		if e.unit.Phase == cost.PrefillPhase {
			k.Sensitivity = schedule.PrefillSensitivity()
		}
		d, err := schedule.Decide(&s, k)
		if err != nil {
			return 0, err
		}
		if rounds = d.Rounds; !d.Move {
			return 0, nil
		}
		s = s.Prefix(rounds)
	}
	next, known := w.led[rounds]
	if !known {
		p, err := s.Apply(e.current, rounds)
		if err != nil {
			return 0, err
		}
		next = &p
		w.led[rounds] = next
	}
	e.current = next
	seconds := 0.0
	for _, r := range s.Rounds {
		seconds += r.Seconds
	}
	e.moves += int64(s.Moves)
	e.moveTime += seconds
	return seconds, nil
}

// Without is the experts of a unit some of whose ranks, of so many GPUs each, are
// dead, and the seconds that the unit stops for the copying; the phase's own where
// none is, or where the experts do not fit on what lives: then nothing is computed
// before GPUs return.
func (e *Experts) Without(dead []bool, gpus int) (*Experts, float64, error) {
	c := e.Clone(e.unit)
	c.speed = make([]float64, e.unit.Ranks())
	alive := 0
	for g := range c.speed {
		if !dead[g/gpus] {
			c.speed[g] = 1
			alive++
		}
	}
	if alive*e.unit.SlotsEach() < e.unit.Model.Experts {
		return e, 0, nil
	}
	if alive == len(c.speed) {
		c.speed = nil
	}
	p := eplb.Problem{Loads: c.forecast, Replicas: c.current.Slots(), Groups: 1, Topology: c.topology, Previous: c.current}
	p.Topology.Speed = c.speed
	r, err := eplb.Plan(context.Background(), p, eplb.Options{Locality: eplb.Free, Target: repairTarget})
	if err != nil {
		return nil, 0, err
	}
	// The dead GPUs' copies are gone; those of the living are there.
	way, err := c.way(&r.Placement)
	if err != nil {
		return nil, 0, err
	}
	stall, err := c.move(way, 0) // at once, whether or not it pays
	if err != nil {
		return nil, 0, err
	}
	if err := c.measure(); err != nil {
		return nil, 0, err
	}
	if c.speed == nil {
		return e, stall, nil // back to what all units have
	}
	return c, stall, nil
}

// repairTarget is how uneven experts may stay after a failure: what is lost comes
// back, the rest waits for the next plan.
const repairTarget = 1.5
