package main

import "github.com/spf13/cobra"

func sizeCommand(c *console) *cobra.Command { return &cobra.Command{Use: "size"} }
