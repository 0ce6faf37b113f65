// Package plan is moelb plan: a problem in, a placement out, as JSON, a table, a page
// or an engine's own file.
package plan

import (
	"bytes"
	"fmt"
	"io"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/copies"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// flags are moelb plan's flags as given.
type flags struct {
	problem.Flags
	schedule bool // the moves, round by round
	copies   copies.Flags

	format          string
	firstLayer      int
	out, html       string
	asJSON, asTable bool
	chosen          formats.Format
}

func Command(c *console.Console) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "plan [FILE | -]",
		Short: "Plan the placement of experts",
		Long: `Plan which expert gets how many replicas and on which GPU each sits, so that the
load of the most loaded GPU is least.

FILE is a problem in JSON (version, loads, num_replicas, num_gpus and options),
or an engine's statistics with --gpus and --replicas: SGLang, TensorRT-LLM,
vllm-ascend, ADRS, plain JSON, CSV, NumPy; gzip is unpacked. "-" is standard
input. Flags override the problem's fields. Without any input, an example is
planned: DeepSeek-V3 on 4 nodes of 8 H800 GPUs with generated loads.

On a terminal the plan is summed up in a table; elsewhere it is written as JSON.
With tokens' experts, --routes or the field routes, experts that are chosen
together are kept on one node, as far as the balance allows: a token's copies then
travel to fewer nodes. Without loads, those of the routes are planned for. Where
tokens are too many, the field pairs says how many chose two experts together,
[layers][experts][experts].

With the placement in force, --previous, as few experts move as --target asks,
or as --max-moves allows. --schedule adds the order of the copies: rounds in
which no GPU sends or receives more than it may and no expert is without a copy,
how long they take, and whether they pay; in JSON the fields schedule, whose moves
go from slot to slot (from -1 = from outside the unit), and decision.

An interrupt, or --timeout, ends the search with the best plan so far.`,
		Example: `  moelb plan
  moelb plan problem.json > plan.json
  moelb plan stats.json --gpus 32 --nodes 4 --replicas 288 --groups 8 --out plan.json --html plan.html
  moelb plan --routes tokens.csv --gpus 32 --nodes 4 --replicas 288
  moelb plan stats.json --gpus 32 --replicas 288 --format sglang --out expert_location.json
  moelb plan stats.json --gpus 32 --replicas 288 --previous plan.json --target 1.05 --schedule`,
		Args: console.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, c, args) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	f.Shape.Add(cmd)
	l.IntVar(&f.Replicas, "replicas", 0, "slots a layer, over all GPUs")
	l.StringVar(&f.Policy, "policy", "optimal", "optimal, or deepseek: the published algorithm, array for array")
	l.StringVar(&f.Locality, "locality", "auto", "auto, groups (each group of experts on one node), or none")
	l.IntVar(&f.OffNode, "off-node-replicas", 0, "replicas a layer that may live outside their group's node")
	f.Unit.Add(cmd)
	l.StringVar(&f.Dispatch, "dispatch", "even", "how an expert's tokens are shared by its replicas: even, split per batch, or nearest: each GPU's own, else the first on its node, else evenly")
	l.StringVar(&f.Speed, "gpu-speed", "", "relative speed of each GPU, comma-separated; 0 = out of service")
	l.StringVar(&f.Previous, "previous", "", "the placement in force, a file in any known format")
	l.Float64Var(&f.Target, "target", 0, "with --previous: stop moving a layer at this imbalance; unset = 1% above the best there is")
	l.IntVar(&f.MaxMoves, "max-moves", 0, "with --previous: the most moves in all, beyond those that keep every expert alive and none twice on a GPU; unset = any number")
	l.IntVar(&f.Restarts, "restarts", 0, "with --previous: how often moves of a layer are taken back at most to look for fewer; 0 = 4, negative = never")
	l.StringVar(&f.Routes, "routes", "", "tokens' experts, to keep those chosen together on a node: a file of JSON, .npy, CSV or SGLang's per_token recorder; example = generated ones of DeepSeek-V2-Lite")
	l.Float64Var(&f.Slack, "traffic-slack", 0, "with routes: how far above its imbalance without them a layer may be; unset = 0.02")
	l.StringVar(&f.Sends, "traffic-copies", "node", "with routes: what a token sends to other nodes: a copy for each node, or for each expert, as low-latency kernels do")
	l.BoolVar(&f.schedule, "schedule", false, "with --previous: order the moves in rounds, and say whether they pay")
	f.copies.Add(cmd, "with --schedule: how many steps the plan is expected to hold")
	l.StringVar(&f.Rows, "layers", "", "plan only these rows of the loads, A-B from 0: the MoE layers")
	l.StringVar(&f.Steps, "steps", "", "plan on these steps of the loads, A:B from 0, B not among them; either may be left out")
	l.StringVar(&f.Weights, "window-weights", "", "a weight of each window of the loads, comma-separated: a window counts as its tokens times its weight, 0 = for nothing")
	l.BoolVar(&f.Sum, "sum", false, "plan on the sum of the loads' steps")
	l.IntVar(&f.Windows, "windows", 0, "plan on the last N windows of the loads; 0 = on all")
	l.Float64Var(&f.Tolerance, "tolerance", 0, "end a layer's search this near its bound, as a fraction; unset = 0.0002, negative = never")
	l.IntVar(&f.Workers, "workers", 0, "threads; 0 = all cores. The plan does not depend on it")
	l.DurationVar(&f.Timeout, "timeout", 0, "end the search after this time with the best plan so far, e.g. 500ms")
	l.BoolVar(&f.Example, "example", false, "plan the built-in example and read nothing")
	l.StringVar(&f.Model, "model", "auto", "with --previous: whose experts are moved, for their size: auto (by shape), none, "+problem.ModelNames())
	l.StringVar(&f.out, "out", "", "write the plan to this file, in one stroke; - = to standard output")
	l.StringVar(&f.format, "format", "", "write an engine's own file: "+problem.FormatNames())
	l.IntVar(&f.firstLayer, "first-layer", 0, "with --format tensorrt-llm: number of the first layer in the whole model (DeepSeek-V3: 3); unset = as in the loads")
	l.StringVar(&f.html, "html", "", "write a page with pictures to this file")
	l.BoolVar(&f.asJSON, "json", false, "print the plan even on a terminal")
	l.BoolVar(&f.asTable, "table", false, "print the table even where there is no terminal")
	return cmd
}

