package replay

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/moelb/moelb/cmd/moelb/internal/copies"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/eplb/track"
	"github.com/moelb/moelb/placement"
)

// replay is windows that are planned one by one in several ways.
type replay struct {
	*problem.Problem
	model       *placement.Model
	bytes       int64 // of an expert in one layer; 0 = unknown
	copies      *copies.Flags
	every, past int
	ways        []way
}

// way is one way to keep a placement, and how it fared.
type way struct {
	name, title string
	policy      eplb.Policy
	never, once bool     // placed by no plan, planned on the first window alone
	follows     bool     // plans from the placement in force
	ifPays      bool     // follows the last window or the last ones, or stays, by what it gains and costs
	joint       bool     // plans the last windows jointly
	claims      [3]claim // of staying, of few moves, of a joint plan: where ifPays
	steps       []step
	refused     error // why it cannot be; nil = it can
}

// claim is a placement's imbalance in the windows that are known, and by how much
// such claims have fallen short in the windows that came.
type claim struct {
	at    *placement.Placement
	mean  float64
	short float64 // summed over times
	times int
}

// leastClaims is how many claims must have been checked before they are corrected:
// fewer say more of chance than of the claims.
const leastClaims = 4

// expect corrects each layer's imbalance for what such claims were worth, and
// remembers the claim.
func (c *claim) expect(at *placement.Placement, past []float64) []float64 {
	kept := *at
	c.at, c.mean = &kept, mean(past)
	short := 0.0
	if c.times >= leastClaims {
		short = c.short / float64(c.times)
	}
	out := make([]float64, len(past))
	for l, x := range past {
		out[l] = max(1, x+short)
	}
	return out
}

// check compares the claim with the window that came.
func (c *claim) check(r *replay, loads placement.Loads) error {
	if c.at == nil {
		return nil
	}
	x, err := r.imbalances(c.at, loads)
	if err != nil {
		return err
	}
	c.short += mean(x) - c.mean
	c.times++
	return nil
}

func mean(x []float64) float64 {
	sum := 0.0
	for _, v := range x {
		sum += v / float64(len(x))
	}
	return sum
}

// step is one window after the first: what was placed before it, and how that
// fared in it.
type step struct {
	planned     bool
	changes     bool // from a placement that was planned or given
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
	if x := r.Options.Target; x > 0 {
		to = fmt.Sprintf("to %.4g", x)
	}
	ways := []way{
		{name: "none", title: "no balancing", never: true},
		{name: "once", title: "planned once", once: true},
		{name: "published", title: "published policy", policy: eplb.DeepSeek},
		{name: "replan", title: "re-planned"},
		{name: "joint", title: fmt.Sprintf("last %d jointly", r.past), joint: true},
		{name: "follow", title: "followed " + to, follows: true},
		{name: "decide", title: "whichever pays", ifPays: true},
	}
	if r.bytes == 0 && r.copies.Hidden < 1 {
		ways[len(ways)-1].refused = errors.New("the size of an expert is unknown: give --model or --expert-bytes")
	}
	return ways
}

// run replays the windows in one way.
func (r *replay) run(ctx context.Context, w *way, tick func()) error {
	at := r.start()
	for i := range r.Windows[1:] {
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
		if err := r.score(&s, &at, r.Windows[i+1]); err != nil {
			return err
		}
		if math.IsInf(s.most, 1) {
			w.steps, w.refused = nil, fmt.Errorf("on the GPUs in service experts are missing in window %d", i+1)
			return nil
		}
		w.steps = append(w.steps, s)
	}
	return nil
}

// start is the placement in force before the first window: the previous one, or expert
// after expert on the GPUs in service.
func (r *replay) start() placement.Placement {
	if r.Previous != nil {
		return *r.Previous
	}
	ask, t := r.Ask(), &r.Topology
	p := placement.Trivial(len(r.Windows[0]), r.Windows[0].Experts(), r.Replicas, t.GPUs)
	p.LayerExperts = ask.LayerExperts
	first := p.FirstSlots()
	for l, row := range p.PhysicalToLogical {
		e := 0
		for g := range t.GPUs {
			for i := first[g]; i < first[g+1]; i++ {
				if row[i] = -1; t.SpeedOf(g) > 0 && (ask.LayerReplicas == nil || e < ask.LayerReplicas[l]) {
					row[i] = e % p.ExpertsOf(l)
					e++
				}
			}
		}
	}
	return p
}

// first says whether the placement at hand before window i is none that was planned
// or given, so that nothing moves from it.
func (r *replay) first(i int) bool { return i == 0 && r.Previous == nil }

