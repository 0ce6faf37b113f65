package problem

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// Flags are the flags that say what is planned, as given.
type Flags struct {
	Shape
	Policy, Locality, Dispatch string
	OffNode                    int
	Unit                       unitFlags
	Speed                      string
	Previous                   string
	Target                     float64
	MaxMoves, Restarts         int
	Tolerance                  float64
	Workers                    int
	Timeout                    time.Duration
	Example                    bool
	AnyReplicas                bool // the caller sets its own numbers of replicas
	Replays                    bool // the caller plans window after window

	Routes string
	Slack  float64
	Sends  string

	Model    string
	Weights  string // --window-weights
	Steps    string // --steps
	Sum      bool
	Rows     string // --layers
	Numbers  []int  // of the layers, where they do not count from 0 or a format's file needs them
	Numbered int    // layers of the statistics
	Windows  int
}

// Shape are the flags that complete statistics to a problem; size has them too.
type Shape struct{ gpus, nodes, Replicas, groups int }

func (f *Shape) Add(cmd *cobra.Command) {
	l := cmd.Flags()
	l.IntVar(&f.gpus, "gpus", 0, "GPUs in all")
	l.IntVar(&f.nodes, "nodes", 1, "nodes that share the GPUs evenly")
	l.IntVar(&f.groups, "groups", 1, "groups of experts that are routed together")
}

func FormatNames() string {
	var names []string
	for _, f := range formats.Formats() {
		names = append(names, string(f))
	}
	return strings.Join(names, ", ")
}

// Check refuses what can be seen to be wrong without any input.
func (f *Flags) Check(args []string) error {
	if _, err := FindModel(f.Model, 0, 0); err != nil {
		return err
	}
	for _, x := range []struct {
		flag, value string
		names       []string
	}{{"policy", f.Policy, policies}, {"locality", f.Locality, localities}, {"dispatch", f.Dispatch, Dispatches}, {"traffic-copies", f.Sends, sends}} {
		if _, err := Choice("--"+x.flag, x.value, x.names); err != nil {
			return console.Usage(err)
		}
	}
	switch {
	case f.Example && f.Routes != "":
		return console.Usagef("--example reads nothing: --routes %q is one input too many", f.Routes)
	case f.Example && len(args) > 0:
		return console.Usagef("--example reads nothing: %q is one input too many", args[0])
	case f.Timeout < 0:
		return console.Usagef("--timeout %v is negative", f.Timeout)
	case f.Windows < 0:
		return console.Usagef("--windows %d is negative", f.Windows)
	case f.Workers < 0:
		return console.Usagef("--workers %d is negative", f.Workers)
	case math.IsNaN(f.Tolerance):
		return console.Usagef("--tolerance %v is not a number", f.Tolerance)
	}
	return nil
}

// The names that tell a problem from an engine's statistics by its first field.
var (
	problemFields = append([]string{"version", "loads", "num_replicas", "num_groups", "num_nodes", "num_gpus", "policy", "locality", "off_node_replicas", "dispatch", "gpu_speed", "previous", "target", "max_moves", "window_weights", "routes", "pairs", "traffic_slack", "traffic_copies"}, unitNames...)
	statsFields   = []string{"logical_count", "rank", "average_utilization_rate_over_window", "physical_to_logical_map", // SGLang
		"load_history",                                                                                                       // ADRS
		"tokens_per_expert_stats_list", "ep_rank_to_expert_id_list", "expert_id_to_ep_rank_array", "expert_in_rank_num_list", // FastDeploy
		"counts", "step", "domain", "token_start", "tokens", "timestamp", "window"} // JSON Lines
)

