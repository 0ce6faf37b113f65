// Package size is moelb size: how many redundant experts are worth their memory.
package size

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

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

// flags are moelb size's flags as given.
type flags struct {
	problem.Flags
	maxRedundant int
	worth        float64
	asJSON       bool
}

func Command(c *console.Console) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "size [FILE | -]",
		Short: "Find how many redundant experts are worth their memory",
		Long: `Plan the same loads with more and more redundant experts, and print what each
number gives and takes: imbalance, the lower bound, and the memory of the
experts a GPU.

The knee is the smallest number from which on no larger one in the table lowers
the imbalance by --worth (1%) for each further slot a GPU. Engines keep as many
slots on every GPU, so memory is that of the GPU with the most. Every number is planned
from scratch, whatever is in force.

FILE is what moelb plan reads; without any input the built-in example is sized.`,
		Example: `  moelb size
  moelb size stats.json --gpus 32 --nodes 4 --groups 8 --max-redundant 128
  moelb size stats.json --gpus 144 --nodes 18 --json`,
		Args: console.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, c, args) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	f.Shape.Add(cmd)
	l.IntVar(&f.maxRedundant, "max-redundant", 0, "largest number of redundant experts; 0 = half the experts or two slots a GPU")
	l.Float64Var(&f.worth, "worth", 0.01, "the gain in imbalance, as a fraction, that one more slot a GPU must bring")
	l.StringVar(&f.Locality, "locality", "auto", "auto, groups (each group of experts on one node), or none")
	l.IntVar(&f.OffNode, "off-node-replicas", 0, "replicas a layer that may live outside their group's node")
	l.StringVar(&f.Dispatch, "dispatch", "even", "how an expert's tokens are shared by its replicas: even, split per batch, or nearest: each GPU's own, else the first on its node, else evenly")
	l.StringVar(&f.Speed, "gpu-speed", "", "relative speed of each GPU, comma-separated; 0 = out of service")
	l.StringVar(&f.Weights, "window-weights", "", "a weight of each window of the loads, comma-separated; 0 = it counts for nothing")
	l.IntVar(&f.Windows, "windows", 0, "size for the last N windows of the loads; 0 = for all")
	l.IntVar(&f.Workers, "workers", 0, "threads; 0 = all cores")
	l.DurationVar(&f.Timeout, "timeout", 0, "end after this time with the sizes planned so far")
	l.BoolVar(&f.Example, "example", false, "size the built-in example and read nothing")
	l.StringVar(&f.Model, "model", "auto", "whose experts they are, for their size: auto (by shape), none, "+problem.ModelNames())
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	return cmd
}

