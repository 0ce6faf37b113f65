// Package sessions is moelb prefill and moelb decode: balancers of requests that answer
// line by line.
package sessions

import (
	"bufio"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/internal/session"
)

func PrefillCommand(c *console.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "prefill [FILE | -]",
		Short: "Balance prefill requests over ranks, line by line",
		Long: `Decide which rank computes which prompt, and how much of it in each lockstep
step, so that attention work and tokens are both even over the ranks of a unit.

A session over JSON Lines: one request line, one reply line, in order. The first
line is config; then add (place one now), enqueue and step (form the next step
from what waits), cached, done, cancel, move, sync, drain, restore, dead, resize,
quote, stats, snapshot and load. A line that fails is answered with its error and
changes nothing. docs/wire.md lists the lines and their fields.`,
		Example: `  printf '%s\n' '{"op":"config","ranks":4}' '{"op":"enqueue","id":"a","tokens":90000,"cached":0}' '{"op":"step"}' | moelb prefill`,
		Args:    console.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return serve(c, args, "prefill", session.NewPrefill())
		},
	}
}

func DecodeCommand(c *console.Console) *cobra.Command {
	return &cobra.Command{
		Use:   "decode [FILE | -]",
		Short: "Balance decode requests over ranks, line by line",
		Long: `Decide which rank each decode request joins, so that KV-cache use and request
count are even over the ranks of a unit.

A session over JSON Lines: one request line, one reply line, in order. The first
line is config; then add, batch, step, start, grow, done, cancel, move, rebalance,
sync, drain, restore, dead, resize, quote, stats, snapshot and load. A line that
fails is answered with its error and changes nothing. docs/wire.md lists the lines
and their fields.`,
		Example: `  printf '%s\n' '{"op":"config","ranks":4}' '{"op":"add","id":"a","kv":5000}' '{"op":"step"}' '{"op":"stats"}' | moelb decode`,
		Args:    console.AtMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return serve(c, args, "decode", session.NewDecode())
		},
	}
}

// serve answers the lines of the argument, or of standard input.
func serve(c *console.Console, args []string, command string, s *session.Session) error {
	if len(args) == 0 || args[0] == "-" {
		if len(args) == 0 && !console.Piped(c.Stdin) {
			return console.Usagef("moelb %s wants a file, or \"-\" for standard input", command)
		}
		return s.Serve(bufio.NewReaderSize(c.Stdin, 1<<16), c.Stdout)
	}
	in, err := c.Open(args)
	if err != nil {
		return err
	}
	defer in.Close()
	if in.R == nil {
		return fmt.Errorf("%s: is a folder", in.Name())
	}
	return console.Named(in.Name(), s.Serve(in.R, c.Stdout))
}
