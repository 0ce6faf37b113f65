package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// sizeFlags are moelb size's flags as given.
type sizeFlags struct {
	planFlags
	maxRedundant int
	worth        float64
}

func sizeCommand(c *console) *cobra.Command {
	f := &sizeFlags{}
	cmd := &cobra.Command{
		Use:   "size [FILE | -]",
		Short: "Find how many redundant experts are worth their memory",
		Long: `Plan the same loads with more and more redundant experts, and print what each
number gives and takes: imbalance, the lower bound, and the memory of the
experts a GPU.

The knee is the smallest number from which on no larger one in the table lowers
the imbalance by --worth (1%) for each further slot a GPU. Engines keep as many
slots on every GPU, so memory is that of the GPU with the most.

FILE is what moelb plan reads; without any input the built-in example is sized.`,
		Example: `  moelb size
  moelb size stats.json --gpus 32 --nodes 4 --groups 8 --max-redundant 128
  moelb size stats.json --gpus 144 --nodes 18 --json`,
		Args: atMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, c, args) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	f.shape.add(cmd)
	l.IntVar(&f.maxRedundant, "max-redundant", 0, "largest number of redundant experts; 0 = half the experts or two slots a GPU")
	l.Float64Var(&f.worth, "worth", 0.01, "the gain in imbalance, as a fraction, that one more slot a GPU must bring")
	l.StringVar(&f.locality, "locality", "auto", "auto, groups (each group of experts on one node), or none")
	l.IntVar(&f.offNode, "off-node-replicas", 0, "replicas a layer that may live outside their group's node")
	l.StringVar(&f.dispatch, "dispatch", "even", "how an expert's tokens are shared by its replicas: even, or split per batch")
	l.StringVar(&f.speed, "gpu-speed", "", "relative speed of each GPU, comma-separated; 0 = out of service")
	l.IntVar(&f.windows, "windows", 0, "size for the last N windows of the loads; 0 = for all")
	l.IntVar(&f.workers, "workers", 0, "threads; 0 = all cores")
	l.DurationVar(&f.timeout, "timeout", 0, "end the searches after this time with the best plans so far")
	l.BoolVar(&f.example, "example", false, "size the built-in example and read nothing")
	l.StringVar(&f.model, "model", "auto", "whose experts they are, for their size: auto (by shape), none, "+modelNames())
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	return cmd
}

