// Package score is moelb score: a placement under given loads.
package score

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/answer"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// flags are moelb score's flags as given.
type flags struct {
	at, loads, dispatch, weights string
	speed                        string
	routes                       string
	gpus, nodes                  int
	asJSON                       bool
}

// Command is moelb score.
func Command(c *console.Console) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "score --placement FILE --loads FILE",
		Short: "Score a placement under given loads",
		Long: `Score each layer of a placement under given loads: imbalance (max/mean GPU load,
each expert's load split evenly over its replicas), balancedness (mean/max), and
a lower bound that no placement on as many slots can be below. Several windows
count in proportion to their tokens. Where experts have no replica, as after a
failure, a layer's imbalance is infinite (null in JSON) and they are named.

--dispatch split scores the best split of each window, what moelb split does batch
by batch.

--dispatch nearest scores what engines with a static table make of it (SGLang's
default): every GPU sends its tokens of an expert to its own replica, else to the
first on its node, else evenly to all.

--routes FILE beside --nodes counts where tokens find their experts: the fewest
nodes and GPUs that hold them, and the copies that leave a token's node, one a node
as DeepEP's normal kernels send them or one an expert as low-latency ones do.
Without --loads the loads are those of these tokens.

The placement may be in any known format: moelb's own, SGLang, vllm-ascend,
TensorRT-LLM, omni, FastDeploy; the loads in any that moelb plan reads. A problem's
dispatch holds where no flag says another, and its speeds and nodes where it is of as
many GPUs as the placement.`,
		Example: `  moelb score --placement plan.json --loads stats.json
  moelb score --placement expert_location.json --gpus 32 --loads stats.json --json
  moelb score --placement plan.json --nodes 4 --routes tokens.csv`,
		Args: console.AtMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, c) },
	}
	l := cmd.Flags()
	l.StringVar(&f.at, "placement", "", "the placement's file; - = standard input")
	l.StringVar(&f.loads, "loads", "", "the loads' file: statistics or a problem; - = standard input")
	l.StringVar(&f.routes, "routes", "", "the file of tokens' experts, as moelb plan reads them")
	l.IntVar(&f.gpus, "gpus", 0, "GPUs, where the placement's format does not say")
	l.StringVar(&f.speed, "gpu-speed", "", "relative speed of each GPU, comma-separated; 0 = out of service; unset = a problem's own")
	l.StringVar(&f.dispatch, "dispatch", "even", "how an expert's tokens are shared by its replicas: even, split at its best for each window, or nearest; unset = a problem's own")
	l.StringVar(&f.weights, "window-weights", "", "a weight of each window of the loads, comma-separated; 0 = it counts for nothing")
	l.IntVar(&f.nodes, "nodes", 1, "with --dispatch nearest or --routes: nodes that share the GPUs evenly")
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	return cmd
}

