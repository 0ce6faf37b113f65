package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// replay is windows that are planned one by one in several ways.
type replay struct {
	*problem
	model       *placement.Model
	bytes       int64 // of an expert in one layer; 0 = unknown
	copies      *copyFlags
	every, past int
	target      float64
	maxMoves    int // as eplb has it
	ways        []way
}

// way is one way to keep a placement, and how it fared.
type way struct {
	name, title string
	policy      eplb.Policy
	never, once bool // placed by no plan, planned on the first window alone
	follows     bool // plans from the placement in force
	ifPays      bool
	joint       bool // plans the last windows jointly
	steps       []step
	refused     error // why it cannot be; nil = it can
}

// step is one window after the first: what was placed before it, and how that
// fared in it.
type step struct {
	planned     bool
	moves       int
	copySeconds float64
	planSeconds float64
	saidNo      bool      // moving did not pay
	imbalance   []float64 // [layers]
	mean, most  float64   // over the layers with load
	slow, stall float64   // time lost to imbalance and to copying, of a balanced window's
}

// allWays lists the ways, in the order of the table.
func (r *replay) allWays() []way {
	to := "with few moves"
	if r.target > 0 {
		to = fmt.Sprintf("to %.4g", r.target)
	}
	ways := []way{
		{name: "none", title: "no balancing", never: true},
		{name: "once", title: "planned once", once: true},
		{name: "published", title: "published policy", policy: eplb.DeepSeek},
		{name: "replan", title: "re-planned"},
		{name: "joint", title: fmt.Sprintf("last %d jointly", r.past), joint: true},
		{name: "follow", title: "followed " + to, follows: true},
		{name: "decide", title: "followed if it pays", follows: true, ifPays: true},
	}
	if r.bytes == 0 && r.copies.hidden < 1 {
		ways[len(ways)-1].refused = errors.New("the size of an expert is unknown: give --model or --expert-bytes")
	}
	return ways
}

// run replays the windows in one way.
func (r *replay) run(ctx context.Context, w *way, tick func()) error {
	layers, experts := len(r.windows[0]), r.windows[0].Experts()
	at := placement.Trivial(layers, experts, r.replicas, r.topology.GPUs)
	for i := range r.windows[1:] {
		if w.refused != nil {
			return nil
		}
		tick()
		if err := ctx.Err(); err != nil {
			return err
		}
		s := step{}
		if !w.never && (i == 0 || !w.once && i%r.every == 0) {
			next, err := r.next(ctx, w, &at, i, &s)
			if err != nil {
				var bad *placement.Error
				if i == 0 && w.policy == eplb.DeepSeek && errors.As(err, &bad) {
					w.refused = err
					return nil
				}
				return err
			}
			at = *next
		}
		if err := r.score(&s, &at, r.windows[i+1]); err != nil {
			return err
		}
		w.steps = append(w.steps, s)
	}
	return nil
}

// next is the placement for the windows after window i, and fills in what it
// took to get there.
func (r *replay) next(ctx context.Context, w *way, at *placement.Placement, i int, s *step) (*placement.Placement, error) {
	o := r.options
	o.Policy = w.policy
	if w.policy == eplb.DeepSeek {
		o.Locality = eplb.Auto
	}
	p := eplb.Problem{Replicas: r.replicas, Groups: r.groups, Topology: r.topology}
	f := eplb.Forecast{Past: r.every}
	if w.joint {
		f = eplb.Forecast{Past: r.past, Joint: true}
	}
	if err := f.Set(&p, r.windows[:i+1]); err != nil {
		return nil, err
	}
	if w.follows && i > 0 {
		p.Previous, o.Target, o.MaxMoves = at, r.target, r.maxMoves
	}
	start := time.Now()
	plan, err := eplb.Plan(ctx, p, o)
	s.planned, s.planSeconds = true, time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	if i == 0 {
		return &plan.Placement, nil
	}
	return r.change(w, at, &plan.Placement, p.Loads, s)
}

// change schedules the way from one placement to the next, and where it shall
// pay goes only as far as that. loads are what the next one was planned for; nil
// = the last windows jointly.
func (r *replay) change(w *way, at, next *placement.Placement, loads placement.Loads, s *step) (*placement.Placement, error) {
	k := r.copies.stakes()
	k.Horizon *= float64(r.every)
	layers := len(at.PhysicalToLogical)
	k.Before, k.After = make([]float64, layers), make([]float64, layers)
	if loads != nil {
		var err error
		if k.Before, err = imbalances(at, loads, r.topology); err != nil {
			return nil, err
		}
		if k.After, err = imbalances(next, loads, r.topology); err != nil {
			return nil, err
		}
	}
	schedule, err := r.copies.schedule(at, next, r.topology, r.bytes, &k)
	if err != nil {
		return nil, err
	}
	if w.ifPays {
		d, err := eplb.Decide(&schedule, k)
		if err != nil {
			return nil, err
		}
		s.saidNo = !d.Move && len(schedule.Rounds) > 0
		schedule = schedule.Prefix(d.Rounds)
		to, err := schedule.Apply(at, len(schedule.Rounds))
		if err != nil {
			return nil, err
		}
		next = &to
	}
	moves, err := at.CountMoves(next)
	if err != nil {
		return nil, err
	}
	for _, n := range moves {
		s.moves += n
	}
	s.copySeconds = schedule.Seconds
	return next, nil
}

// score measures the placement on the window it is used in.
func (r *replay) score(s *step, at *placement.Placement, loads placement.Loads) (err error) {
	if s.imbalance, err = imbalances(at, loads, r.topology); err != nil {
		return err
	}
	s.mean, s.most = meanMax(s.imbalance, loads, 1)
	k := r.copies.stakes()
	for _, x := range s.imbalance {
		s.slow += k.Sensitivity.Slowdown(x) / float64(len(s.imbalance))
	}
	if window := k.Horizon * k.StepSeconds; window > 0 {
		s.stall = s.copySeconds * (1 - k.Hidden) / window
	}
	return nil
}

// imbalances are those of the layers.
func imbalances(at *placement.Placement, loads placement.Loads, t placement.Topology) ([]float64, error) {
	scores, err := at.ScoreLayers(loads, t)
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(scores))
	for l, x := range scores {
		out[l] = x.Imbalance
	}
	return out, nil
}

// summary is a way over all windows.
type summary struct {
	mean, most  float64
	moves       int
	perLayer    float64 // moves a planned window and layer
	copySeconds float64 // a planned window
	planSeconds float64 // a planned window, the first included
	slow, stall float64
	changes     int // windows planned after the first
	refusals    int // of them, those in which moving did not pay
}

func (w *way) summary(layers int) summary {
	var t summary
	plans := 0
	for i, s := range w.steps {
		n := float64(len(w.steps))
		t.mean += s.mean / n
		t.most = max(t.most, s.most)
		t.slow += s.slow / n
		t.stall += s.stall / n
		t.moves += s.moves
		if s.planned {
			plans++
			t.planSeconds += s.planSeconds
			t.copySeconds += s.copySeconds
			if i > 0 {
				t.changes++
			}
			if s.saidNo {
				t.refusals++
			}
		}
	}
	t.planSeconds /= float64(max(plans, 1))
	t.copySeconds /= float64(max(t.changes, 1))
	t.perLayer = float64(t.moves) / float64(max(t.changes, 1)*layers)
	return t
}
