package main

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// copyFlags say how fast copies travel and what balance is worth.
type copyFlags struct {
	nvlink, rdma       float64 // GB/s
	perGPU, rdmaPerGPU int
	layersAtOnce       int
	peers              int
	stagedBytes        int64
	inPlace            bool
	outside            float64 // GB/s
	leaving            string
	expertBytes        int64
	phase              string
	stepSeconds        float64
	horizon            float64
	hidden, margin     float64
}

// phases are what a step is taken for, with how long a balanced one lasts in the
// published deployment. Prefill: 16,384 tokens a GPU at 62,713 a second and node.
// Decode: 88 requests a GPU at 14,800 tokens a second and node.
var phases = []struct {
	name        string
	stepSeconds float64
	sensitivity schedule.Sensitivity
}{
	{"decode", 88 * 8 / 14_800., schedule.DecodeSensitivity()},
	{"prefill", 16_384 * 8 / 62_713., schedule.PrefillSensitivity()},
}

func phaseNames() []string {
	out := make([]string, len(phases))
	for i, p := range phases {
		out[i] = p.name
	}
	return out
}

// add declares the flags; steps says what --horizon counts.
func (f *copyFlags) add(cmd *cobra.Command, steps string) {
	l, h800 := cmd.Flags(), placement.H800(1)
	l.Float64Var(&f.nvlink, "nvlink", h800.NVLink/1e9, "usable NVLink of a GPU in GB/s and direction; the default is H800's")
	l.Float64Var(&f.rdma, "rdma", h800.RDMA/1e9, "usable RDMA of a GPU in GB/s and direction; the default is H800's")
	l.IntVar(&f.perGPU, "copies-per-gpu", 4, "experts that a GPU sends, and receives, in one round of a schedule")
	l.IntVar(&f.rdmaPerGPU, "rdma-copies-per-gpu", 1, "how many of them over RDMA; 0 = all")
	l.IntVar(&f.peers, "peers-per-gpu", 0, "GPUs that a GPU sends to, and receives from, in one round; 0 = any number")
	l.IntVar(&f.layersAtOnce, "layers-at-once", 0, "layers that a round may leave half-moved; 0 = 8, or as many as a short schedule wants")
	l.Int64Var(&f.stagedBytes, "staged-bytes", 0, "bytes that a GPU can stage in one round; 0 = any number")
	l.BoolVar(&f.inPlace, "in-place", false, "the copies of a round run in their order, straight into their slots; only cycles are staged")
	l.Float64Var(&f.outside, "outside", 0, "GB/s at which a GPU reads experts that no GPU holds from host memory or disk; 0 = over RDMA")
	l.StringVar(&f.leaving, "leaving", "", "GPUs out of service (speed 0) whose memory can still be read, comma-separated")
	l.Int64Var(&f.expertBytes, "expert-bytes", 0, "bytes of an expert's weights in one layer; 0 = those of --model")
	l.StringVar(&f.phase, "phase", "decode", "what imbalance costs a step, by the published deployment: decode or prefill")
	l.Float64Var(&f.stepSeconds, "step-seconds", 0, "how long a balanced step takes; 0 = the published one of the phase, 0.0476 or 2.09")
	l.Float64Var(&f.horizon, "horizon", 1000, steps)
	l.Float64Var(&f.hidden, "hidden", 0, "the fraction of the copying that slows no step down, 0 to 1")
	l.Float64Var(&f.margin, "margin", 0, "by which fraction the gain must exceed the cost")
}

// check refuses what makes no sense in any schedule.
func (f *copyFlags) check() error {
	for _, x := range []struct {
		flag        string
		value       float64
		least, most float64
	}{
		{"nvlink", f.nvlink, 1e-3, 1e6}, {"rdma", f.rdma, 1e-3, 1e6}, {"step-seconds", f.stepSeconds, 0, 1e6},
		{"horizon", f.horizon, 0, 1e12}, {"hidden", f.hidden, 0, 1}, {"margin", f.margin, 0, 1e6},
		{"copies-per-gpu", float64(f.perGPU), 1, placement.MaxSlots}, {"rdma-copies-per-gpu", float64(f.rdmaPerGPU), 0, placement.MaxSlots},
		{"layers-at-once", float64(f.layersAtOnce), 0, placement.MaxLayers}, {"peers-per-gpu", float64(f.peers), 0, placement.MaxGPUs},
		{"staged-bytes", float64(f.stagedBytes), 0, 1 << 50}, {"outside", f.outside, 0, 1e6}, {"expert-bytes", float64(f.expertBytes), 0, 1 << 36},
	} {
		if !(x.value >= x.least && x.value <= x.most) {
			return usagef("--%s %v: between %v and %v are possible", x.flag, x.value, x.least, x.most)
		}
	}
	if _, err := choice("--phase", f.phase, phaseNames()); err != nil {
		return usageError{err}
	}
	return nil
}

