package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
)

// estimateFlags are moelb estimate's flags as given.
type estimateFlags struct {
	hardware
	phase, factors   string
	nodes, gpus      int
	slots            int
	visits           visits
	placed           placed
	spread, price    float64
	published        bool
	sliced           bool
	batch            cost.Batch
	kvImbalance      float64
	requestImbalance float64
	asJSON           bool
}

func EstimateCommand(c *console.Console) *cobra.Command {
	f := &estimateFlags{}
	cmd := &cobra.Command{
		Use:   "estimate --phase decode|prefill",
		Short: "Estimate how long a step takes and what it yields",
		Long: `Estimate how long one step of one unit takes, stage by stage, and how many
tokens a second that yields, under the published schedules. What does not fit the
GPUs' memory is an error.

An imbalance is the busiest GPU against the mean of all; the busiest in
attention, in tokens and in experts are three different GPUs. The factors behind
the stages and where each comes from stand below the table. --factors tables
leaves out those that were fitted to a throughput.

--published compares the model with what others published: each system's
conditions and source, the figure, the estimate, and what remains unexplained.

--model-file and --gpu-file read one JSON object each: docs/simulation.md has
their fields.`,
		Example: `  moelb estimate --phase decode --gpu h800 --nodes 18 --batch 88 --kv 4989
  moelb estimate --phase prefill --gpu h800 --nodes 4 --tokens 16384 --prompt 4096 --hit 0.563
  moelb estimate --phase decode --model kimi-k2 --gpu gb200 --expert-bits 4 --kv-bits 8 --overlap single-batch --batch 256
  moelb estimate --published
  moelb estimate --phase decode --gpu h200 --nodes 9 --batch 256 --kv 2050 --imbalance-experts 1.1 --json`,
		Args: console.AtMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, c) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	l.StringVar(&f.phase, "phase", "", "decode or prefill")
	f.hardware.flags(cmd)
	l.BoolVar(&f.published, "published", false, "compare the model with published systems")
	l.IntVar(&f.gpus, "gpus", 0, "GPUs of the unit, where they are no whole nodes; 0 = all of --nodes")
	l.IntVar(&f.nodes, "nodes", 0, "nodes of the unit; 0 = as have --gpus, or the GPUs of a published unit: 144 for decode, 32 for prefill")
	l.BoolVar(&f.sliced, "slice-experts", false, "decode: every GPU has a slice of every expert, not whole ones: tensor parallelism of all weights, --tp is all GPUs")
	l.IntVar(&f.slots, "slots", 0, "experts a GPU and layer; 0 = as 32 redundant ones need")
	f.visits.flags(cmd)
	f.placed.flags(cmd)
	l.Float64Var(&f.price, "price-gpu-hour", 0, "dollars a GPU and hour; 0 = what is assumed of its kind")
	l.Float64Var(&f.batch.Requests, "batch", 88, "decode: requests a GPU")
	l.Float64Var(&f.batch.KV, "kv", 4989, "decode: tokens of KV a request")
	l.Float64Var(&f.batch.Queries, "mtp", 1, "decode: tokens verified a request and step")
	l.Float64Var(&f.batch.Acceptance, "acceptance", 0.85, "decode: chance that a token beyond the first is accepted")
	l.Float64Var(&f.batch.Tokens, "tokens", 16384, "prefill: new tokens a GPU and step")
	l.Float64Var(&f.batch.Prompt, "prompt", 4096, "prefill: tokens of a prompt, the cached ones too")
	l.Float64Var(&f.batch.Hit, "hit", 0, "prefill: fraction of a prompt that is cached")
	l.Float64Var(&f.spread, "spread", 0, "prefill: spread of lognormal prompts around --prompt, their mean: the deviation of the logarithm; 0 = all alike")
	l.Float64Var(&f.kvImbalance, "imbalance-kv", 1, "decode: KV tokens, max/mean")
	l.Float64Var(&f.requestImbalance, "imbalance-requests", 1, "decode: requests, max/mean")
	l.Float64Var(&f.batch.Attention, "imbalance-attention", 1, "prefill: query-key pairs, max/mean")
	l.Float64Var(&f.batch.Senders, "imbalance-tokens", 1, "prefill: new tokens, max/mean")
	l.Float64Var(&f.batch.Experts, "imbalance-experts", 1, "tokens that a GPU's experts get, max/mean")
	l.StringVar(&f.factors, "factors", "calibrated", "calibrated, or tables (nothing fitted to a throughput)")
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	return cmd
}

