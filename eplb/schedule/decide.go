package schedule

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Sensitivity is what the imbalance of experts costs a step: the fraction of
// throughput lost where the experts of every layer are at max/mean 1.10 and at
// 1.30, all else balanced.
type Sensitivity struct{ At110, At130 float64 }

// PrefillSensitivity is that of DeepSeek-V3's prefill unit with prompts of
// 4,096 tokens and no cached prefix, 2.7% and 8.2%, by the cost model fitted to
// the published kernel and communication benchmarks on H800. With 56% of the
// prompt cached it is 2.2% and 6.3%; with prompts of 32K too, 0.9% and 2.5%.
func PrefillSensitivity() Sensitivity { return Sensitivity{.027, .082} }

// DecodeSensitivity is that of the decode unit at 88 requests a GPU of 4,989
// tokens each, 1.8% and 5.4%, by the same model. Where two tokens a request are
// verified in a step it is 2.7% and 12.2%; at 256 requests of 2,050 tokens 7.2%
// and 18.9%; at 32 of 16K nothing: attention then hides it.
func DecodeSensitivity() Sensitivity { return Sensitivity{.018, .054} }

// Slowdown is how much longer a step takes than a balanced one, as a fraction of
// it, where the experts of every layer have this imbalance. It is linear from 1
// to 1.10, from there to 1.30, and on.
func (s Sensitivity) Slowdown(imbalance float64) float64 {
	a, b := s.At110/(1-s.At110), s.At130/(1-s.At130)
	switch {
	case imbalance <= 1:
		return 0
	case imbalance <= 1.10:
		return a * (imbalance - 1) / .10
	}
	return a + float64((b-a)*(imbalance-1.10)/.20)
}

// Stakes is what a change of placement is worth and what it may cost.
type Stakes struct {
	// StepSeconds is how long a step takes with all experts balanced.
	StepSeconds float64
	Sensitivity Sensitivity
	// Before and After are the imbalance of each layer, [layers], under the loads
	// to come: with the placement in force and with the next one. Where a schedule
	// must restore experts or empty GPUs, Before is that after those rounds:
	// Schedule.Forced. A layer of +Inf counts for nothing.
	Before, After []float64
	// Weight is how many of the tokens each layer sees, [layers], relative to the
	// others: less than 1 for a row of multi-token prediction, or one that was only
	// sampled. nil = all alike.
	Weight []float64
	// Horizon is for how many steps the next placement is expected to hold.
	Horizon float64
	// Hidden is the fraction of a schedule's seconds that run behind the steps
	// without slowing them, 0 to 1; 0 = every second of copying is a second of
	// stall.
	Hidden float64
	// Margin keeps what just pays from being done: over the horizon, the gain must
	// exceed the cost by this fraction. 0 = it must exceed it.
	Margin float64
}

// forced is how many rounds must be done, whatever they cost.
func (s *Schedule) forced() int { return max(s.Restore, s.Emptied) }

// Forced returns the placement that prev, which the schedule starts from, has
// become once the rounds are done that must be: those that restore experts and
// empty GPUs which leave. It is what the rest is weighed against, at the moment of
// a failure too. It has the GPUs and slots of both placements, and comes with the
// topology that it is to be scored on: that of New, with the GPUs that leave out of
// service.
func (s *Schedule) Forced(prev *placement.Placement, t placement.Topology) (placement.Placement, placement.Topology, error) {
	p, err := s.run(prev, 0, s.forced())
	speed := make([]float64, len(s.GPUSlots))
	for g := range speed {
		if !slices.Contains(s.Dead, g) && !slices.Contains(s.Leaving, g) {
			speed[g] = t.SpeedOf(g)
		}
	}
	t.Speed = speed
	return p, t, err
}

// Stakes returns k with what is known once a schedule from prev to next is made, at
// the moment of a failure too: Before and After are the imbalance of each layer over
// the windows of loads to come (placement.ImbalanceOver), After that of next, Before
// that of what prev has become once the rounds are done that must be. GPUs that join
// count as idle before, those that leave, or are dead, for nothing. t is that of New.
func (s *Schedule) Stakes(prev, next *placement.Placement, windows []placement.Loads, t placement.Topology, k Stakes) (Stakes, error) {
	forced, on, err := s.Forced(prev, t)
	if err != nil {
		return k, err
	}
	if k.Before, err = forced.ImbalanceOver(windows, on); err != nil {
		return k, err
	}
	k.After, err = next.ImbalanceOver(windows, placement.Topology{GPUs: next.GPUs, Speed: t.Speed[:min(next.GPUs, len(t.Speed))]})
	return k, err
}

// Decision says whether to move now, and why.
type Decision struct {
	Move bool
	// Rounds is how many of the schedule's rounds to do, Schedule.Prefix; 0 =
	// none.
	Rounds int
	// GainPerStep and Cost are in seconds, BreakEven in steps: after that many the
	// gain has paid the cost, +Inf = never. Without Move they are those of the
	// prefix that would pay soonest.
	GainPerStep, Cost, BreakEven float64
	// Reason is why, in a few words.
	Reason string

	text string
}

// String is one line with the figures.
func (d Decision) String() string { return d.text }