// run plans each size and prints the table.
func (f *flags) run(cmd *cobra.Command, c *console.Console, args []string) error {
	if err := f.Check(args); err != nil {
		return err
	}
	switch {
	case f.maxRedundant < 0 || f.maxRedundant > placement.MaxSlots:
		return console.Usagef("--max-redundant %d: between 0 and %d are possible", f.maxRedundant, placement.MaxSlots)
	case !(f.worth > 0) || f.worth > 1:
		return console.Usagef("--worth %v: a fraction above 0, at most 1, is needed", f.worth)
	}
	f.AnyReplicas = true
	p, err := f.Read(cmd, c, args)
	if err != nil {
		return err
	}
	if p.Ask().LayerReplicas != nil {
		return console.Blame(cmd, p.File, wire.Bad(placement.ErrValue, "layer_replicas", -1, -1, "sizes are of as many slots in every layer"))
	}
	if p.Options.Policy != eplb.Optimal {
		return console.Blame(cmd, p.File, wire.Bad(placement.ErrValue, "policy", -1, -1, "%q: sizes are planned by policy optimal", p.Options.Policy))
	}
	ctx, release := console.Searching(cmd.Context(), f.Timeout)
	defer release()
	model, err := problem.FindModel(f.Model, len(p.Windows[0]), p.Windows[0].Experts())
	if err != nil {
		return err
	}
	loads, err := p.Sum()
	if err != nil {
		return err
	}
	t := &sizes{Problem: p, model: model, worth: f.worth, layers: len(loads)}
	plan := sweep(p.Windows[0].Experts(), p.Topology.GPUs, p.Topology.InService(), f.maxRedundant)
	if n := plan[len(plan)-1]; n > placement.MaxSlots {
		return fmt.Errorf("--max-redundant %d: %d slots in all, but at most %d are supported", f.maxRedundant, n, placement.MaxSlots)
	}
	options := p.Options
	options.Target, options.MaxMoves = 0, 0 // what a placement in force may move
	bar := console.Progress(c, len(plan))
	for i, replicas := range plan {
		r, err := eplb.Plan(ctx, fromScratch(p, replicas), options)
		if errors.Is(err, placement.ErrFit) && i+1 < len(plan) && len(t.rows) == 0 {
			bar.Add(1)
			continue // what is asked needs more slots
		}
		if errors.Is(err, placement.ErrFit) && len(t.rows) == 0 {
			err = fmt.Errorf("no size up to %d slots does (--max-redundant): %w", replicas, err)
		}
		if err != nil {
			return console.Blame(cmd, p.File, err)
		}
		if ctx.Err() != nil && len(t.rows) > 0 { // beside those that were searched it says nothing
			t.left = len(plan) - i
			break
		}
		t.add(replicas, &r, loads)
		bar.Add(1)
	}
	bar.Finish()
	b := t.table()
	if f.asJSON {
		if b, err = t.json(); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// fromScratch is the problem with another number of replicas, from scratch.
func fromScratch(p *problem.Problem, replicas int) eplb.Problem {
	q := p.Ask()
	q.Replicas, q.Previous = replicas, nil
	return q
}

// sweep lists the numbers of replicas to plan: as many as experts, then every
// whole number of slots a GPU up to most redundant ones, and quarters of the
// steps between where those are few. most 0 = half the experts or two slots a
// GPU, in whole slots. Where GPUs are out of service only whole slots are planned, so
// that it does not matter which GPUs those are.
func sweep(experts, gpus, alive, most int) []int {
	const few, many = 8, 40
	least := (experts + alive - 1) / alive // slots a GPU
	if most == 0 {
		most = max((experts+(experts+1)/2+alive-1)/alive, least+2)*alive - experts
	}
	limit := experts + most // slots in service
	stride := 1 + (limit/alive-least)/many
	var out []int
	if alive < gpus {
		for k := least; k == least || k*alive <= limit; k += stride {
			out = append(out, k*gpus)
		}
		return out
	}
	parts := 1
	if limit/alive-experts/alive <= few {
		parts = 4
	}
	for k := experts / alive; k*alive <= limit; k += stride {
		for part := range parts {
			out = append(out, k*alive+part*alive/parts)
		}
	}
	out = append(out, experts, limit)
	slices.Sort(out)
	out = slices.DeleteFunc(out, func(n int) bool { return n < experts || n > limit })
	return slices.Compact(out)
}

// sizes is the table of moelb size.
type sizes struct {
	*problem.Problem
	model  *placement.Model
	worth  float64
	layers int
	rows   []sized
	left   int // sizes that were not planned: a time limit or an interrupt came first
}

// sized is one number of replicas, planned.
type sized struct {
	replicas, redundant int
	each                int // slots of the GPU with the most
	mean, worst         float64
	bound               float64
	bytes               int64 // of experts on that GPU; 0 = unknown
	extra               int64 // of them, beyond the row without redundant experts
	slotsEach           float64
}

func (t *sizes) add(replicas int, r *eplb.Result, loads placement.Loads) {
	x := sized{replicas: replicas, each: (replicas + t.Topology.GPUs - 1) / t.Topology.GPUs}
	x.redundant = replicas/t.Topology.GPUs*t.Topology.InService() + replicas%t.Topology.GPUs - loads.Experts()
	x.slotsEach = float64(replicas) / float64(t.Topology.GPUs)
	x.mean, x.worst = figures.MeanMax(figures.Each(r, figures.ImbalanceOf), loads, 1)
	x.bound, _ = figures.MeanMax(figures.Each(r, figures.BoundOf), loads, 1)
	if t.model != nil {
		x.bytes = int64(x.each) * int64(t.layers) * t.model.ExpertBytes()
		x.extra = x.bytes
		if len(t.rows) > 0 {
			x.extra = x.bytes - t.rows[0].bytes
		}
	}
	t.rows = append(t.rows, x)
}

// knee is the index of the smallest size from which on no larger one is worth
// its slots: a size j beyond i is if it lowers the mean imbalance of i by worth
// for each further slot a GPU.
func (t *sizes) knee() int {
	for i := range t.rows {
		worth := false
		for _, later := range t.rows[i+1:] {
			gain := 1 - later.mean/t.rows[i].mean
			worth = worth || gain >= t.worth*(later.slotsEach-t.rows[i].slotsEach)
		}
		if !worth {
			return i
		}
	}
	return len(t.rows) - 1
}

func (t *sizes) table() []byte {
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s: %s x %d experts on %s (%s)\n\n", t.Source, human.Plural(t.layers, "layer"), t.Windows[0].Experts(), human.Plural(t.Topology.GPUs, "GPU"), human.Plural(t.Topology.NodeCount(), "node"))
	knee := t.knee()
	g := human.Table{Numbers: true}
	g.Add("redundant experts", "slots a GPU", "imbalance", "worst layer", "lower bound", "experts a GPU", "")
	for i, x := range t.rows {
		memory, mark, each := "-", "", fmt.Sprintf("%.4g", x.slotsEach)
		if x.bytes > 0 {
			memory = human.Bytes(x.bytes)
		}
		if i == knee {
			mark = "<- knee"
		}
		g.Add(fmt.Sprint(x.redundant), each, fmt.Sprintf("%.4f", x.mean), fmt.Sprintf("%.4f", x.worst), fmt.Sprintf("%.4f", x.bound), memory, mark)
	}
	g.Write(b, "  ")
	fmt.Fprintf(b, "\n%s\n", t.verdict())
	return b.Bytes()
}

// verdict names the knee in words.
func (t *sizes) verdict() string {
	x, first, last := t.rows[t.knee()], t.rows[0], t.rows[len(t.rows)-1]
	text := fmt.Sprintf("%s are enough: imbalance %.4f, from %.4f without", human.Plural(x.redundant, "redundant expert"), x.mean, first.mean)
	switch {
	case x.redundant == 0:
		text = fmt.Sprintf("no redundant expert is worth its memory: imbalance %.4f without any", x.mean)
	case first.redundant == x.redundant:
		text = fmt.Sprintf("%s, the fewest that do what is asked, are enough: imbalance %.4f", human.Plural(x.redundant, "redundant expert"), x.mean)
	case first.redundant > 0:
		text = fmt.Sprintf("%s are enough: imbalance %.4f, from %.4f with %d, the fewest that do what is asked", human.Plural(x.redundant, "redundant expert"), x.mean, first.mean, first.redundant)
	}
	if x.extra > 0 && x.redundant > 0 {
		text += fmt.Sprintf(", for %s more a GPU", human.Bytes(x.extra))
	}
	switch {
	case t.left > 0:
		return text + fmt.Sprintf("; ended early: %s not planned", human.Plural(t.left, "larger size"))
	case x.redundant == last.redundant:
		return text + "; more were not tried (--max-redundant)"
	}
	return text + fmt.Sprintf("; from there one more slot a GPU lowers it by less than %.3g%% (up to %d: %.4f)", 100*t.worth, last.redundant, last.mean)
}

// sizesJSON is the answer to moelb size.
type sizesJSON struct {
	Version int        `json:"version"`
	Knee    kneeJSON   `json:"knee"`
	Sizes   []sizeJSON `json:"sizes" lines:""`
}

type kneeJSON struct {
	Redundant int     `json:"redundant"`
	Replicas  int     `json:"num_replicas"`
	Worth     float64 `json:"worth"`
	Text      string  `json:"text"`
}

type sizeJSON struct {
	Redundant int     `json:"redundant"`
	Replicas  int     `json:"num_replicas"`
	Slots     int     `json:"slots_per_gpu"`
	Mean      float64 `json:"imbalance_mean"`
	Max       float64 `json:"imbalance_max"`
	Bound     float64 `json:"lower_bound_mean"`
	Bytes     *int64  `json:"expert_bytes_per_gpu"`
}

func (t *sizes) json() ([]byte, error) {
	knee := t.rows[t.knee()]
	a := sizesJSON{Version: 1, Knee: kneeJSON{knee.redundant, knee.replicas, t.worth, t.verdict()}}
	for _, x := range t.rows {
		row := sizeJSON{Redundant: x.redundant, Replicas: x.replicas, Slots: x.each, Mean: x.mean, Max: x.worst, Bound: x.bound}
		if x.bytes != 0 {
			row.Bytes = &x.bytes
		}
		a.Sizes = append(a.Sizes, row)
	}
	return answer.JSON(&a)
}
