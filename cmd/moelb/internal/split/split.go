// Package split is moelb split: a batch's tokens over the replicas of a placement.
package split

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/answer"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// flags are moelb split's flags as given.
type flags struct {
	out      string
	readCost float64
	table    bool
	nodes    int
}

// Command is moelb split.
func Command(c *console.Console) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "split [FILE | -]",
		Short: "Split a batch's tokens among the replicas of a placement",
		Long: `Split the tokens of one batch among the replicas of a fixed placement so that the
load of the most loaded GPU is least.

FILE is JSON: version, physical_to_logical_map [layers][slots], num_gpus, counts
[layers][experts] (integers), and optionally gpu_speed and, where GPUs differ
in slots, gpu_slots. The answer gives each slot its quota of tokens.

--table makes a static table instead, for engines that send all of a GPU's tokens of
an expert to one replica: from the nearest ones, changed until counts that come
evenly from all GPUs are as even as they get. It has SGLang's form,
logical_to_rank_dispatch_physical_map [GPUs][layers][experts].`,
		Example: `  moelb split batch.json
  moelb split batch.json --read-cost inf
  echo '{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,0,2]],"counts":[[10,4,3]]}' | moelb split`,
		Args: console.AtMost(1),
		RunE: func(cmd *cobra.Command, args []string) error { return f.run(cmd, c, args) },
	}
	l := cmd.Flags()
	l.Float64Var(&f.readCost, "read-cost", 0, "tokens' worth of reading an expert's weights, for small decode batches; inf = fewest activated experts a GPU")
	l.BoolVar(&f.table, "table", false, "make a static table: which replica serves each GPU's tokens of each expert")
	l.IntVar(&f.nodes, "nodes", 1, "with --table: nodes that share the GPUs evenly")
	l.StringVar(&f.out, "out", "", "write the answer to this file, in one stroke; - = to standard output")
	return cmd
}