// run reads, scores and prints.
func (f *flags) run(cmd *cobra.Command, c *console.Console) error {
	switch {
	case f.at == "" || f.loads == "" && f.routes == "":
		return console.Usagef("--placement, and --loads or --routes, are needed")
	case cmd.Flags().Changed("gpus") && (f.gpus < 1 || f.gpus > placement.MaxGPUs):
		return console.Usagef("--gpus %d: between 1 and %d are possible", f.gpus, placement.MaxGPUs)
	}
	if f.loads == "" && f.weights != "" {
		return console.Usagef("--window-weights: only with --loads: tokens' experts have no windows")
	}
	if f.at == "-" && f.loads == "-" {
		return console.Usagef("--placement - and --loads - both want standard input")
	}
	d, err := problem.Choice("--dispatch", f.dispatch, problem.Dispatches)
	switch {
	case err != nil:
		return console.Usage(err)
	case f.nodes < 1 || f.nodes > placement.MaxGPUs:
		return console.Usagef("--nodes %d: between 1 and %d are possible", f.nodes, placement.MaxGPUs)
	}
	p, err := problem.ReadPlacement(c, f.at, f.gpus)
	if err != nil {
		return fmt.Errorf("--placement: %w", err)
	}
	under, given := f.routes, problem.Fields{}
	if f.loads != "" {
		under = f.loads
		if given, err = loadsOf(cmd, c, f.loads, f.weights); err != nil {
			return err
		}
	}
	t, asked, err := given.Unit(p.GPUs)
	if err != nil {
		return console.Blame(cmd, f.loads, err)
	}
	if cmd.Flags().Changed("dispatch") {
		asked = eplb.Dispatch(d)
	}
	if cmd.Flags().Changed("nodes") {
		t.Nodes, t.NodeGPUs = f.nodes, nil
	}
	if f.nodes > 1 && asked != eplb.Nearest && f.routes == "" {
		return console.Usagef("--nodes %d: only --dispatch nearest and --routes ask who shares a node", f.nodes)
	}
	if f.speed != "" {
		if t.Speed, err = problem.NumbersOf("--gpu-speed", f.speed); err != nil {
			return err
		}
	}
	visited, w, err := f.visited(&p, t)
	if err != nil {
		return err
	}
	if given.Loads != nil {
		w = given.Loads
	}
	s, err := score(cmd.Context(), &p, w, t, asked)
	if err != nil {
		return console.Blame(cmd, f.at+" under "+under, err)
	}
	s.visited = visited
	b := s.table()
	if f.asJSON {
		if b, err = s.json(); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// loadsOf reads a file of statistics, or a problem, for its windows of loads; weights
// are a flag's, "" = the problem's own.
func loadsOf(cmd *cobra.Command, c *console.Console, path, weights string) (problem.Fields, error) {
	in, err := c.OpenFor("--loads", path)
	if err != nil {
		return problem.Fields{}, err
	}
	defer in.Close()
	f, _, err := problem.ReadFields(in, true)
	if err != nil {
		return f, err
	}
	if f.Loads == nil {
		return f, console.Named(path, wire.Bad(placement.ErrShape, "loads", -1, -1, "missing"))
	}
	return f, console.Blame(cmd, path, f.Weigh(weights))
}

// scored is a placement under loads.
type scored struct {
	at      *placement.Placement
	loads   placement.Loads // the windows' sum
	level   []float64       // imbalance of each layer
	bound   []float64
	visited []eplb.Visited // nil = not asked
	speed   []float64      // of the GPUs; nil = alike
}

// score measures a placement. Its bound is that of eplb's plan for as many
// slots, any expert anywhere; where GPUs differ in slots by more than one, for
// as many on every GPU as the largest has.
func score(ctx context.Context, p *placement.Placement, windows []placement.Loads, t placement.Topology, d eplb.Dispatch) (*scored, error) {
	s := &scored{at: p, speed: t.Speed}
	var err error
	if s.level, err = figures.ImbalanceOver(p, windows, t, d); err != nil {
		return nil, err
	}
	q := problem.Problem{Windows: windows}
	if s.loads, err = q.Sum(); err != nil {
		return nil, err
	}
	slots := p.Slots()
	s.bound = slices.Repeat([]float64{math.Inf(1)}, len(s.level))
	if slots < p.Experts {
		return s, nil // no placement on these slots can serve
	}
	if p.GPUSlots != nil {
		most, least := 0, slots
		for _, n := range p.GPUSlots {
			most, least = max(most, n), min(least, n)
		}
		if most-least > 1 {
			slots = most * p.GPUs
		}
	}
	q.Replicas, q.Topology = slots, t
	r, err := eplb.Plan(ctx, q.Ask(), eplb.Options{Locality: eplb.Free, Dispatch: d})
	switch {
	case errors.Is(err, placement.ErrFit):
		return s, nil // none on the GPUs in service can
	case err != nil:
		return nil, err
	}
	for l, x := range r.Layers {
		s.bound[l] = min(x.LowerBound, s.level[l])
	}
	return s, nil
}

// some lists the first numbers of a list.
func some(list []int, n int) string {
	text := strings.Trim(fmt.Sprint(list[:min(n, len(list))]), "[]")
	if len(list) > n {
		text += " …"
	}
	return text
}

// figures are the imbalance and the balancedness of each layer.
func (s *scored) figures() (imbalance, balancedness []float64) {
	balancedness = make([]float64, len(s.level))
	for l, x := range s.level {
		balancedness[l] = 1 / x
	}
	return s.level, balancedness
}

func (s *scored) table() []byte {
	imbalance, balancedness := s.figures()
	b := &bytes.Buffer{}
	g := human.Table{Numbers: true}
	g.Add("layer", "imbalance", "balancedness", "lower bound")
	row := func(name string, i, bal, low float64) {
		g.Add(name, fmt.Sprintf("%.4f", i), fmt.Sprintf("%.4f", bal), fmt.Sprintf("%.4f", low))
	}
	for l := range s.level {
		if !figures.Loaded(s.loads[l]) {
			g.Add(fmt.Sprint(l), "no load", "", "")
			continue
		}
		row(fmt.Sprint(l), imbalance[l], balancedness[l], s.bound[l])
	}
	mean, most := figures.MeanMax(imbalance, s.loads, 1)
	bal, _ := figures.MeanMax(balancedness, s.loads, 1)
	low, lowMost := figures.MeanMax(s.bound, s.loads, 1)
	row("mean", mean, bal, low)
	row("worst", most, 1/most, lowMost)
	g.Write(b, "")
	s.visitedTable(b)
	for l := range s.level {
		if m := s.at.Missing(l, s.speed); m != nil {
			fmt.Fprintf(b, "\nlayer %d has no replica of %s: %s\n", l, human.Plural(len(m), "expert"), some(m, 8))
		}
	}
	if n := s.at.Duplicates(); n > 0 {
		fmt.Fprintf(b, "\n%s of an expert on a GPU that holds it already: they take no load off it\n", human.Plural(n, "replica"))
	}
	return b.Bytes()
}

// scoreJSON is the contract's answer to moelb score.
type scoreJSON struct {
	Version      int         `json:"version"`
	Mean         float64     `json:"imbalance_mean"`
	Max          float64     `json:"imbalance_max"`
	Balancedness float64     `json:"balancedness_mean"`
	Bound        float64     `json:"lower_bound_mean"`
	Duplicates   int         `json:"duplicates"`
	NodesPer     *float64    `json:"nodes_per_token_mean,omitempty"`
	GPUsPer      *float64    `json:"gpus_per_token_mean,omitempty"`
	Sent         *float64    `json:"copies_off_node_mean,omitempty"`
	SentEach     *float64    `json:"expert_copies_off_node_mean,omitempty"`
	Layers       []layerJSON `json:"layers" lines:""`
}

type layerJSON struct {
	Imbalance    float64  `json:"imbalance"`
	Balancedness float64  `json:"balancedness"`
	Bound        float64  `json:"lower_bound"`
	Missing      []int    `json:"missing,omitempty"`
	Nodes        *float64 `json:"nodes_per_token,omitempty"`
	GPUs         *float64 `json:"gpus_per_token,omitempty"`
	Sent         *float64 `json:"copies_off_node,omitempty"`
	SentEach     *float64 `json:"expert_copies_off_node,omitempty"`
}

func (s *scored) json() ([]byte, error) {
	imbalance, balancedness := s.figures()
	a := scoreJSON{Version: 1, Duplicates: s.at.Duplicates()}
	a.Mean, a.Max = figures.MeanMax(imbalance, s.loads, 1)
	a.Balancedness, _ = figures.MeanMax(balancedness, s.loads, 1)
	a.Bound, _ = figures.MeanMax(s.bound, s.loads, 1)
	for l := range s.level {
		a.Layers = append(a.Layers, layerJSON{Imbalance: imbalance[l], Balancedness: balancedness[l], Bound: s.bound[l], Missing: s.at.Missing(l, s.speed)})
		if s.visited != nil {
			x, y := &a.Layers[l], &s.visited[l]
			x.Nodes, x.GPUs, x.Sent, x.SentEach = &y.Nodes, known(y.GPUs), &y.Sent[eplb.PerNode], &y.Sent[eplb.PerExpert]
		}
	}
	if s.visited != nil {
		m := eplb.MeanVisited(s.visited)
		a.NodesPer, a.GPUsPer, a.Sent, a.SentEach = &m.Nodes, known(m.GPUs), &m.Sent[eplb.PerNode], &m.Sent[eplb.PerExpert]
	}
	return answer.JSON(&a)
}
