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
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/moelb/moelb/internal/wire"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1 // the input is bad or the work failed
	exitUsage  = 2 // wrong usage
)

// usageError is an error in how the command was called.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// console is where a command reads and writes.
type console struct {
	stdin          io.Reader
	stdout, stderr io.Writer
}

// run is the whole command without its process: it returns the exit code. What
// it writes to stdout is written only when all has succeeded.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	out := bufio.NewWriterSize(stdout, 1<<16)
	c := &console{stdin: stdin, stdout: stdout, stderr: stderr}
	root := rootCommand(c)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if flush := out.Flush(); err == nil {
		err = flush
	}
	var usage usageError
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		fmt.Fprintf(stderr, "moelb: %s (see moelb --help)\n", wire.OneLine(err))
		return exitUsage
	}
	fmt.Fprintf(stderr, "moelb: %s\n", wire.OneLine(err))
	return exitFailed
}

// searching returns the context of a search: a time limit (0 = none) ends it,
// and so does the first interrupt, for the best answer so far. From then on an
// interrupt ends the program.
func searching(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	cancel := func() {}
	if limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, limit)
	}
	context.AfterFunc(ctx, release)
	return ctx, func() { cancel(); release() }
}

func rootCommand(c *console) *cobra.Command {
	root := &cobra.Command{
		Use:   "moelb",
		Short: "Balance the load of large-scale Mixture-of-Experts inference",
		Long: `moelb balances the load of large-scale Mixture-of-Experts inference.

All GPUs of a unit run in lockstep, so a step lasts as long as its most loaded
GPU. moelb plan decides which expert gets how many replicas and where they sit,
so that this load is least, and proves how much better any plan could be.`,
		Example:       "  moelb plan\n  moelb plan problem.json > placement.json\n  moelb score --placement placement.json --loads stats.json\n  moelb replay",
		Version:       version(),
		SilenceErrors: true, SilenceUsage: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("unknown command %q", args[0])
			}
			return usagef("a command is missing")
		},
		RunE: func(*cobra.Command, []string) error { return nil },
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.SetVersionTemplate("{{.Version}}\n")
	root.AddCommand(planCommand(c), scoreCommand(c), applyCommand(c), sizeCommand(c), splitCommand(c), replayCommand(c), prefillCommand(c), decodeCommand(c), estimateCommand(c), simulateCommand(c), docsCommand(), &cobra.Command{
		Use: "version", Short: "Print the version", Args: atMost(0),
		Example: "  moelb version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), version())
			return err
		},
	})
	return root
}

// atMost accepts up to n arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return usagef("unexpected argument %q", args[n])
		}
		return nil
	}
}

// release is the version that this source is on the way to.
const release = "v0.1.0-dev"

// version is the module's version as the Go tool recorded it; of a build from a
// source tree, the release it is on the way to, and the commit where it is known.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "moelb " + release
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		return "moelb " + v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "moelb " + release + "+" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "moelb " + release
}

// terminal reports whether a stream of the console is a person's screen.
func terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