// Decide weighs the gain of every prefix of a schedule against its cost and
// picks the one that gains most over the horizon, if that is worth it.
//
// Gain: each layer that the prefix finishes takes its share, Weight of their sum,
// of the step's Slowdown from that of Before to that of After; layers that it does not
// finish gain nothing (Prefix leaves their moves out). Cost: the seconds of the
// prefix's rounds that are not Hidden. Rounds that restore experts without a
// copy, and that empty GPUs which leave, are always done, because the model cannot
// serve without them.
//
// It is a function of its arguments alone. Bad input is a *placement.Error, and
// so is a schedule that is not Priced unless Hidden is 1. Cost: one pass over
// the moves.
func Decide(s *Schedule, k Stakes) (Decision, error) {
	gains, err := k.gains(s)
	if err != nil {
		return Decision{}, err
	}
	never := math.Inf(1)
	if len(gains) == 0 {
		return Decision{BreakEven: never, Reason: "nothing to move", text: "nothing to move"}, nil
	}
	best, soonest := Decision{}, Decision{BreakEven: never}
	seconds, gain, bestNet := 0.0, 0.0, 0.0
	for i, r := range s.Rounds {
		seconds, gain = seconds+r.Seconds, gain+gains[i]
		d := Decision{Rounds: i + 1, GainPerStep: gain, Cost: seconds * (1 - k.Hidden), BreakEven: never}
		if gain > 0 {
			d.BreakEven = d.Cost / gain
		}
		if d.BreakEven < soonest.BreakEven || i+1 == len(gains) && soonest.Rounds == 0 {
			soonest = d
		}
		net := float64(gain*k.Horizon) - float64(d.Cost*(1+k.Margin))
		if i+1 == s.forced() || net > bestNet {
			best, bestNet = d, net
			best.Move = true
		}
	}
	d := best
	if !d.Move {
		d = soonest
	}
	switch {
	case s.Restore > 0:
		d.Reason = "experts without a copy come back"
	case s.Emptied > 0:
		d.Reason = "GPUs that leave are emptied"
	case d.Move:
		d.Reason = "it pays"
	case d.BreakEven == never:
		d.Reason = "it gains nothing"
	case d.BreakEven >= k.Horizon:
		d.Reason = "it would not pay within the horizon"
	default:
		d.Reason = "it would not pay by the margin"
	}
	pays := "never paid back"
	if d.BreakEven < never {
		pays = fmt.Sprintf("paid back after %.4g steps of %.4g", d.BreakEven, k.Horizon)
	}
	what := fmt.Sprintf("%d of %d rounds", d.Rounds, len(gains))
	figures := fmt.Sprintf("%.4g ms a step gained for %.4g ms of stall, %s", d.GainPerStep*1e3, d.Cost*1e3, pays)
	if d.text = fmt.Sprintf("move %s: %s (%s)", what, d.Reason, figures); !d.Move {
		d.Rounds, d.text = 0, fmt.Sprintf("not worth moving: %s (%s: %s)", d.Reason, what, figures)
	}
	return d, nil
}

// maxStake keeps products of stakes finite.
const maxStake = 1e15

// gains lists the seconds a step that each round gains: those of the layers that it
// finishes. It refuses what makes no sense.
func (k *Stakes) gains(s *Schedule) ([]float64, error) {
	layers, weight := len(k.Before), k.Weight
	if weight == nil {
		weight = slices.Repeat([]float64{1}, layers)
	}
	if err := cmp.Or(
		within("step_seconds", k.StepSeconds, maxStake),
		within("horizon", k.Horizon, maxStake),
		within("hidden", k.Hidden, 1),
		within("margin", k.Margin, maxStake),
		within("sensitivity", k.Sensitivity.At110, k.Sensitivity.At130),
		within("sensitivity", k.Sensitivity.At130, .99),
		refuse.Shape(len(k.After) != layers, "after", "%d layers, but before has %d", len(k.After), layers),
		refuse.Shape(len(weight) != layers, "weight", "%d layers, but before has %d", len(weight), layers),
		refuse.Value(!s.Priced && k.Hidden < 1 && len(s.Rounds) > 0, "schedule", "its seconds are not known: give the bytes of an expert and the bandwidths"),
	); err != nil {
		return nil, err
	}
	weights := 0.0
	for l, w := range weight {
		if !(w >= 0 && w <= maxStake && min(k.Before[l], k.After[l]) >= 0) || math.IsInf(k.After[l], 0) {
			return nil, refuse.At(placement.ErrValue, "imbalance", l, -1, "%v, %v, of weight %v: finite numbers ≥ 0 are needed", k.Before[l], k.After[l], w)
		}
		weights += w
	}
	last, out := s.last(), make([]float64, len(s.Rounds))
	for _, l := range slices.Sorted(maps.Keys(last)) {
		if l < 0 || l >= layers {
			return nil, refuse.Errorf(placement.ErrShape, "before", "%d layers, but the schedule moves layer %d", layers, l)
		}
		if !math.IsInf(k.Before[l], 1) {
			d := k.Sensitivity.Slowdown(k.Before[l]) - k.Sensitivity.Slowdown(k.After[l])
			out[last[l]-1] += float64(d * weight[l] / weights * k.StepSeconds)
		}
	}
	return out, refuse.Value(k.Weight != nil && weights == 0, "weight", "no layer has any")
}
