// Package copies holds the flags of how fast experts' copies travel and what balance
// is worth, and schedules by them.
package copies

import (
	"math"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/placement"
)

// Flags say how fast copies travel and what balance is worth.
type Flags struct {
	NVLink, RDMA       float64 // GB/s
	perGPU, rdmaPerGPU int
	layersAtOnce       int
	peers              int
	stagedBytes        int64
	inPlace            bool
	outside            float64 // GB/s
	leaving            string
	expertBytes        int64
	Phase              string
	stepSeconds        float64
	horizon            float64
	Hidden, margin     float64
	names              []string // of all flags that only a schedule asks for
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

// Add declares the flags; steps says what --horizon counts.
func (f *Flags) Add(cmd *cobra.Command, steps string) {
	l, h800 := pflag.NewFlagSet("", pflag.ContinueOnError), placement.H800(1)
	l.Float64Var(&f.NVLink, "nvlink", h800.NVLink/1e9, "usable NVLink of a GPU in GB/s and direction; the default is H800's")
	l.Float64Var(&f.RDMA, "rdma", h800.RDMA/1e9, "usable RDMA of a GPU in GB/s and direction; the default is H800's")
	l.IntVar(&f.perGPU, "copies-per-gpu", 4, "experts that a GPU sends, and receives, in one round of a schedule")
	l.IntVar(&f.rdmaPerGPU, "rdma-copies-per-gpu", 1, "how many of them over RDMA; 0 = all")
	l.IntVar(&f.peers, "peers-per-gpu", 0, "GPUs that a GPU sends to, and receives from, in one round; 0 = any number")
	l.IntVar(&f.layersAtOnce, "layers-at-once", 0, "layers that a round may leave half-moved; 0 = 8, or as many as a short schedule wants")
	l.Int64Var(&f.stagedBytes, "staged-bytes", 0, "bytes that a GPU can stage in one round; 0 = any number")
	l.BoolVar(&f.inPlace, "in-place", false, "the copies of a round run in their order, straight into their slots; only cycles are staged")
	l.Float64Var(&f.outside, "outside", 0, "GB/s at which a GPU reads experts that no GPU holds from host memory or disk; 0 = over RDMA")
	l.StringVar(&f.leaving, "leaving", "", "GPUs out of service (speed 0) whose memory can still be read, comma-separated")
	l.SortFlags = false
	l.StringVar(&f.Phase, "phase", "decode", "what imbalance costs a step, by the published deployment: decode or prefill")
	l.Float64Var(&f.stepSeconds, "step-seconds", 0, "how long a balanced step takes; 0 = the published one of the phase, 0.0476 or 2.09")
	l.Float64Var(&f.horizon, "horizon", 1000, steps)
	l.Float64Var(&f.Hidden, "hidden", 0, "the fraction of the copying that slows no step down, 0 to 1")
	l.Float64Var(&f.margin, "margin", 0, "by which fraction the gain must exceed the cost")
	l.VisitAll(func(x *pflag.Flag) { f.names = append(f.names, x.Name) })
	cmd.Flags().AddFlagSet(l)
	cmd.Flags().Int64Var(&f.expertBytes, "expert-bytes", 0, "bytes of an expert's weights in one layer; 0 = those of --model")
}

// Only refuses the flags that nothing asks for without another one.
func (f *Flags) Only(cmd *cobra.Command, with string) error {
	for _, name := range f.names {
		if cmd.Flags().Changed(name) {
			return console.Usagef("--%s: only with --%s", name, with)
		}
	}
	return nil
}

// Check refuses what makes no sense in any schedule.
func (f *Flags) Check() error {
	for _, x := range []struct {
		flag        string
		value       float64
		least, most float64
	}{
		{"nvlink", f.NVLink, 1e-3, 1e6}, {"rdma", f.RDMA, 1e-3, 1e6}, {"step-seconds", f.stepSeconds, 0, 1e6},
		{"horizon", f.horizon, 0, 1e12}, {"hidden", f.Hidden, 0, 1}, {"margin", f.margin, 0, 1e6},
		{"copies-per-gpu", float64(f.perGPU), 1, placement.MaxSlots}, {"rdma-copies-per-gpu", float64(f.rdmaPerGPU), 0, placement.MaxSlots},
		{"layers-at-once", float64(f.layersAtOnce), 0, placement.MaxLayers}, {"peers-per-gpu", float64(f.peers), 0, placement.MaxGPUs},
		{"staged-bytes", float64(f.stagedBytes), 0, 1 << 50}, {"outside", f.outside, 0, 1e6}, {"expert-bytes", float64(f.expertBytes), 0, 1 << 36},
	} {
		if !(x.value >= x.least && x.value <= x.most) {
			return console.Usagef("--%s %v: between %v and %v are possible", x.flag, x.value, x.least, x.most)
		}
	}
	if _, err := problem.Choice("--phase", f.Phase, phaseNames()); err != nil {
		return console.Usage(err)
	}
	return nil
}

// Stakes are what the phase makes of the flags.
func (f *Flags) Stakes() schedule.Stakes {
	i, _ := problem.Choice("--phase", f.Phase, phaseNames())
	k := schedule.Stakes{StepSeconds: f.stepSeconds, Sensitivity: phases[i].sensitivity, Horizon: f.horizon, Hidden: f.Hidden, Margin: f.margin}
	if k.StepSeconds == 0 {
		k.StepSeconds = phases[i].stepSeconds
	}
	return k
}

// Bytes is the size of one expert in one layer, 0 = unknown.
func (f *Flags) Bytes(m *placement.Model) int64 {
	if f.expertBytes == 0 && m != nil {
		return m.ExpertBytes()
	}
	return f.expertBytes
}

// Schedule orders the copies from one placement to another, the layers first
// whose steps gain most. k holds the imbalance of each layer before and after;
// without it layers go in order.
func (f *Flags) Schedule(from, to *placement.Placement, t placement.Topology, bytes int64, k *schedule.Stakes) (schedule.Schedule, error) {
	t.NVLink, t.RDMA = f.NVLink*1e9, f.RDMA*1e9
	o := schedule.Options{
		ExpertBytes: bytes, PerGPU: f.perGPU, RDMAPerGPU: f.rdmaPerGPU, LayersAtOnce: f.layersAtOnce,
		PeersPerGPU: f.peers, StagedBytes: f.stagedBytes, InPlace: f.inPlace, Outside: f.outside * 1e9,
	}
	var err error
	if o.Leaving, err = problem.ListOf("--leaving", f.leaving); err != nil {
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