// run is the command: read, plan, render everything, then write.
func (f *flags) run(cmd *cobra.Command, c *console.Console, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	if cmd.Flags().Changed("first-layer") && f.chosen != formats.TensorRTLLM {
		return console.Usagef("--first-layer: only with --format %s, which numbers the layers of the whole model", formats.TensorRTLLM)
	}
	if !f.schedule {
		if err := f.copies.Only(cmd, "schedule"); err != nil {
			return err
		}
	} else if f.format != "" && f.chosen != formats.Moelb && !f.asJSON && !f.asTable && f.html == "" && !console.Terminal(c.Stdout) {
		return console.Usagef("--schedule: a file of format %s has no place for it: add --out FILE, and --json or --table for the schedule", f.chosen)
	}
	p, err := f.Read(cmd, c, args)
	if err != nil {
		return err
	}
	if n, gpus := p.Replicas, p.Topology.GPUs; evenFormats[f.chosen] && n%gpus != 0 {
		return console.Blame(cmd, p.File, wire.Bad(placement.ErrFit, "num_replicas", -1, -1, "%d on %d GPUs: format %s wants as many on every GPU: %d or %d", n, gpus, f.chosen, n/gpus*gpus, (n/gpus+1)*gpus))
	}
	ctx, release := console.Searching(cmd.Context(), f.Timeout)
	defer release()
	s, err := solve(ctx, p, f.Model, &f.copies)
	if err != nil {
		return console.Blame(cmd, p.File, err)
	}
	if f.schedule {
		if s.change, err = s.transition(&f.copies); err != nil {
			return console.Blame(cmd, p.File, err)
		}
	}
	return console.Blame(cmd, "", f.write(cmd.OutOrStdout(), c, s))
}

// evenFormats cannot say that GPUs differ in slots.
var evenFormats = map[formats.Format]bool{formats.SGLang: true, formats.VLLMAscend: true, formats.TensorRTLLM: true, formats.FastDeploy: true, formats.VLLMProposed: true}

// check refuses what can be seen to be wrong without any input.
func (f *flags) check(args []string) (err error) {
	if f.format != "" {
		if f.chosen, err = formats.ParseFormat(f.format); err != nil {
			return console.Usage(fmt.Errorf("--%w", err))
		}
	}
	if err := f.Flags.Check(args); err != nil {
		return err
	}
	switch {
	case f.asJSON && f.asTable:
		return console.Usagef("--json and --table exclude each other")
	case f.asJSON && f.format != "" && f.out == "":
		return console.Usagef("--json and --format both want standard output: give --out")
	case f.out != "" && f.html != "" && filepath.Clean(f.out) == filepath.Clean(f.html):
		return console.Usagef("--out %s and --html %s are one file: name two", f.out, f.html)
	case f.out == "-" && f.asJSON && f.format != "":
		return console.Usagef("--json and --out - both want standard output")
	}
	return f.copies.Check()
}

// write renders all that is asked for, then writes it: the plan to --out or to
// standard output, the page, and the table for people.
func (f *flags) write(stdout io.Writer, c *console.Console, s *solution) (err error) {
	var toFile, toStdout, page, table []byte
	screen := console.Terminal(c.Stdout)
	toStream := f.out == "-" && !f.asJSON
	if f.out == "-" {
		f.out = ""
	}
	if f.out != "" {
		if toFile, err = f.encode(s); err != nil {
			return err
		}
	}
	switch {
	case f.asJSON || f.out == "" && f.format == "" && !screen && !f.asTable:
		toStdout, err = s.json()
	case toStream:
		toStdout, err = f.encode(s)
	case f.format != "" && f.out == "":
		toStdout, err = f.encode(s)
	}
	if err == nil && f.html != "" {
		page, err = s.page()
	}
	if err == nil && (f.asTable || screen && !f.asJSON) {
		table, err = s.table()
	}
	if err != nil {
		return err
	}
	for _, x := range []struct {
		what, flag, path string
		content          []byte
	}{{"plan", "--out", f.out, toFile}, {"page", "--html", f.html, page}} {
		if x.path == "" {
			continue
		}
		if err := console.WriteFile(x.flag, x.path, x.content); err != nil {
			return err
		}
		if table != nil {
			table = fmt.Appendf(table, "%s written to %s\n", x.what, x.path)
		}
	}
	if toStdout == nil {
		_, err = stdout.Write(table)
		return err
	}
	if _, err := stdout.Write(toStdout); err != nil {
		return err
	}
	_, err = c.Stderr.Write(table)
	return err
}

// encode writes the plan as the contract's JSON or an engine's own file.
func (f *flags) encode(s *solution) ([]byte, error) {
	if f.format == "" || f.chosen == formats.Moelb {
		return s.json()
	}
	var b bytes.Buffer
	if err := formats.EncodePlacement(&b, f.chosen, &s.result.Placement, formats.EncodeOptions{FirstLayer: f.firstLayer, Layers: f.Numbers, Rows: f.Numbered}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
