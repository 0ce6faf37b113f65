// Package replay is moelb replay: how several ways to place experts fare over recorded
// windows.
package replay

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/copies"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// flags are moelb replay's flags as given.
type flags struct {
	problem.Flags
	loads  string
	every  int
	past   int // windows that are planned jointly
	copies copies.Flags
	html   string
	asJSON bool
}

func Command(c *console.Console) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "replay --loads FILE",
		Short: "Replay recorded windows: what re-planning brings, and what it moves",
		Long: `Replay the windows of recorded statistics: before each window experts are placed
by what is known until then, and the placement is scored on that window, by
several ways to do it:

  no balancing           expert after expert, as engines start
  planned once           policy optimal on the first window, then left alone
  published policy       DeepSeek's algorithm, anew every window
  re-planned             policy optimal, anew every window
  last K jointly         the same, to hold over each of the last K windows
  followed to T          from the placement in force to imbalance T, with few moves
  whichever pays         few moves for the last window, or for the last K jointly, or
                         none: what gained most over the last K windows for its
                         copying, in as many rounds as pay

Printed are the imbalance on the next window (mean over layers and windows, and
the worst layer), the moves and the seconds of copying each time, and the time
lost to both, in steps of the phase's published length. The first placement is
not counted as moved.

FILE is what moelb plan reads, with at least two windows; "-" is standard input.
Without any input, a built-in drift is replayed: 24 windows of DeepSeek-V3, any
expert anywhere on 4 nodes of 8 H800 GPUs, while its traffic changes.`,
		Example: `  moelb replay
  moelb replay --loads stats.jsonl --gpus 8 --replicas 72 --html replay.html
  moelb replay --loads stats.jsonl --gpus 32 --nodes 4 --replicas 288 --target 1.02 --every 4
  moelb replay --phase prefill --step-seconds 0.5 --horizon 100 --json`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return console.Usagef("unexpected argument %q: the windows are --loads %s", args[0], args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, c) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	l.StringVar(&f.loads, "loads", "", "the windows: an engine's statistics, or a problem")
	f.Shape.Add(cmd)
	l.IntVar(&f.Replicas, "replicas", 0, "slots a layer, over all GPUs")
	l.StringVar(&f.Locality, "locality", "auto", "auto, groups (each group of experts on one node), or none")
	l.Float64Var(&f.Target, "target", 0, "stop moving a layer at this imbalance; unset = 1% above the best there is")
	l.IntVar(&f.MaxMoves, "max-moves", 0, "the most moves in all each time; unset = any number")
	l.IntVar(&f.Restarts, "restarts", -1, "how often moves of a layer are taken back at most to look for fewer; 0 = 4, negative = never")
	l.IntVar(&f.past, "windows", 4, "how many of the last windows are planned jointly")
	l.IntVar(&f.every, "every", 1, "plan every N windows, from the sum of the last N")
	f.copies.Add(cmd, "how many steps a window lasts")
	l.StringVar(&f.Model, "model", "auto", "whose experts are moved, for their size: auto (by shape), none, "+problem.ModelNames())
	l.IntVar(&f.Workers, "workers", 0, "threads; 0 = all cores. The plans do not depend on it")
	l.BoolVar(&f.Example, "example", false, "replay the built-in drift and read nothing")
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	l.StringVar(&f.html, "html", "", "write a page with pictures to this file")
	return cmd
}

// run reads, replays and writes.
func (f *flags) run(cmd *cobra.Command, c *console.Console) error {
	r, err := f.prepare(cmd, c)
	if err != nil {
		return err
	}
	bar := console.Progress(c, len(r.ways)*len(r.Windows))
	for i := range r.ways {
		if err := r.run(cmd.Context(), &r.ways[i], func() { bar.Add(1) }); err != nil {
			bar.Finish()
			return console.Blame(cmd, r.File, err)
		}
	}
	bar.Finish()
	b := r.table()
	if f.asJSON {
		if b, err = r.json(); err != nil {
			return err
		}
	}
	if f.html != "" {
		page, err := r.page()
		if err != nil {
			return err
		}
		if err := console.WriteFile("--html", f.html, page); err != nil {
			return err
		}
		if !f.asJSON {
			b = fmt.Appendf(b, "Page written to %s\n", f.html)
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// prepare checks the flags and reads the windows.
func (f *flags) prepare(cmd *cobra.Command, c *console.Console) (*replay, error) {
	var args []string
	if f.loads != "" {
		args = []string{f.loads}
	}
	if err := f.Check(args); err != nil {
		return nil, err
	}
	if err := f.copies.Check(); err != nil {
		return nil, err
	}
	switch {
	case cmd.Flags().Changed("target") && !(f.Target >= 1 && f.Target <= placement.MaxGPUs):
		return nil, console.Usagef("--target %v: an imbalance is at least 1", f.Target)
	case f.past < 1 || f.past > 1<<10:
		return nil, console.Usagef("--windows %d: between 1 and %d are possible", f.past, 1<<10)
	case f.every < 1 || f.every > 1<<20:
		return nil, console.Usagef("--every %d: between 1 and %d are possible", f.every, 1<<20)
	case cmd.Flags().Changed("max-moves") && f.MaxMoves < 0:
		return nil, console.Usagef("--max-moves %d is negative", f.MaxMoves)
	}
	f.Replays = true
	p, err := f.Read(cmd, c, args)
	if err != nil {
		return nil, err
	}
	if err := replayable(p); err != nil {
		return nil, console.Blame(cmd, p.File, err)
	}

	r := &replay{Problem: p, copies: &f.copies, every: f.every, past: f.past}
	if r.model, err = problem.FindModel(f.Model, len(p.Windows[0]), p.Windows[0].Experts()); err != nil {
		return nil, err
	}
	r.bytes = f.copies.Bytes(r.model)
	r.ways = r.allWays()
	return r, nil
}

// replayable refuses what a replay has no use for.
func replayable(p *problem.Problem) error {
	switch {
	case len(p.Windows) < 2:
		return wire.Bad(placement.ErrShape, "loads", -1, -1, "%s: a replay plans on one and scores on the next", human.Plural(len(p.Windows), "window"))
	case p.Previous != nil && p.Previous.GPUs != p.Topology.GPUs:
		return wire.Bad(placement.ErrFit, "previous", -1, -1, "it is on %d GPUs, not %d: moelb plan --schedule takes it there first", p.Previous.GPUs, p.Topology.GPUs)
	case p.Ask().Routes != nil:
		return wire.Bad(placement.ErrValue, "routes", -1, -1, "a replay plans window after window, and has no tokens of each: moelb score --routes counts the nodes that they visit")
	case p.Options.Policy != eplb.Optimal:
		return wire.Bad(placement.ErrValue, "policy", -1, -1, "%q: a replay compares the policies", p.Options.Policy)
	}
	return nil
}
