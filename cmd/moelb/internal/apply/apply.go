// Package apply is moelb apply: what a placement is after some rounds of a schedule.
package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb/schedule"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// flags are moelb apply's flags as given.
type flags struct {
	schedule, at, out, format string
	gpus, done, rounds        int
	whole                     bool
	firstLayer                int
}

func Command(c *console.Console) *cobra.Command {
	f := &flags{}
	cmd := &cobra.Command{
		Use:   "apply --schedule FILE --placement FILE",
		Short: "Say what a placement is after some rounds of a schedule",
		Long: `Carry out rounds of a schedule on a placement, and write the placement that this
leads to: what a controller plans from when GPUs fail in the middle, or when it
starts anew.

The schedule is that of moelb plan --schedule, in the plan's own file. The
placement is the one that the plan was made from, or, with --done, what it has
become after so many rounds. A placement in the middle may have empty slots and
lack experts; moelb plan --previous takes it as it is.`,
		Example: `  moelb plan problem.json --previous now.json --schedule --out plan.json
  moelb apply --schedule plan.json --placement now.json --rounds 10 --out then.json
  moelb apply --schedule plan.json --placement then.json --done 10`,
		Args: console.AtMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, c) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	l.StringVar(&f.schedule, "schedule", "", "the plan's file, with its schedule; - = standard input")
	l.StringVar(&f.at, "placement", "", "the placement's file, in any known format; - = standard input")
	l.IntVar(&f.gpus, "gpus", 0, "GPUs, where the placement's format does not say")
	l.IntVar(&f.done, "done", 0, "rounds that have been done to the placement already")
	l.IntVar(&f.rounds, "rounds", 0, "rounds that are done in the end; unset = all")
	l.BoolVar(&f.whole, "whole-layers", false, "leave out the moves of layers that these rounds do not finish, but for what restores experts")
	l.StringVar(&f.out, "out", "", "write the placement to this file, in one stroke; - = to standard output")
	l.StringVar(&f.format, "format", "moelb", "write an engine's own file: "+problem.FormatNames())
	l.IntVar(&f.firstLayer, "first-layer", 0, "with --format tensorrt-llm: number of the first layer in the whole model (DeepSeek-V3: 3)")
	return cmd
}

func (f *flags) run(cmd *cobra.Command, c *console.Console) error {
	chosen, err := formats.ParseFormat(f.format)
	switch {
	case err != nil:
		return console.Usage(fmt.Errorf("--%w", err))
	case f.schedule == "" || f.at == "":
		return console.Usagef("--schedule and --placement are needed")
	case f.schedule == "-" && f.at == "-":
		return console.Usagef("--schedule - and --placement - both want standard input")
	case cmd.Flags().Changed("gpus") && (f.gpus < 1 || f.gpus > placement.MaxGPUs):
		return console.Usagef("--gpus %d: between 1 and %d are possible", f.gpus, placement.MaxGPUs)
	case cmd.Flags().Changed("first-layer") && chosen != formats.TensorRTLLM:
		return console.Usagef("--first-layer: only with --format %s, which numbers the layers of the whole model", formats.TensorRTLLM)
	case f.done < 0:
		return console.Usagef("--done %d is negative", f.done)
	case cmd.Flags().Changed("rounds") && f.rounds < f.done:
		return console.Usagef("--rounds %d: %d are done already", f.rounds, f.done)
	case f.whole && f.done > 0:
		return console.Usagef("--whole-layers leaves moves out of all rounds, also of the %d that are done", f.done)
	}
	s, err := readSchedule(c, f.schedule)
	if err != nil {
		return err
	}
	p, err := problem.ReadPlacement(c, f.at, f.gpus)
	if err != nil {
		return fmt.Errorf("--placement: %w", err)
	}
	for _, x := range []struct {
		flag string
		n    int
	}{{"done", f.done}, {"rounds", f.rounds}} {
		if x.n > len(s.Rounds) {
			return fmt.Errorf("--%s %d: the schedule of %s has %d rounds", x.flag, x.n, f.schedule, len(s.Rounds))
		}
	}
	if !cmd.Flags().Changed("rounds") {
		f.rounds = len(s.Rounds)
	}
	if f.whole {
		s = s.Prefix(f.rounds)
	}
	q, err := s.Resume(&p, f.done, f.rounds)
	if err != nil {
		return fmt.Errorf("%s: %w", f.at, err)
	}
	var b bytes.Buffer
	if err := formats.EncodePlacement(&b, chosen, &q, formats.EncodeOptions{FirstLayer: f.firstLayer}); err != nil {
		return console.Blame(cmd, "", err)
	}
	if f.out != "" && f.out != "-" {
		return console.WriteFile("--out", f.out, b.Bytes())
	}
	_, err = cmd.OutOrStdout().Write(b.Bytes())
	return err
}

// readSchedule reads a schedule from the plan that holds it, or by itself.
func readSchedule(c *console.Console, path string) (s schedule.Schedule, err error) {
	in, err := c.OpenFor("--schedule", path)
	if err != nil {
		return s, err
	}
	defer in.Close()
	if in.R == nil {
		return s, fmt.Errorf("%s: a folder, not a plan", path)
	}
	text, err := io.ReadAll(in.R)
	if err == nil && len(bytes.TrimSpace(text)) == 0 {
		err = console.ErrEmpty
	}
	if err != nil {
		return s, console.Named(in.Name(), err)
	}
	var plan struct {
		Schedule json.RawMessage `json:"schedule"`
		Version  json.RawMessage `json:"version"`
	}
	switch err = json.Unmarshal(text, &plan); {
	case errors.As(err, new(*json.UnmarshalTypeError)):
		err = wire.Bad(placement.ErrValue, "schedule", -1, -1, "an object is needed")
	case err != nil:
	case plan.Schedule != nil:
		err = s.UnmarshalJSON(plan.Schedule)
	case plan.Version != nil:
		err = wire.Bad(placement.ErrShape, "schedule", -1, -1, "missing: make the plan with --previous and --schedule")
	default:
		err = s.UnmarshalJSON(text)
	}
	return s, console.Named(in.Name(), err)
}
