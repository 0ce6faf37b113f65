package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// planFlags are moelb plan's flags as given.
type planFlags struct {
	shape
	policy, locality, dispatch string
	offNode                    int
	unit                       unitFlags
	speed                      string
	previous                   string
	target                     float64
	maxMoves, restarts         int
	tolerance                  float64
	workers                    int
	timeout                    time.Duration
	example                    bool
	anyReplicas                bool // the caller sets its own numbers of replicas
	replays                    bool // the caller plans window after window, and looks after the moves itself

	routes string
	slack  float64

	schedule bool // the moves, round by round
	copies   copyFlags

	model           string
	format          string
	firstLayer      int
	steps           string // --steps
	sum             bool
	rows            string // --layers
	numbers         []int  // of the layers, where they do not count from 0 or a format's file needs them
	numbered        int    // layers of the statistics
	out, html       string
	outGiven        bool
	asJSON, asTable bool
	chosen          formats.Format
	windows         int
}

// shape are the flags that complete statistics to a problem; size has them too.
type shape struct{ gpus, nodes, replicas, groups int }

func planCommand(c *console) *cobra.Command {
	f := &planFlags{}
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
travel to fewer nodes. Without loads, those of the routes are planned for.

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
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, c, args) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	f.shape.add(cmd)
	l.IntVar(&f.replicas, "replicas", 0, "slots a layer, over all GPUs")
	l.StringVar(&f.policy, "policy", "optimal", "optimal, or deepseek: the published algorithm, array for array")
	l.StringVar(&f.locality, "locality", "auto", "auto, groups (each group of experts on one node), or none")
	l.IntVar(&f.offNode, "off-node-replicas", 0, "replicas a layer that may live outside their group's node")
	f.unit.add(cmd)
	l.StringVar(&f.dispatch, "dispatch", "even", "how an expert's tokens are shared by its replicas: even, split per batch, or nearest: each GPU's own, else the first on its node, else evenly")
	l.StringVar(&f.speed, "gpu-speed", "", "relative speed of each GPU, comma-separated; 0 = out of service")
	l.StringVar(&f.previous, "previous", "", "the placement in force, a file in any known format")
	l.Float64Var(&f.target, "target", 0, "with --previous: stop moving a layer at this imbalance; unset = 1% above the best there is")
	l.IntVar(&f.maxMoves, "max-moves", 0, "with --previous: the most moves in all, beyond those that keep every expert alive; unset = any number")
	l.IntVar(&f.restarts, "restarts", 0, "with --previous: random searches a layer for fewer moves; 0 = 8, negative = none")
	l.StringVar(&f.routes, "routes", "", "tokens' experts, to keep those chosen together on a node: a file of JSON, .npy, CSV or SGLang's per_token recorder; example = generated ones of DeepSeek-V2-Lite")
	l.Float64Var(&f.slack, "traffic-slack", 0, "with routes: how far above its imbalance without them a layer may be; unset = 0.02")
	l.BoolVar(&f.schedule, "schedule", false, "with --previous: order the moves in rounds, and say whether they pay")
	f.copies.add(cmd, "with --schedule: how many steps the plan is expected to hold")
	l.StringVar(&f.rows, "layers", "", "plan only these rows of the loads, A-B from 0: the MoE layers")
	l.StringVar(&f.steps, "steps", "", "plan on these steps of the loads, A:B from 0, B not among them; either may be left out")
	l.BoolVar(&f.sum, "sum", false, "plan on the sum of the loads' steps")
	l.IntVar(&f.windows, "windows", 0, "plan on the last N windows of the loads; 0 = on all")
	l.Float64Var(&f.tolerance, "tolerance", 0, "end a layer's search this near its bound, as a fraction; unset = 0.0002, negative = never")
	l.IntVar(&f.workers, "workers", 0, "threads; 0 = all cores. The plan does not depend on it")
	l.DurationVar(&f.timeout, "timeout", 0, "end the search after this time with the best plan so far, e.g. 500ms")
	l.BoolVar(&f.example, "example", false, "plan the built-in example and read nothing")
	l.StringVar(&f.model, "model", "auto", "whose experts are moved, for their size: auto (by shape), none, "+modelNames())
	l.StringVar(&f.out, "out", "", "write the plan to this file, in one stroke; - = to standard output")
	l.StringVar(&f.format, "format", "", "write an engine's own file: "+formatNames())
	l.IntVar(&f.firstLayer, "first-layer", 0, "number of the first layer, where a format numbers layers absolutely (DeepSeek-V3: 3); unset = as in the loads")
	l.StringVar(&f.html, "html", "", "write a page with pictures to this file")
	l.BoolVar(&f.asJSON, "json", false, "print the plan even on a terminal")
	l.BoolVar(&f.asTable, "table", false, "print the table even where there is no terminal")
	return cmd
}

