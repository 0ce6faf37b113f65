package replay

import (
	"bytes"
	"fmt"

	"github.com/moelb/moelb/cmd/moelb/internal/human"
)

// headline says in one line what is replayed.
func (r *replay) headline() string {
	t := &r.Topology
	return fmt.Sprintf("%s of %s x %d experts on %s (%s), %d slots a layer", human.Plural(len(r.Windows), "window"), human.Plural(len(r.Windows[0]), "layer"),
		r.Windows[0].Experts(), human.Plural(t.GPUs, "GPU"), human.Plural(t.NodeCount(), "node"), r.Replicas)
}

// table is the replay summed up for people.
func (r *replay) table() []byte {
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s: %s\n\n", r.Source, r.headline())
	g := human.Table{}
	g.Add("experts placed by", "imbalance", "worst", "moves a layer", "copying", "time lost", "planning")
	for i := range r.ways {
		w := &r.ways[i]
		if w.refused != nil {
			g.Add(w.title, "-", "-", "-", "-", "-", "-")
			continue
		}
		s := w.summary(len(r.Windows[0]))
		moves, copying, planning := "-", "-", "-"
		if s.changes > 0 {
			moves = fmt.Sprintf("%.1f", s.perLayer)
			if r.bytes > 0 {
				copying = human.Duration(s.copySeconds)
			}
		}
		if !w.never {
			planning = human.Duration(s.planSeconds)
		}
		lost := fmt.Sprintf("%.2f%%", 100*(s.slow+s.stall))
		if r.bytes == 0 && s.changes > 0 && r.copies.Hidden < 1 {
			lost = "-"
		}
		g.Add(w.title, fmt.Sprintf("%.4f", s.mean), fmt.Sprintf("%.4f", s.most), moves, copying, lost, planning)
	}
	g.Write(b, "  ")
	b.WriteByte('\n')
	for _, line := range r.remarks() {
		fmt.Fprintf(b, "%s\n", line)
	}
	return b.Bytes()
}

// when says how often is planned.
func (r *replay) when() string {
	if r.every == 1 {
		return "plans, one before every window"
	}
	return fmt.Sprintf("plans, one every %d windows", r.every)
}

// remarks are what the table means, a sentence each.
func (r *replay) remarks() []string {
	k := r.copies.Stakes()
	out := []string{
		"Imbalance (max/mean GPU load) is that of the windows after the one planned on; moves, copying and planning are means of the " + r.when(),
		fmt.Sprintf("Time lost is what imbalance and copying add to windows of %.4g %s steps of %s, on links of H800 unless others are given", k.Horizon, r.copies.Phase, human.Duration(k.StepSeconds)),
	}
	for i := range r.ways {
		w := &r.ways[i]
		if w.refused != nil {
			out = append(out, fmt.Sprintf("No row %q: %v", w.title, w.refused))
		} else if w.ifPays {
			s := w.summary(len(r.Windows[0]))
			out = append(out, fmt.Sprintf("%s: not worth moving for %d of %s", human.Sentence(w.title), s.refusals, human.Plural(s.changes, "plan")))
		}
	}
	return out
}