// Read reads the input, whatever it is, and lets the flags override it.
func (f *Flags) Read(cmd *cobra.Command, c *console.Console, args []string) (*Problem, error) {
	var in *console.Input
	if !f.Example {
		var err error
		if in, err = c.Open(args); err != nil {
			if f.Replays {
				err = fmt.Errorf("--loads: %w", err)
			}
			return nil, err
		}
	}
	var given Fields
	source := ""
	switch {
	case in == nil && f.Replays:
		given, source = driftFields(), "generated drift of DeepSeek-V3"
	case in == nil && f.Routes == exampleRoutes:
		given, source = routedFields(), "generated tokens of DeepSeek-V2-Lite"
	case in == nil && f.Routes != "":
		given, source = Fields{version: 1, maxMoves: -1}, f.Routes
	case in == nil:
		given, source = exampleFields(), "generated loads of DeepSeek-V3"
	default:
		var err error
		given, source, err = ReadFields(in, cmd.Flags().Changed("gpus"))
		if f.Routes != "" && len(args) == 0 && errors.Is(err, console.ErrEmpty) { // a pipe that nobody fills
			given, source, err = Fields{version: 1, maxMoves: -1}, f.Routes, nil
			if f.Routes == exampleRoutes {
				given, source = routedFields(), "generated tokens of DeepSeek-V2-Lite"
			}
		}
		if err != nil {
			in.Close()
			return nil, err
		}
		if err := in.Close(); err != nil {
			return nil, err
		}
		if n := given.steps; n > 1 {
			fmt.Fprintf(c.Stderr, "moelb: %s: a long recording: every %d of its steps are added up\n", in.Name(), n)
		}
		if given.note != "" {
			fmt.Fprintf(c.Stderr, "moelb: %s: %s\n", in.Name(), given.note)
		}
	}
	if err := given.Weigh(f.Weights); err != nil {
		return nil, console.Blame(cmd, in.Named(), err)
	}
	if err := f.selectSteps(&given); err != nil {
		return nil, console.Blame(cmd, in.Named(), err)
	}
	if err := f.selectLayers(cmd, &given); err != nil {
		return nil, console.Blame(cmd, in.Named(), err)
	}
	if err := f.override(cmd, &given, in); err != nil {
		return nil, err
	}
	if err := f.overrideRoutes(cmd, &given); err != nil {
		return nil, err
	}
	if f.AnyReplicas && given.replicas == 0 && given.Loads != nil {
		given.replicas = given.Loads[0].Experts()
	}
	given.replays = f.Replays
	p, err := given.build()
	if err != nil {
		return nil, console.Blame(cmd, in.Named(), err)
	}
	if p.Previous == nil && !f.Replays && !f.AnyReplicas {
		for _, name := range []string{"restarts", "model", "expert-bytes"} {
			if cmd.Flags().Changed(name) {
				return nil, console.Usagef("--%s: only with --previous: there is nothing to move from", name)
			}
		}
	}
	if p.Options.Policy == eplb.DeepSeek && cmd.Flags().Changed("tolerance") {
		return nil, console.Usagef("--tolerance: policy deepseek searches for nothing: only with policy optimal")
	}
	p.File = in.Named()
	p.Source = source
	if cmd.Flags().Changed("tolerance") && f.Tolerance == 0 {
		f.Tolerance = math.SmallestNonzeroFloat64 // to the planner 0 is unset
	}
	p.Options.Tolerance, p.Options.Workers, p.Options.Restarts = f.Tolerance, f.Workers, f.Restarts
	return p, nil
}

// ReadFields reads a problem, or the loads of an engine's statistics. An object
// that starts with a field of neither is taken for statistics if those are
// expected, and for a problem with a wrong field elsewhere.
func ReadFields(in *console.Input, statsExpected bool) (f Fields, source string, err error) {
	if in.R != nil {
		first, name := in.FirstField()
		switch {
		case first == 0:
			return f, "", fmt.Errorf("%s: %w", in.Name(), console.ErrEmpty)
		case first == '{' && !slices.Contains(statsFields, name) && (!statsExpected || slices.Contains(problemFields, name)):
			f, err = readProblem(wire.NewScanner(in.R))
			return f, in.Name(), console.Named(in.Name(), err)
		}
	}
	stats, err := readStats(in)
	if err != nil {
		return f, "", err
	}
	return Fields{Loads: stats.Windows, steps: stats.Steps, note: stats.Note, layers: stats.Layers, maxMoves: -1}, fmt.Sprintf("%s (%s)", in.Name(), stats.Format), nil
}

