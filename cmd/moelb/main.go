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
	"strconv"
	"strings"

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
so that this load is least, and proves how much better any plan could be.

Files that examples name are your own: statistics as an engine recorded them, or a
problem, placement or batch as docs/wire.md says. What needs none is an example as
it stands: moelb plan, replay, size, simulate, estimate --published.`,
		Example:       "  moelb plan\n  moelb plan problem.json > placement.json\n  moelb score --placement placement.json --loads stats.json\n  moelb replay",
		Version:       console.Version(),
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return console.Usagef("unknown command %q", args[0])
			}
			return console.Usagef("a command is missing")
		},
		RunE:              func(*cobra.Command, []string) error { return nil },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return console.Given(cmd) },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return console.Usage(plainly(err)) })
	root.SetHelpCommand(helpCommand(root))
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

// helpCommand is the help of a command, and says where there is no such command.
func helpCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use: "help [command]", Short: "Help about any command",
		Example: "  moelb help plan",
		RunE: func(_ *cobra.Command, args []string) error {
			of, rest, err := root.Find(args)
			if err != nil || len(rest) > 0 {
				return console.Usagef("unknown command %q", strings.Join(args, " "))
			}
			of.InitDefaultHelpFlag()
			return of.Help()
		},
	}
}

// plainly says what a flag wants where its value is no number, or not that kind of one.
func plainly(err error) error {
	var number *strconv.NumError
	if !errors.As(err, &number) {
		return err
	}
	wants := "a number is needed"
	switch {
	case errors.Is(number, strconv.ErrRange):
		wants = "it is out of range"
	case number.Func == "ParseInt":
		wants = "a whole number is needed"
	case number.Func == "ParseUint":
		wants = "a whole number from 0 on is needed"
	case number.Func == "ParseBool":
		wants = "true or false is needed"
	}
	return errors.New(strings.TrimSuffix(err.Error(), number.Error()) + wants)
}