func gpuNames() string {
	var names []string
	for _, g := range cost.GPUs() {
		names = append(names, g.Name)
	}
	return strings.Join(names, ", ")
}

func (f *estimateFlags) run(cmd *cobra.Command, c *console.Console) error {
	if f.published {
		return f.comparison(cmd)
	}
	u, err := f.hardware.unit(cmd, c)
	if err != nil {
		return err
	}
	u.Nodes, u.GPUs, u.Slots, u.Sliced = f.nodes, f.gpus, f.slots, f.sliced
	if f.price != 0 {
		if u.GPU.USDHour = f.price; !(f.price > 0 && f.price <= 1e6) {
			return console.Usagef("--price-gpu-hour %v: between 0 and 1e6", f.price)
		}
	}
	var foreign []string
	switch f.phase {
	case "decode":
		u.Phase = cost.DecodePhase
		foreign = []string{"tokens", "prompt", "hit", "spread", "nodes-per-token", "gpus-per-token"}
		if f.sliced {
			if err := only(cmd, "--slice-experts", "every GPU has a slice of each expert, and all tokens", append([]string{"slice-experts", "phase", "nodes", "gpus", "price-gpu-hour", "batch", "kv", "mtp", "acceptance", "imbalance-kv", "imbalance-requests", "imbalance-attention", "imbalance-tokens", "factors", "json"}, hardwareFlags...)...); err != nil {
				return err
			}
		}
	case "prefill":
		u.Phase = cost.PrefillPhase
		foreign = []string{"batch", "kv", "mtp", "acceptance", "imbalance-kv", "imbalance-requests", "copies-off-node", "slice-experts"}
	default:
		return console.Usagef("--phase %.40q: decode or prefill is needed", f.phase)
	}
	for _, name := range foreign {
		if cmd.Flags().Changed(name) {
			return console.Usagef("--%s does not go with --phase %s", name, f.phase)
		}
	}
	if cmd.Flags().Changed("acceptance") && f.batch.Queries == 1 {
		return console.Usagef("--acceptance: only with --mtp above 1: of one token a step none can be refused")
	}
	switch f.factors {
	case "calibrated":
		u.Factors = cost.Calibrated()
	case "tables":
		u.Factors = cost.Tables()
	default:
		return console.Usagef("--factors %.40q: calibrated or tables", f.factors)
	}
	if u.Phase == cost.DecodePhase {
		// KV is decode's attention and requests are its tokens: either name will do.
		for _, x := range []struct {
			flag, other string
			value       float64
			at          *float64
		}{{"imbalance-kv", "imbalance-attention", f.kvImbalance, &f.batch.Attention}, {"imbalance-requests", "imbalance-tokens", f.requestImbalance, &f.batch.Senders}} {
			if cmd.Flags().Changed(x.flag) {
				if cmd.Flags().Changed(x.other) {
					return console.Usagef("--%s and --%s are one in decode: give one of them", x.flag, x.other)
				}
				*x.at = x.value
			}
		}
	}
	if u.Nodes == 0 {
		u.Nodes = publishedNodes(u.Phase, &u.GPU)
		if f.gpus > 0 {
			u.Nodes = (f.gpus-1)/u.GPU.Node + 1
		}
		if u.Nodes > cost.MaxNodes {
			return console.Usagef("--gpus: %d: at most %d nodes of %d are supported", f.gpus, cost.MaxNodes, u.GPU.Node)
		}
	}
	if f.sliced && !cmd.Flags().Changed("tp") {
		u.TP = u.Ranks()
	}
	if !(f.spread >= 0 && f.spread <= 4) {
		return console.Usagef("--spread %v: between 0 and 4", f.spread)
	}
	if f.spread > 0 {
		f.batch.PairsPerToken = cost.Spread(f.batch.Prompt, f.spread, f.batch.Hit)
	}
	if err := u.Validate(); err != nil {
		return refused(cmd, err)
	}
	if err := f.placed.count(cmd, &u, &f.visits, &f.batch.Experts); err != nil {
		return err
	}
	f.visits.set(&u)
	e, err := u.Estimate(f.batch)
	var memory *cost.MemoryError
	if errors.As(err, &memory) {
		return err
	}
	if err != nil {
		return refused(cmd, err)
	}
	b := f.table(&u, &e)
	if f.asJSON {
		if b, err = f.json(&u, &e); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

func (f *estimateFlags) table(u *cost.Unit, e *cost.Estimate) []byte {
	b := &bytes.Buffer{}
	what := fmt.Sprintf("%g requests a GPU of %g tokens, %g verified a step", f.batch.Requests, f.batch.KV, f.batch.Queries)
	if u.Phase == cost.PrefillPhase {
		what = fmt.Sprintf("%g new tokens a GPU of prompts of %g, %.4g%% cached", f.batch.Tokens, f.batch.Prompt, 100*f.batch.Hit)
	}
	fmt.Fprintf(b, "%s, %s unit of %s (%d GPUs %s, %s a GPU): %s\n\n", u.Model.Name, u.Phase, human.Plural(u.Nodes, "node"), u.Ranks(), strings.ToUpper(u.GPU.Name), human.Plural(u.SlotsEach(), "expert"), what)
	g := human.Table{}
	g.Add("stage, a layer and micro-batch", "busiest GPU", "even GPU", "times a step")
	for _, s := range e.Stages {
		even := "-"
		if s.Even > 0 {
			even = micro(s.Even)
		}
		g.Add(strings.ReplaceAll(s.Name, "_", " "), micro(s.Seconds), even, fmt.Sprint(s.Count))
	}
	g.Write(b, "  ")
	b.WriteByte('\n')
	y := human.Table{}
	y.Add("a step yields", "")
	y.Add("step", human.Duration(e.StepSeconds))
	y.Add("tokens/s a node", fmt.Sprintf("%.0f", e.TokensPerNode))
	if u.Phase == cost.PrefillPhase {
		y.Add("tokens/s a node, cached ones counted", fmt.Sprintf("%.0f", e.InputPerNode))
	} else {
		y.Add("tokens/s a request", fmt.Sprintf("%.1f", e.TokensPerRequest))
		y.Add("KV tokens a GPU (room)", fmt.Sprintf("%d (%d)", e.KVNeed, e.KVRoom))
	}
	f.visits.table(u, &y)
	y.Add(fmt.Sprintf("$ a million tokens, at $%.4g a GPU and hour", u.GPU.USDHour), fmt.Sprintf("%.4f", e.USDPerMillion))
	y.Write(b, "  ")
	fmt.Fprintf(b, "\nThe pace of a layer is set by %s.", e.Bound)
	b.WriteString("\n\n")
	t := human.Table{Left: true}
	t.Add("factor (on H800)", "value", "fitted", "source")
	fitted := []string{}
	for _, x := range u.Factors.List(u.Phase) {
		mark := ""
		if x.Fitted != "" {
			mark = "off"
			if active(x) {
				mark = "FITTED"
				fitted = append(fitted, fmt.Sprintf("%s to %s", x.Name, x.Fitted))
			}
		}
		t.Add(x.Name, quantity(x.Value, x.Unit), mark, x.Source)
	}
	t.Write(b, "  ")
	b.WriteByte('\n')
	switch {
	case len(fitted) > 0:
		fmt.Fprintf(b, "Fitted: %s. Where an estimate is compared with the figure that a factor was fitted to, it is no prediction.\n", strings.Join(fitted, "; "))
	default:
		b.WriteString("No factor was fitted to a throughput.\n")
	}
	if !u.GPU.Checked {
		fmt.Fprintf(b, "The factors are H800's, scaled by the data sheet of %s (%s).\n", strings.ToUpper(u.GPU.Name), u.GPU.Source)
		if r := u.GPU.Reach; r.Source != "" {
			fmt.Fprintf(b, "What its kernels reach of it: %s.\n", r.Source)
		}
		if r := u.GPU.Reach; r.Fitted != "" {
			fmt.Fprintf(b, "What a step reaches of its kernels is fitted to %s.\n", r.Fitted)
		}
	}
	return b.Bytes()
}

// publishedNodes is as many nodes as have the GPUs of a published unit.
func publishedNodes(phase cost.Phase, g *cost.GPU) int {
	gpus := map[cost.Phase]int{cost.PrefillPhase: 32, cost.DecodePhase: 144}[phase]
	return max(1, gpus/g.Node)
}

// active tells a fitted factor from one that is left neutral.
func active(x cost.Factor) bool { return x.Value != 0 && x.Value != 1 }

func micro(seconds float64) string { return fmt.Sprintf("%.1f µs", 1e6*seconds) }

func quantity(x float64, unit string) string {
	switch unit {
	case "FLOP/s":
		return fmt.Sprintf("%.4g TFLOP/s", x/1e12)
	case "B/s":
		return fmt.Sprintf("%.4g GB/s", x/1e9)
	case "s":
		if x < 1e-3 {
			return fmt.Sprintf("%.3g µs", x*1e6)
		}
		return fmt.Sprintf("%.3g ms", x*1e3)
	}
	return fmt.Sprintf("%.4g %s", x, unit)
}
