// Package split is moelb split: a batch's tokens over the replicas of a placement.
package split

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/split"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

func Command(c *console.Console) *cobra.Command {
	var out string
	var readCost float64
	var table bool
	var nodes int
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
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case nodes < 1 || nodes > placement.MaxGPUs:
				return console.Usagef("--nodes %d: between 1 and %d are possible", nodes, placement.MaxGPUs)
			case nodes > 1 && !table:
				return console.Usagef("--nodes %d: only --table asks who shares a node", nodes)
			case table && cmd.Flags().Changed("read-cost"):
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
				return err
			}
			if table {
				t.Nodes = nodes
				b, err := tableJSON(p, t, counts)
				if err != nil {
					return err
				}
				if out != "" {
					return console.WriteFile(out, b)
				}
				_, err = cmd.OutOrStdout().Write(b)
				return err
			}
			start := time.Now()
			quota, layers, err := splitBatch(p, t, counts, readCost)
			seconds := time.Since(start).Seconds()
			if err != nil {
				return err
			}
			b := splitJSON(quota, layers, counts, seconds)
			if out != "" {
				return console.WriteFile(out, b)
			}
			_, err = cmd.OutOrStdout().Write(b)
			return err
		},
	}
	cmd.Flags().Float64Var(&readCost, "read-cost", 0, "tokens' worth of reading an expert's weights, for small decode batches; inf = fewest activated experts a GPU")
	cmd.Flags().BoolVar(&table, "table", false, "make a static table: which replica serves each GPU's tokens of each expert")
	cmd.Flags().IntVar(&nodes, "nodes", 1, "with --table: nodes that share the GPUs evenly")
	cmd.Flags().StringVar(&out, "out", "", "write the answer to this file, in one stroke")
	return cmd
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

// splitBatch splits every layer's counts.
func splitBatch(p *placement.Placement, t placement.Topology, counts [][]int64, readCost float64) (quota [][]int64, layers []eplb.Layer, err error) {
	s, err := split.New(p, t)
	if err != nil {
		return nil, nil, err
	}
	s.ReadCost = readCost
	slots := p.Slots()
	cells := make([]int64, len(counts)*slots)
	quota, layers = make([][]int64, len(counts)), make([]eplb.Layer, len(counts))
	for l, row := range counts {
		quota[l] = cells[l*slots : (l+1)*slots : (l+1)*slots]
		if layers[l], err = s.Split(quota[l], l, row); err != nil {
			return nil, nil, err
		}
	}
	return quota, layers, nil
}

// tableJSON makes a static table and writes it as SGLang holds it, rank by rank.
func tableJSON(p *placement.Placement, t placement.Topology, counts [][]int64) ([]byte, error) {
	loads, err := placement.LoadsOf(counts)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	tables, layers, err := split.Table(p, t, loads)
	seconds := time.Since(start).Seconds()
	if err != nil {
		return nil, err
	}
	imbalance := make([]float64, len(layers))
	for l, x := range layers {
		imbalance[l] = x.Imbalance
	}
	e := &wire.Encoder{}
	e.Raw(`{"version":1`)
	e.Field("logical_to_rank_dispatch_physical_map")
	e.Raw("[")
	for g := range p.GPUs {
		if g > 0 {
			e.Raw(",")
		}
		wire.List(e, tables, func(table [][]int) { figures.Ints(e, table[g]) })
	}
	e.Raw("]")
	e.Field("report")
	mean, most := figures.MeanMax(imbalance, loads, 1)
	e.Raw(`{"imbalance_mean":`)
	e.Float(mean)
	e.Field("imbalance_max")
	e.Float(most)
	e.Field("seconds")
	e.Float(seconds)
	e.Raw("}}\n")
	return e.B, nil
}

func splitJSON(quota [][]int64, layers []eplb.Layer, counts [][]int64, seconds float64) []byte {
	loads := make(placement.Loads, len(counts))
	for l, row := range counts {
		loads[l] = make([]float64, len(row))
		for i, n := range row {
			loads[l][i] = float64(n)
		}
	}
	imbalance, bound := make([]float64, len(layers)), make([]float64, len(layers))
	for l, x := range layers {
		imbalance[l], bound[l] = x.Imbalance, x.LowerBound
	}
	e := &wire.Encoder{}
	e.Raw(`{"version":1`)
	e.Field("quota")
	figures.IntRows(e, quota)
	mean, most := figures.MeanMax(imbalance, loads, 1)
	low, _ := figures.MeanMax(bound, loads, 1)
	e.Field("report")
	e.Raw(`{"imbalance_mean":`)
	e.Float(mean)
	e.Field("imbalance_max")
	e.Float(most)
	e.Field("lower_bound_mean")
	e.Float(low)
	e.Field("seconds")
	e.Float(seconds)
	e.Raw("}}\n")
	return e.B
}
