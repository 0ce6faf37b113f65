// Package console is what every command of moelb shares with the world: its streams
// and exit codes, errors of usage, interrupts, its inputs, and files written in one
// stroke.
package console

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Exit codes.
const (
	ExitDone   = 0
	ExitFailed = 1 // the input is bad or the work failed
	ExitUsage  = 2 // wrong usage
)

// UsageError is an error in how the command was called.
type UsageError struct{ err error }

func (e UsageError) Error() string { return e.err.Error() }

func (e UsageError) Unwrap() error { return e.err }

// Usage is err as an error in how the command was called.
func Usage(err error) error { return UsageError{err} }

// Usagef is fmt.Errorf for errors in how the command was called.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// Console is where a command reads and writes.
type Console struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// Searching returns the context of a search: a time limit (0 = none) ends it,
// and so does the first interrupt, for the best answer so far. From then on an
// interrupt ends the program.
func Searching(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	ctx, release := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	cancel := func() {}
	if limit > 0 {
		ctx, cancel = context.WithTimeout(ctx, limit)
	}
	context.AfterFunc(ctx, release)
	return ctx, func() { cancel(); release() }
}

// AtMost accepts up to n arguments.
func AtMost(n int) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) > n {
			return Usagef("unexpected argument %q", args[n])
		}
		return nil
	}
}

// mayBeEmpty are flags of which an empty value means something: a list of nothing, or
// what holds without them.
var mayBeEmpty = []string{"everywhere", "gpus-per-node", "domains", "leaving", "data"}

// Given refuses flags that were given an empty value, such as a variable that is not
// set: they would be as if not given. Nor is a page for standard output.
func Given(cmd *cobra.Command) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		switch text := f.Value.String(); {
		case err != nil || f.Value.Type() != "string":
		case text == "" && !slices.Contains(mayBeEmpty, f.Name):
			err = Usagef("--%s: a value is needed, not an empty one", f.Name)
		case text == "-" && f.Name == "html":
			err = Usagef("--%s: a file name is needed, not -", f.Name)
		}
	})
	return err
}

// Terminal reports whether a stream of the console is a person's screen.
func Terminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
