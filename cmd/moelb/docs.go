package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

func docsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "docs", Short: "Print the help of all commands as one Markdown page", Args: console.AtMost(0),
		Example: "  moelb docs > moelb.md",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return document(cmd.OutOrStdout(), cmd.Root())
		},
	}
}

// document writes a command's help, and that of those below it.
func document(w io.Writer, cmd *cobra.Command) error {
	text := cmd.Long
	if text == "" {
		text = cmd.Short
	}
	fmt.Fprintf(w, "## %s\n\n%s\n\n", cmd.CommandPath(), strings.TrimSpace(text))
	_, err := fmt.Fprintf(w, "```text\n%s\n```\n\n", strings.TrimSpace(cmd.UsageString()))
	for _, sub := range cmd.Commands() {
		if err == nil && sub.IsAvailableCommand() {
			err = document(w, sub)
		}
	}
	return err
}