// run reads, splits and writes.
func (f *flags) run(cmd *cobra.Command, c *console.Console, args []string) error {
	switch {
	case f.nodes < 1 || f.nodes > placement.MaxGPUs:
		return console.Usagef("--nodes %d: between 1 and %d are possible", f.nodes, placement.MaxGPUs)
	case f.nodes > 1 && !f.table:
		return console.Usagef("--nodes %d: only --table asks who shares a node", f.nodes)
	case f.table && cmd.Flags().Changed("read-cost"):
		return console.Usagef("--read-cost does not go with --table")
	}
	in, err := c.Open(args)
	if err != nil {
		return err
	}
	if in == nil {
		return console.Usagef("moelb split wants a file, or \"-\" for standard input")
	}
	defer in.Close()
	if in.R == nil {
		return fmt.Errorf("%s: is a folder", in.Name())
	}
	p, t, counts, err := readBatch(wire.NewScanner(in.R))
	if err != nil {
		return console.Named(in.Name(), err)
	}
	var b []byte
	if f.table {
		t.Nodes = f.nodes
		b, err = table(p, t, counts)
	} else {
		b, err = quotas(p, t, counts, f.readCost)
	}
	if err != nil {
		return console.Blame(cmd, in.Name(), err)
	}
	if f.out != "" && f.out != "-" {
		return console.WriteFile("--out", f.out, b)
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// readBatch reads the contract's input of moelb split.
func readBatch(s *wire.Scanner) (*placement.Placement, placement.Topology, [][]int64, error) {
	var t placement.Topology
	var slots, counts [][]float64
	var widths []float64
	version := 0
	if end, err := s.Ended(); end && err == nil {
		return nil, t, nil, console.ErrEmpty
	}
	const field = "batch"
	err := s.Object(field, func(key string) (err error) {
		switch key {
		case "version":
			version, err = problem.ReadVersion(s)
		case "physical_to_logical_map":
			slots, err = problem.ReadTable(s, &problem.SlotKind, key)
		case "num_gpus":
			t.GPUs, err = s.Integer(key, 1, placement.MaxGPUs)
		case "gpu_speed":
			t.Speed, err = problem.ReadVector(s, &problem.SpeedKind, key)
		case "gpu_slots":
			widths, err = problem.ReadVector(s, &problem.WidthKind, key)
		case "counts":
			counts, err = problem.ReadTable(s, &problem.CountKind, key)
		default:
			return wire.Bad(placement.ErrValue, key, -1, -1, "unknown field")
		}
		return err
	})
	if err == nil {
		err = s.Finish(field)
	}
	if err != nil {
		return nil, t, nil, err
	}
	for _, m := range []struct {
		field   string
		missing bool
	}{{"version", version == 0}, {"physical_to_logical_map", slots == nil}, {"num_gpus", t.GPUs == 0}, {"counts", counts == nil}} {
		if m.missing {
			return nil, t, nil, wire.Bad(placement.ErrShape, m.field, -1, -1, "missing")
		}
	}
	p := &placement.Placement{Experts: len(counts[0]), GPUs: t.GPUs, PhysicalToLogical: problem.Ints[int](slots)}
	switch {
	case len(counts) != len(slots):
		return nil, t, nil, wire.Bad(placement.ErrShape, "counts", -1, -1, "%d layers, but physical_to_logical_map has %d", len(counts), len(slots))
	case widths != nil:
		p.GPUSlots = problem.Ints[int]([][]float64{widths})[0]
	case p.Slots()%t.GPUs != 0:
		p.GPUSlots = placement.EvenSlots(p.Slots(), t.GPUs)
	}
	if err := t.Validate(); err != nil {
		return nil, t, nil, err
	}
	return p, t, problem.Ints[int64](counts), p.Validate()
}

// splitJSON is the contract's answer to moelb split.
type splitJSON struct {
	Version int        `json:"version"`
	Quota   [][]int64  `json:"quota" lines:""`
	Report  reportJSON `json:"report"`
}

// tableJSON is a static table as SGLang holds it, [GPUs][layers][experts].
type tableJSON struct {
	Version int        `json:"version"`
	Table   [][][]int  `json:"logical_to_rank_dispatch_physical_map"`
	Report  reportJSON `json:"report"`
}

type reportJSON struct {
	Mean    float64  `json:"imbalance_mean"`
	Max     float64  `json:"imbalance_max"`
	Bound   *float64 `json:"lower_bound_mean,omitempty"`
	Seconds float64  `json:"seconds"`
}

// table makes a static table.
func table(p *placement.Placement, t placement.Topology, counts [][]int64) ([]byte, error) {
	loads, err := placement.LoadsOf(counts)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	tables, layers, err := split.Table(p, t, loads)
	if err != nil {
		return nil, err
	}
	a := tableJSON{Version: 1, Report: report(layers, loads, time.Since(start))}
	a.Report.Bound = nil // it is even loads'
	for g := range p.GPUs {
		var rows [][]int
		for _, layer := range tables {
			rows = append(rows, layer[g])
		}
		a.Table = append(a.Table, rows)
	}
	return answer.JSON(&a)
}

// quotas splits every layer's counts.
func quotas(p *placement.Placement, t placement.Topology, counts [][]int64, readCost float64) ([]byte, error) {
	start := time.Now()
	quota, layers, err := split.Batch(p, t, counts, readCost)
	took := time.Since(start)
	if err != nil {
		return nil, err
	}
	loads := make(placement.Loads, len(counts))
	for l, row := range counts {
		loads[l] = make([]float64, len(row))
		for i, n := range row {
			loads[l][i] = float64(n)
		}
	}
	return answer.JSON(&splitJSON{Version: 1, Quota: quota, Report: report(layers, loads, took)})
}

// report is what is said of the layers.
func report(layers []eplb.Layer, loads placement.Loads, took time.Duration) reportJSON {
	r := reportJSON{Seconds: took.Seconds()}
	all := &eplb.Result{Layers: layers}
	r.Mean, r.Max = figures.MeanMax(figures.Each(all, figures.ImbalanceOf), loads, 1)
	bound, _ := figures.MeanMax(figures.Each(all, figures.BoundOf), loads, 1)
	r.Bound = &bound
	return r
}