// stakes are what the phase makes of the flags.
func (f *copyFlags) stakes() schedule.Stakes {
	i, _ := choice("--phase", f.phase, phaseNames())
	k := schedule.Stakes{StepSeconds: f.stepSeconds, Sensitivity: phases[i].sensitivity, Horizon: f.horizon, Hidden: f.hidden, Margin: f.margin}
	if k.StepSeconds == 0 {
		k.StepSeconds = phases[i].stepSeconds
	}
	return k
}

// bytes is the size of one expert in one layer, 0 = unknown.
func (f *copyFlags) bytes(m *placement.Model) int64 {
	if f.expertBytes == 0 && m != nil {
		return m.ExpertBytes()
	}
	return f.expertBytes
}

// schedule orders the copies from one placement to another, the layers first
// whose steps gain most. k holds the imbalance of each layer before and after;
// without it layers go in order.
func (f *copyFlags) schedule(from, to *placement.Placement, t placement.Topology, bytes int64, k *schedule.Stakes) (schedule.Schedule, error) {
	t.NVLink, t.RDMA = f.nvlink*1e9, f.rdma*1e9
	o := schedule.Options{
		ExpertBytes: bytes, PerGPU: f.perGPU, RDMAPerGPU: f.rdmaPerGPU, LayersAtOnce: f.layersAtOnce,
		PeersPerGPU: f.peers, StagedBytes: f.stagedBytes, InPlace: f.inPlace, Outside: f.outside * 1e9,
	}
	var err error
	if o.Leaving, err = listOf("--leaving", f.leaving); err != nil {
		return schedule.Schedule{}, err
	}
	for l := range k.Before {
		gain := 0.0 // of a layer that lacks experts nothing is known
		if !math.IsInf(k.Before[l], 1) {
			gain = k.Sensitivity.Slowdown(k.Before[l]) - k.Sensitivity.Slowdown(k.After[l])
			if k.Weight != nil {
				gain *= k.Weight[l]
			}
		}
		o.Worth = append(o.Worth, gain)
	}
	return schedule.New(from, to, t, o)
}

// transition is how a plan is reached from the placement in force, and whether
// it should be.
type transition struct {
	schedule schedule.Schedule
	stakes   schedule.Stakes
	decision *schedule.Decision // nil = the schedule has no price

	copyMilliseconds [2]float64 // of one copy over NVLink and over RDMA
}

// transition schedules the moves of a plan and weighs them.
func (s *solution) transition(f *copyFlags) (*transition, error) {
	if s.previous == nil {
		return nil, wire.Bad(placement.ErrShape, "schedule", -1, -1, "only with previous: there is nothing to move from")
	}
	x := &transition{stakes: f.stakes()}
	x.copyMilliseconds = [2]float64{float64(s.bytes) / f.nvlink / 1e6, float64(s.bytes) / f.rdma / 1e6}
	x.stakes.After, x.stakes.Weight = s.each(imbalanceOf), s.weights
	unit := s.topology.Extend(s.previous.GPUs)
	var err error
	if s.previous.GPUs == unit.GPUs && unit.GPUs == s.topology.GPUs {
		if x.stakes.Before, err = s.imbalanceOn(s.previous, unit); err != nil {
			return nil, err
		}
	}
	if x.schedule, err = f.schedule(s.previous, &s.result.Placement, unit, s.bytes, &x.stakes); err != nil {
		return nil, err
	}
	forced, on, err := x.schedule.Forced(s.previous, unit)
	if err != nil {
		return nil, err
	}
	if x.stakes.Before, err = s.imbalanceOn(&forced, on); err != nil {
		return nil, err
	}
	if x.schedule.Priced || len(x.schedule.Rounds) == 0 || f.hidden == 1 {
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

// json writes the members "schedule" and "decision". Slots are those of
// physical_to_logical_map; from -1 = from outside the unit, expert -1 = emptied.
func (x *transition) json(e *wire.Encoder) error {
	text, err := x.schedule.MarshalJSON()
	if err != nil {
		return err
	}
	e.Field("schedule")
	e.Raw(string(text))
	e.Field("decision")
	if x.decision == nil {
		e.Raw("null")
		return nil
	}
	d := x.decision
	e.Raw(`{"move":`)
	if d.Move {
		e.Raw("true")
	} else {
		e.Raw("false")
	}
	e.Field("rounds")
	e.Int(int64(d.Rounds))
	e.Field("gain_seconds_per_step")
	e.Float(d.GainPerStep)
	e.Field("cost_seconds")
	e.Float(d.Cost)
	e.Field("break_even_steps")
	if math.IsInf(d.BreakEven, 1) {
		e.Raw("null")
	} else {
		e.Float(d.BreakEven)
	}
	e.Field("horizon_steps")
	e.Float(x.stakes.Horizon)
	e.Field("reason")
	e.Quote(d.Reason)
	e.Field("text")
	e.Quote(d.String())
	e.Raw("}")
	return nil
}
