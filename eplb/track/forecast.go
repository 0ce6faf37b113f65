package track

import (
	"cmp"
	"context"
	"math"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Forecast says what the next window is expected to look like, given those
// before it; its zero value is like the last one.
type Forecast struct {
	// Past is how many of the last windows count; 0 = 1. Where there are fewer,
	// all do.
	Past int
	// Joint plans over these windows, as eplb.Problem.Windows; else over their sum.
	Joint bool
	// HalfLife is the age, in windows, at which a window counts half as much in
	// the sum; 0 = all count alike. Not with Joint.
	HalfLife float64
}

// leastHalfLife keeps the weights of windows in range; it is as good as no past.
const leastHalfLife = 0.01

// Set makes p the problem of planning for the window after past, which is
// oldest first and not empty. It may keep what past holds, and changes none of it.
func (f Forecast) Set(p *eplb.Problem, past []placement.Loads) error {
	if err := cmp.Or(
		refuse.Value(f.Past < 0, "past", "%d is negative", f.Past),
		refuse.Value(f.HalfLife != 0 && !(f.HalfLife >= leastHalfLife && f.HalfLife <= math.MaxFloat64), "half_life", "%v: 0, or a finite number ≥ %v, is needed", f.HalfLife, leastHalfLife),
		refuse.Value(f.HalfLife > 0 && f.Joint, "half_life", "windows planned jointly all count alike"),
		refuse.Shape(len(past) == 0, "loads", "no windows"),
	); err != nil {
		return err
	}
	past = past[max(0, len(past)-max(f.Past, 1)):]
	p.Loads, p.Windows = past[0], nil
	if f.Joint {
		p.Loads, p.Windows = nil, past
	}
	if f.Joint || len(past) == 1 {
		return nil
	}
	sum, keep := placement.NewLoads(len(past[0]), past[0].Experts()), 1.0
	if f.HalfLife > 0 {
		keep = halved(1 / f.HalfLife)
	}
	for _, w := range past {
		for _, row := range sum {
			for e := range row {
				row[e] = float64(row[e] * keep)
			}
		}
		if err := sum.AddWindow(w); err != nil {
			return err
		}
	}
	p.Loads = sum
	return nil
}

// Backtest scores forecasts by the imbalance they cause: before each window but
// the first it plans p as f says from the windows before it, and scores the plan
// on that window, tokens split evenly. p's own loads are not used. It returns
// the mean imbalance over the layers for every window but the first,
// [len(windows)-1], or as many as were scored before ctx ended.
func Backtest(ctx context.Context, p eplb.Problem, o eplb.Options, f Forecast, windows []placement.Loads) ([]float64, error) {
	var out []float64
	for i := 1; i < len(windows) && ctx.Err() == nil; i++ {
		if err := f.Set(&p, windows[:i]); err != nil {
			return out, err
		}
		plan, err := eplb.Plan(ctx, p, o)
		if err != nil {
			return out, err
		}
		layers, err := plan.Placement.ImbalanceOver(windows[i:i+1], p.Topology)
		if err != nil {
			return out, err
		}
		sum := 0.0
		for _, x := range layers {
			sum += x
		}
		out = append(out, sum/float64(len(layers)))
	}
	return out, nil
}

// halved is 1/2 to the x, for x ≥ 0, alike on every platform, which math.Exp2 does not
// promise: a product of square roots, each rounded once.
func halved(x float64) float64 {
	y, root := 1.0, .5
	for ; x > 0; x *= 2 {
		for ; x >= 1; x-- {
			y *= root
		}
		root = math.Sqrt(root)
	}
	return y
}