// stats reads an engine's statistics.
func readStats(in *console.Input) (s formats.Stats, err error) {
	if in.Whole {
		return formats.ReadStats(in.Path)
	}
	if s, err = formats.DecodeStats(in.R); err != nil {
		err = fmt.Errorf("%s: %w", in.Name(), err)
	}
	return s, err
}

// override lets the flags that were given stand in for the problem's fields.
func (f *Flags) override(cmd *cobra.Command, given *Fields, in *console.Input) error {
	set := cmd.Flags().Changed
	for _, x := range []struct {
		flag string
		from int
		to   *int
		min  int
		most int
	}{
		{"gpus", f.gpus, &given.gpus, 1, placement.MaxGPUs}, {"nodes", f.nodes, &given.nodes, 1, placement.MaxGPUs},
		{"replicas", f.Replicas, &given.replicas, 1, placement.MaxSlots}, {"groups", f.groups, &given.groups, 1, placement.MaxExperts},
		{"off-node-replicas", f.OffNode, &given.offNode, 0, placement.MaxSlots}, {"max-moves", f.MaxMoves, &given.maxMoves, 0, math.MaxInt32},
	} {
		if !set(x.flag) {
			continue
		}
		if x.from < x.min || x.from > x.most {
			return console.Usagef("--%s %d: between %d and %d are possible", x.flag, x.from, x.min, x.most)
		}
		*x.to = x.from
	}
	for _, x := range []struct {
		flag, from string
		to         *string
	}{{"policy", f.Policy, &given.policy}, {"locality", f.Locality, &given.locality}, {"dispatch", f.Dispatch, &given.dispatch}} {
		if set(x.flag) {
			*x.to = x.from
		}
	}
	if err := f.Unit.override(cmd, &given.unit); err != nil {
		return err
	}
	given.hasMax = given.hasMax || set("max-moves")
	if set("target") {
		given.hasTarget, given.target = true, f.Target
	}
	if f.Speed != "" {
		var err error
		if given.speed, err = NumbersOf("--gpu-speed", f.Speed); err != nil {
			return err
		}
	}
	if given.version == 0 { // statistics, which say nothing about the unit
		for _, x := range []struct {
			field, flag string
			missing     bool
		}{{"num_gpus", "gpus", given.gpus == 0}, {"num_replicas", "replicas", given.replicas == 0 && !f.AnyReplicas}} {
			if x.missing {
				return wire.Bad(placement.ErrShape, x.field, -1, -1, "missing: %s holds statistics, so --%s is needed", in.Name(), x.flag)
			}
		}
	}
	if f.Previous != "" {
		// The file may be that of a unit of another size, if it says so.
		b, err := formats.ReadPlacement(f.Previous, 0)
		if err != nil {
			b, err = formats.ReadPlacement(f.Previous, given.gpus)
		}
		if err != nil {
			return fmt.Errorf("--previous: %w", err)
		}
		given.hasPrevious, given.previousPlacement = true, &b
	}
	return nil
}

// ReadPlacement reads a placement's file, or standard input for "-". gpus is needed
// where the format does not say it.
func ReadPlacement(c *console.Console, path string, gpus int) (placement.Placement, error) {
	if path != "-" {
		return formats.ReadPlacement(path, gpus)
	}
	in, err := c.Open([]string{path})
	if err != nil {
		return placement.Placement{}, err
	}
	p, err := formats.DecodePlacement(in.R, gpus)
	return p, console.Named(in.Name(), err)
}
