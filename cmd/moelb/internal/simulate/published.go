package simulate

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
)

// comparison prints the model beside published systems.
func (f *estimateFlags) comparison(cmd *cobra.Command) error {
	if err := only(cmd, "--published", "the systems are those that were published, each with its own", "published", "json"); err != nil {
		return err
	}
	all, median, worst, err := cost.Published()
	if err != nil {
		return err
	}
	b := comparisonTable(all, median, worst)
	if f.asJSON {
		if b, err = comparisonJSON(all, median, worst); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// standing says what a system is to the errors' median.
func standing(c *cost.Compared) string {
	switch {
	case c.Sets != "":
		return "sets " + c.Sets
	case c.Open != "":
		return "open: " + c.Open
	}
	return "counts"
}

func comparisonTable(all []cost.Compared, median, worst float64) []byte {
	b := &bytes.Buffer{}
	b.WriteString("Published systems, tokens a second and GPU (cached ones not counted); an NPU of Ascend is two dies\n\n")
	g := human.Table{Left: true}
	g.Add("system", "published", "here", "error", "unexplained", "standing", "conditions", "source")
	counted := 0
	for i := range all {
		c := &all[i]
		if c.Counted() {
			counted++
		}
		g.Add(c.Name, fmt.Sprintf("%.0f", c.PerGPU), fmt.Sprintf("%.0f", c.Got), fmt.Sprintf("%+.1f%%", 100*c.Error), fmt.Sprintf("%.2f", 1/(1+c.Error)), standing(c), fmt.Sprintf("%s; experts max/mean %.2f", c.Conditions, c.Batch.Experts), c.Source)
	}
	g.Write(b, "  ")
	fmt.Fprintf(b, "\n%d systems, %d of which count: the median error is %.1f%%, the largest %.1f%%.\n", len(all), counted, 100*median, 100*worst)
	b.WriteString("Unexplained is published / here; nothing but what a system is said to set was fitted to it. What lacks conditions, or runs both phases in one step, is shown and not counted.\n")
	return b.Bytes()
}