// next is the placement for the windows after window i, and fills in what it
// took to get there.
func (r *replay) next(ctx context.Context, w *way, at *placement.Placement, i int, s *step) (*placement.Placement, error) {
	s.planned, s.changes = true, !r.first(i)
	if r.first(i) || !w.ifPays {
		next, err := r.plan(ctx, w.policy, w.joint, w.follows && !r.first(i), at, i, s)
		if err != nil || r.first(i) {
			return next, err
		}
		return r.move(at, next, s, nil)
	}
	// Of few moves for the last window, and few that hold over the last windows, those
	// that gain most, or none. What is planned looks better in the windows that it
	// was made from than in the next: how much is learnt from those before.
	for c := range w.claims {
		if err := w.claims[c].check(r, r.Windows[i]); err != nil {
			return nil, err
		}
	}
	now, err := r.pastImbalance(at, i)
	if err != nil {
		return nil, err
	}
	before := w.claims[0].expect(at, now)
	var best *placement.Placement
	bestNet := 0.0
	var taken schedule.Schedule
	for c, joint := range []bool{false, true} {
		next, err := r.plan(ctx, w.policy, joint, true, at, i, s)
		if err != nil {
			return nil, err
		}
		k := r.copies.Stakes()
		k.Horizon *= float64(r.every)
		k.Weight = r.Weights
		if now, err = r.pastImbalance(next, i); err != nil {
			return nil, err
		}
		k.Before, k.After = before, w.claims[1+c].expect(next, now)
		rounds, err := r.copies.Schedule(at, next, r.Topology, r.bytes, &k)
		if err != nil {
			return nil, err
		}
		d, err := schedule.Decide(&rounds, k)
		if err != nil {
			return nil, err
		}
		if net := float64(d.GainPerStep*k.Horizon) - d.Cost; d.Move && net > bestNet {
			taken = rounds.Prefix(d.Rounds)
			to, err := taken.Apply(at, d.Rounds)
			if err != nil {
				return nil, err
			}
			best, bestNet = &to, net
		}
	}
	if best == nil {
		s.saidNo = true
		return at, nil
	}
	return r.move(at, best, s, &taken)
}

// plan plans for the windows after window i: from the last ones, jointly or from
// their sum, and from the placement in force where it follows.
func (r *replay) plan(ctx context.Context, policy eplb.Policy, joint, follows bool, at *placement.Placement, i int, s *step) (*placement.Placement, error) {
	o, p := r.Options, r.Ask()
	if o.Policy = policy; policy == eplb.DeepSeek {
		o.Locality, o.Dispatch = eplb.Auto, eplb.Even // the one that it plans for
	}
	f := track.Forecast{Past: r.every}
	if joint {
		f = track.Forecast{Past: r.past, Joint: true}
	}
	if err := f.Set(&p, r.Windows[:i+1]); err != nil {
		return nil, err
	}
	if p.Previous = at; !follows {
		p.Previous, o.Target, o.MaxMoves = nil, 0, 0
	}
	start := time.Now()
	plan, err := eplb.Plan(ctx, p, o)
	s.planSeconds += time.Since(start).Seconds()
	return &plan.Placement, err
}

// pastImbalance is each layer's imbalance under the last windows up to window i,
// their mean: what a placement is expected to have.
func (r *replay) pastImbalance(at *placement.Placement, i int) ([]float64, error) {
	past := r.Windows[max(0, i+1-max(r.past, r.every)) : i+1]
	out := make([]float64, len(at.PhysicalToLogical))
	for _, loads := range past {
		x, err := r.imbalances(at, loads)
		if err != nil {
			return nil, err
		}
		for l := range out {
			out[l] += x[l] / float64(len(past))
		}
	}
	return out, nil
}

// move counts the moves from one placement to the next and prices their
// schedule; nil = it is still to be made.
func (r *replay) move(at, next *placement.Placement, s *step, rounds *schedule.Schedule) (*placement.Placement, error) {
	if rounds == nil {
		made, err := r.copies.Schedule(at, next, r.Topology, r.bytes, &schedule.Stakes{})
		if err != nil {
			return nil, err
		}
		rounds = &made
	}
	moves, err := at.CountMoves(next)
	if err != nil {
		return nil, err
	}
	for _, n := range moves {
		s.moves += n
	}
	s.copySeconds = rounds.Seconds
	return next, nil
}

// score measures the placement on the window it is used in.
func (r *replay) score(s *step, at *placement.Placement, loads placement.Loads) (err error) {
	if s.imbalance, err = r.imbalances(at, loads); err != nil {
		return err
	}
	s.mean, s.most = figures.MeanMax(s.imbalance, loads, 1)
	k := r.copies.Stakes()
	total := 0.0
	for l, x := range s.imbalance {
		weight := 1.0
		if r.Weights != nil {
			weight = r.Weights[l]
		}
		s.slow += weight * k.Sensitivity.Slowdown(x)
		total += weight
	}
	s.slow /= max(total, math.SmallestNonzeroFloat64)
	if window := k.Horizon * k.StepSeconds; window > 0 {
		s.stall = s.copySeconds * (1 - k.Hidden) / window
	}
	return nil
}

// imbalances are those of the layers in a window.
func (r *replay) imbalances(at *placement.Placement, loads placement.Loads) ([]float64, error) {
	return figures.ImbalanceOver(at, []placement.Loads{loads}, r.Topology, r.Options.Dispatch)
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
	for _, s := range w.steps {
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
			if s.changes {
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
