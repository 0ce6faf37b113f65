// Command sglang turns what SGLang's expert distribution recorder saved into a
// file for its --init-expert-location:
//
//	go run ./examples/sglang -gpus 8 -replicas 72 expert_distribution_recorder.pt > expert_location.json
//
// The statistics may be its .pt dumps or JSON, or any other format that package
// formats reads. The plan holds over the windows of the recording, so that it
// serves the traffic's changes, not only its sum.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		log.Fatal(err)
	}
}

func run(args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("sglang", flag.ContinueOnError)
	flags.SetOutput(stderr)
	gpus := flags.Int("gpus", 8, "GPUs of the unit (SGLang's --ep-size)")
	nodes := flags.Int("nodes", 1, "nodes that share them")
	groups := flags.Int("groups", 1, "groups of experts that are routed together")
	replicas := flags.Int("replicas", 72, "slots a layer: experts and SGLang's --ep-num-redundant-experts")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("sglang: one file of statistics is needed, %d are given", flags.NArg())
	}
	stats, err := formats.ReadStats(flags.Arg(0))
	if err != nil {
		return err
	}
	unit := placement.Topology{GPUs: *gpus, Nodes: *nodes}
	plan, err := eplb.Plan(context.Background(), eplb.Problem{
		Windows:  merge(stats.Windows, 8),
		Replicas: *replicas,
		Groups:   *groups,
		Topology: unit,
	}, eplb.Options{})
	if err != nil {
		return err
	}

	// How both placements do over the whole recording.
	sum := stats.Sum()
	first := placement.Trivial(len(sum), sum.Experts(), *replicas, *gpus)
	before, err := first.ScoreLayers(sum, unit)
	if err != nil {
		return err
	}
	after, err := plan.Placement.ScoreLayers(sum, unit)
	if err != nil {
		return err
	}
	fmt.Fprintf(stderr, "%s: %d windows of %d layers x %d experts\n", stats.Format, len(stats.Windows), len(sum), sum.Experts())
	fmt.Fprintf(stderr, "imbalance, mean of the layers: %.3f as SGLang starts, %.3f with this plan\n", mean(before), mean(after))
	return formats.EncodePlacement(stdout, formats.SGLang, &plan.Placement, formats.EncodeOptions{})
}

// merge adds neighbouring windows up until there are at most n.
func merge(windows []placement.Loads, n int) []placement.Loads {
	if len(windows) <= n {
		return windows
	}
	out := make([]placement.Loads, n)
	for i := range out {
		s := formats.Stats{Windows: windows[i*len(windows)/n : (i+1)*len(windows)/n]}
		out[i] = s.Sum()
	}
	return out
}

func mean(layers []placement.Score) float64 {
	sum := 0.0
	for _, l := range layers {
		sum += l.Imbalance
	}
	return sum / float64(len(layers))
}
