package console

import (
	"github.com/schollz/progressbar/v3"
)

// Progress is a bar on standard error, or nothing where that is no terminal.
func Progress(c *Console, steps int) *progressbar.ProgressBar {
	if !Terminal(c.Stderr) {
		return progressbar.DefaultSilent(int64(steps))
	}
	return progressbar.NewOptions(steps, progressbar.OptionSetWriter(c.Stderr), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("planning"))
}