// run plans each size and prints the table.
func (f *sizeFlags) run(cmd *cobra.Command, c *console, args []string) error {
	if err := f.check(args); err != nil {
		return err
	}
	switch {
	case f.maxRedundant < 0 || f.maxRedundant > placement.MaxSlots:
		return usagef("--max-redundant %d: between 0 and %d are possible", f.maxRedundant, placement.MaxSlots)
	case !(f.worth > 0) || f.worth > 1:
		return usagef("--worth %v: a fraction above 0, at most 1, is needed", f.worth)
	}
	f.anyReplicas = true
	p, err := f.read(cmd, c, args)
	if err != nil {
		return err
	}
	if p.options.Policy != eplb.Optimal {
		return wire.Bad(placement.ErrValue, "policy", -1, -1, "%q: sizes are planned by policy optimal", p.options.Policy)
	}
	ctx, release := searching(cmd.Context(), f.timeout)
	defer release()
	model, err := findModel(f.model, len(p.windows[0]), p.windows[0].Experts())
	if err != nil {
		return err
	}
	loads, err := p.sum()
	if err != nil {
		return err
	}
	t := &sizes{problem: p, model: model, worth: f.worth, layers: len(loads)}
	plan := sweep(p.windows[0].Experts(), p.topology.GPUs, p.topology.InService(), f.maxRedundant)
	bar := progress(c, len(plan))
	for _, replicas := range plan {
		r, err := eplb.Plan(ctx, p.sized(replicas), p.options)
		if err != nil {
			return err
		}
		t.add(replicas, &r, loads)
		bar.Add(1)
	}
	bar.Finish()
	b := t.table()
	if f.asJSON {
		b = t.json()
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// sized is the problem with another number of replicas, from scratch.
func (p *problem) sized(replicas int) eplb.Problem {
	q := p.ask()
	return eplb.Problem{Loads: q.Loads, Windows: q.Windows, Replicas: replicas, Groups: q.Groups, Topology: q.Topology}
}

// progress is a bar on standard error, or nothing where that is no terminal.
func progress(c *console, steps int) *progressbar.ProgressBar {
	if !terminal(c.stderr) {
		return progressbar.DefaultSilent(int64(steps))
	}
	return progressbar.NewOptions(steps, progressbar.OptionSetWriter(c.stderr), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("planning"))
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
	*problem
	model  *placement.Model
	worth  float64
	layers int
	rows   []sized
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
	s := solution{problem: t.problem, loads: loads, result: *r}
	x := sized{replicas: replicas, each: (replicas + t.topology.GPUs - 1) / t.topology.GPUs}
	x.redundant = replicas/t.topology.GPUs*t.topology.InService() + replicas%t.topology.GPUs - loads.Experts()
	x.slotsEach = float64(replicas) / float64(t.topology.GPUs)
	x.mean, x.worst = meanMax(s.each(imbalanceOf), loads, 1)
	x.bound, _ = meanMax(s.each(boundOf), loads, 1)
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
	fmt.Fprintf(b, "%s: %s x %d experts on %s (%s)\n\n", t.source, plural(t.layers, "layer"), t.windows[0].Experts(), plural(t.topology.GPUs, "GPU"), plural(t.topology.NodeCount(), "node"))
	knee := t.knee()
	g := grid{numbers: true}
	g.add("redundant experts", "slots a GPU", "imbalance", "worst layer", "lower bound", "experts a GPU", "")
	for i, x := range t.rows {
		memory, mark, each := "-", "", fmt.Sprintf("%.4g", x.slotsEach)
		if x.bytes > 0 {
			memory = size(x.bytes)
		}
		if i == knee {
			mark = "<- knee"
		}
		g.add(fmt.Sprint(x.redundant), each, fmt.Sprintf("%.4f", x.mean), fmt.Sprintf("%.4f", x.worst), fmt.Sprintf("%.4f", x.bound), memory, mark)
	}
	g.write(b, "  ")
	fmt.Fprintf(b, "\n%s\n", t.verdict())
	return b.Bytes()
}

// verdict names the knee in words.
func (t *sizes) verdict() string {
	x, first, last := t.rows[t.knee()], t.rows[0], t.rows[len(t.rows)-1]
	text := fmt.Sprintf("%s are enough: imbalance %.4f, from %.4f without", plural(x.redundant, "redundant expert"), x.mean, first.mean)
	if x.redundant == 0 {
		text = fmt.Sprintf("no redundant expert is worth its memory: imbalance %.4f without any", x.mean)
	}
	if x.extra > 0 && x.redundant > 0 {
		text += fmt.Sprintf(", for %s more a GPU", size(x.extra))
	}
	if x.redundant == last.redundant {
		return text + "; more were not tried (--max-redundant)"
	}
	return text + fmt.Sprintf("; from there one more slot a GPU lowers it by less than %.3g%% (up to %d: %.4f)", 100*t.worth, last.redundant, last.mean)
}

func (t *sizes) json() []byte {
	e := &wire.Encoder{}
	knee := t.rows[t.knee()]
	e.Raw(`{"version":1,"knee":{"redundant":`)
	e.Int(int64(knee.redundant))
	e.Field("num_replicas")
	e.Int(int64(knee.replicas))
	e.Field("worth")
	e.Float(t.worth)
	e.Field("text")
	e.Quote(t.verdict())
	e.Raw("}")
	e.Field("sizes")
	layers(e, t.rows, func(x sized) {
		e.Raw(`{"redundant":`)
		e.Int(int64(x.redundant))
		e.Field("num_replicas")
		e.Int(int64(x.replicas))
		e.Field("slots_per_gpu")
		e.Int(int64(x.each))
		e.Field("imbalance_mean")
		e.Float(x.mean)
		e.Field("imbalance_max")
		e.Float(x.worst)
		e.Field("lower_bound_mean")
		e.Float(x.bound)
		e.Field("expert_bytes_per_gpu")
		if x.bytes == 0 {
			e.Raw("null")
		} else {
			e.Int(x.bytes)
		}
		e.Raw("}")
	})
	e.Raw("}\n")
	return e.B
}
