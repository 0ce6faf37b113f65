// Command moelb plans, scores and sizes the placement of experts, replays how it
// fares while loads drift, and splits a batch over it. It reads, calls one package, and prints: what it decides is
// decided in package eplb.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/apply"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/plan"
	"github.com/moelb/moelb/cmd/moelb/internal/replay"
	"github.com/moelb/moelb/cmd/moelb/internal/score"
	"github.com/moelb/moelb/cmd/moelb/internal/sessions"
	"github.com/moelb/moelb/cmd/moelb/internal/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/size"
	"github.com/moelb/moelb/cmd/moelb/internal/split"
	"github.com/moelb/moelb/internal/wire"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole command without its process: it returns the exit code. What
// it writes to stdout is written only when all has succeeded.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := bufio.NewWriterSize(stdout, 1<<16)
	c := &console.Console{Stdin: stdin, Stdout: stdout, Stderr: stderr}
	root := rootCommand(c)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if flush := out.Flush(); err == nil {
		err = flush
	}
	var usage console.UsageError
	switch {
	case err == nil:
		return console.ExitDone
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "moelb: %s (see moelb --help)\n", wire.OneLine(err))
		return console.ExitUsage
	}
	fmt.Fprintf(stderr, "moelb: %s\n", wire.OneLine(err))
	return console.ExitFailed
}

func rootCommand(c *console.Console) *cobra.Command {
	root := &cobra.Command{
		Use:   "moelb",
		Short: "Balance the load of large-scale Mixture-of-Experts inference",
		Long: `moelb balances the load of large-scale Mixture-of-Experts inference.

All GPUs of a unit run in lockstep, so a step lasts as long as its most loaded
GPU. moelb plan decides which expert gets how many replicas and where they sit,
so that this load is least, and proves how much better any plan could be.`,
		Example:       "  moelb plan\n  moelb plan problem.json > placement.json\n  moelb score --placement placement.json --loads stats.json\n  moelb replay",
		Version:       console.Version(),
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return console.Usagef("unknown command %q", args[0])
			}
			return console.Usagef("a command is missing")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return console.Usage(err) })
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(plan.Command(c), score.Command(c), apply.Command(c), size.Command(c), split.Command(c), replay.Command(c), sessions.PrefillCommand(c), sessions.DecodeCommand(c), simulate.EstimateCommand(c), simulate.SimulateCommand(c), docsCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: console.AtMost(0),
		Example: "  moelb version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), console.Version())
			return err
		},
	})
	return root
}