func (f *shape) add(cmd *cobra.Command) {
	l := cmd.Flags()
	l.IntVar(&f.gpus, "gpus", 0, "GPUs in all")
	l.IntVar(&f.nodes, "nodes", 1, "nodes that share the GPUs evenly")
	l.IntVar(&f.groups, "groups", 1, "groups of experts that are routed together")
}

func modelNames() string {
	var names []string
	for _, m := range placement.Models() {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

func formatNames() string {
	var names []string
	for _, f := range formats.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// run is the command: read, plan, render everything, then write.
func (f *planFlags) run(cmd *cobra.Command, c *console, args []string) error {
	f.outGiven = cmd.Flags().Changed("out")
	if err := f.check(args); err != nil {
		return err
	}
	if err := f.copies.check(); err != nil {
		return err
	}
	p, err := f.read(cmd, c, args)
	if err != nil {
		return err
	}
	if n, gpus := p.replicas, p.topology.GPUs; evenFormats[f.chosen] && n%gpus != 0 {
		return wire.Bad(placement.ErrFit, "num_replicas", -1, -1, "%d on %d GPUs: format %s wants as many on every GPU: %d or %d", n, gpus, f.chosen, n/gpus*gpus, (n/gpus+1)*gpus)
	}
	ctx, release := searching(cmd.Context(), f.timeout)
	defer release()
	s, err := solve(ctx, p, f.model, &f.copies)
	if err != nil {
		return named(p.file, err)
	}
	if f.schedule {
		if s.change, err = s.transition(&f.copies); err != nil {
			return err
		}
	}
	return f.write(cmd.OutOrStdout(), c, s)
}

// evenFormats cannot say that GPUs differ in slots.
var evenFormats = map[formats.Format]bool{formats.SGLang: true, formats.VLLMAscend: true, formats.TensorRTLLM: true, formats.FastDeploy: true}

// check refuses what can be seen to be wrong without any input.
func (f *planFlags) check(args []string) (err error) {
	if f.format != "" {
		if f.chosen, err = formats.ParseFormat(f.format); err != nil {
			return usageError{err}
		}
	}
	if _, err := findModel(f.model, 0, 0); err != nil {
		return err
	}
	for _, x := range []struct {
		flag, value string
		names       []string
	}{{"policy", f.policy, policies}, {"locality", f.locality, localities}, {"dispatch", f.dispatch, dispatches}} {
		if _, err := choice("--"+x.flag, x.value, x.names); err != nil {
			return usageError{err}
		}
	}
	switch {
	case f.example && f.routes != "":
		return usagef("--example reads nothing: --routes %q is one input too many", f.routes)
	case f.example && len(args) > 0:
		return usagef("--example reads nothing: %q is one input too many", args[0])
	case f.asJSON && f.asTable:
		return usagef("--json and --table exclude each other")
	case f.asJSON && f.format != "" && f.out == "":
		return usagef("--json and --format both want standard output: give --out")
	case f.out == "" && f.outGiven:
		return usagef("--out: a file name is needed, or - for standard output")
	case f.out == "-" && f.asJSON && f.format != "":
		return usagef("--json and --out - both want standard output")
	case f.timeout < 0:
		return usagef("--timeout %v is negative", f.timeout)
	case f.windows < 0:
		return usagef("--windows %d is negative", f.windows)
	case f.workers < 0:
		return usagef("--workers %d is negative", f.workers)
	case math.IsNaN(f.tolerance):
		return usagef("--tolerance %v is not a number", f.tolerance)
	}
	return nil
}

// The names that tell a problem from an engine's statistics by its first field.
var (
	problemFields = append([]string{"version", "loads", "num_replicas", "num_groups", "num_nodes", "num_gpus", "policy", "locality", "off_node_replicas", "dispatch", "gpu_speed", "previous", "target", "max_moves", "routes", "traffic_slack"}, unitNames...)
	statsFields   = []string{"logical_count", "rank", "average_utilization_rate_over_window", "physical_to_logical_map", // SGLang
		"load_history",                                                                                                       // ADRS
		"tokens_per_expert_stats_list", "ep_rank_to_expert_id_list", "expert_id_to_ep_rank_array", "expert_in_rank_num_list", // FastDeploy
		"counts", "step", "domain", "token_start", "tokens", "timestamp", "window"} // JSON Lines
)

// read reads the input, whatever it is, and lets the flags override it.
func (f *planFlags) read(cmd *cobra.Command, c *console, args []string) (*problem, error) {
	var in *input
	if !f.example {
		var err error
		if in, err = c.open(args); err != nil {
			return nil, err
		}
	}
	var given fields
	source := ""
	switch {
	case in == nil && f.replays:
		given, source = driftFields(), "generated drift of DeepSeek-V3"
	case in == nil && f.routes == exampleRoutes:
		given, source = routedFields(), "generated tokens of DeepSeek-V2-Lite"
	case in == nil && f.routes != "":
		given, source = fields{version: 1, maxMoves: -1}, f.routes
	case in == nil:
		given, source = exampleFields(), "generated loads of DeepSeek-V3"
	default:
		var err error
		given, source, err = in.fields(cmd.Flags().Changed("gpus"))
		if f.routes != "" && len(args) == 0 && errors.Is(err, errEmpty) { // a pipe that nobody fills
			given, source, err = fields{version: 1, maxMoves: -1}, f.routes, nil
			if f.routes == exampleRoutes {
				given, source = routedFields(), "generated tokens of DeepSeek-V2-Lite"
			}
		}
		if err != nil {
			in.close()
			return nil, err
		}
		if err := in.close(); err != nil {
			return nil, err
		}
		if n := given.steps; n > 1 {
			fmt.Fprintf(c.stderr, "moelb: %s: a long recording: every %d of its steps are added up\n", in.name(), n)
		}
		if given.note != "" {
			fmt.Fprintf(c.stderr, "moelb: %s: %s\n", in.name(), given.note)
		}
	}
	if err := f.selectSteps(&given); err != nil {
		return nil, named(in.named(), err)
	}
	if err := f.selectLayers(cmd, &given); err != nil {
		return nil, named(in.named(), err)
	}
	if err := f.override(cmd, &given, in); err != nil {
		return nil, err
	}
	if err := f.overrideRoutes(cmd, &given); err != nil {
		return nil, err
	}
	if f.anyReplicas && given.replicas == 0 && given.loads != nil {
		given.replicas = given.loads[0].Experts()
	}
	if f.replays {
		given.hasPrevious, given.hasTarget, given.hasMax = false, false, false
	}
	p, err := given.build()
	if err != nil {
		return nil, named(in.named(), err)
	}
	p.file = in.named()
	if n := f.windows; n > 0 && n < len(p.windows) {
		p.windows = p.windows[len(p.windows)-n:]
	}
	p.source = source
	if cmd.Flags().Changed("tolerance") && f.tolerance == 0 {
		f.tolerance = math.SmallestNonzeroFloat64 // to the planner 0 is unset
	}
	p.options.Tolerance, p.options.Workers, p.options.Restarts = f.tolerance, f.workers, f.restarts
	return p, nil
}

// fields reads a problem, or the loads of an engine's statistics. An object
// that starts with a field of neither is taken for statistics if those are
// expected, and for a problem with a wrong field elsewhere.
func (in *input) fields(statsExpected bool) (f fields, source string, err error) {
	if in.r != nil {
		first, name := in.firstField()
		switch {
		case first == 0:
			return f, "", fmt.Errorf("%s: %w", in.name(), errEmpty)
		case first == '{' && !slices.Contains(statsFields, name) && (!statsExpected || slices.Contains(problemFields, name)):
			f, err = readProblem(wire.NewScanner(in.r))
			return f, in.name(), named(in.name(), err)
		}
	}
	stats, err := in.stats()
	if err != nil {
		return f, "", err
	}
	return fields{loads: stats.Windows, steps: stats.Steps, note: stats.Note, layers: stats.Layers, maxMoves: -1}, fmt.Sprintf("%s (%s)", in.name(), stats.Format), nil
}

// stats reads an engine's statistics.
func (in *input) stats() (s formats.Stats, err error) {
	if in.whole {
		return formats.ReadStats(in.path)
	}
	if s, err = formats.DecodeStats(in.r); err != nil {
		err = fmt.Errorf("%s: %w", in.name(), err)
	}
	return s, err
}

// exampleFields is the built-in example: the published prefill unit.
func exampleFields() fields {
	m, t := placement.DeepSeekV3(), placement.PrefillUnit()
	return fields{version: 1, loads: []placement.Loads{workload.Experts(m, 1)}, replicas: m.Experts + 32, groups: m.Groups, nodes: t.Nodes, gpus: t.GPUs, maxMoves: -1}
}

// override lets the flags that were given stand in for the problem's fields.
func (f *planFlags) override(cmd *cobra.Command, given *fields, in *input) error {
	set := cmd.Flags().Changed
	for _, x := range []struct {
		flag string
		from int
		to   *int
		min  int
		most int
	}{
		{"gpus", f.gpus, &given.gpus, 1, placement.MaxGPUs}, {"nodes", f.nodes, &given.nodes, 1, placement.MaxGPUs},
		{"replicas", f.replicas, &given.replicas, 1, placement.MaxSlots}, {"groups", f.groups, &given.groups, 1, placement.MaxExperts},
		{"off-node-replicas", f.offNode, &given.offNode, 0, placement.MaxSlots}, {"max-moves", f.maxMoves, &given.maxMoves, 0, math.MaxInt32},
	} {
		if !set(x.flag) || f.replays && x.flag == "max-moves" {
			continue
		}
		if x.from < x.min || x.from > x.most {
			return usagef("--%s %d: between %d and %d are possible", x.flag, x.from, x.min, x.most)
		}
		*x.to = x.from
	}
	for _, x := range []struct {
		flag, from string
		to         *string
	}{{"policy", f.policy, &given.policy}, {"locality", f.locality, &given.locality}, {"dispatch", f.dispatch, &given.dispatch}} {
		if set(x.flag) {
			*x.to = x.from
		}
	}
	if err := f.unit.override(cmd, &given.unit); err != nil {
		return err
	}
	if !f.replays {
		given.hasMax = given.hasMax || set("max-moves")
		if set("target") {
			given.hasTarget, given.target = true, f.target
		}
	}
	if f.speed != "" {
		given.speed = nil
		for i, text := range strings.Split(f.speed, ",") {
			v, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
			if err != nil {
				return usagef("--gpu-speed: entry %d, %q, is not a number", i, text)
			}
			given.speed = append(given.speed, v)
		}
	}
	if given.version == 0 { // statistics, which say nothing about the unit
		for _, x := range []struct {
			field, flag string
			missing     bool
		}{{"num_gpus", "gpus", given.gpus == 0}, {"num_replicas", "replicas", given.replicas == 0 && !f.anyReplicas}} {
			if x.missing {
				return wire.Bad(placement.ErrShape, x.field, -1, -1, "missing: %s holds statistics, so --%s is needed", in.name(), x.flag)
			}
		}
	}
	if f.previous != "" {
		// The file may be that of a unit of another size, if it says so.
		b, err := formats.ReadPlacement(f.previous, 0)
		if err != nil {
			b, err = formats.ReadPlacement(f.previous, given.gpus)
		}
		if err != nil {
			return fmt.Errorf("previous: %w", err)
		}
		given.hasPrevious, given.previousPlacement = true, &b
	}
	return nil
}

// write renders all that is asked for, then writes it: the plan to --out or to
// standard output, the page, and the table for people.
func (f *planFlags) write(stdout io.Writer, c *console, s *solution) (err error) {
	var toFile, toStdout, page, table []byte
	screen := terminal(c.stdout)
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
		what, path string
		content    []byte
	}{{"plan", f.out, toFile}, {"page", f.html, page}} {
		if x.path == "" {
			continue
		}
		if err := writeFile(x.path, x.content); err != nil {
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
	_, err = c.stderr.Write(table)
	return err
}

// encode writes the plan as the contract's JSON or an engine's own file.
func (f *planFlags) encode(s *solution) ([]byte, error) {
	if f.format == "" {
		return s.json()
	}
	var b bytes.Buffer
	if err := formats.EncodePlacement(&b, f.chosen, &s.result.Placement, formats.EncodeOptions{FirstLayer: f.firstLayer, Layers: f.numbers, Rows: f.numbered}); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
