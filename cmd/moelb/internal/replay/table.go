package replay

import (
	"bytes"
	"fmt"

	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/internal/wire"
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

// json is the replay in full.
func (r *replay) json() []byte {
	k := r.copies.Stakes()
	e := &wire.Encoder{}
	e.Raw(`{"version":1,"windows":`)
	e.Int(int64(len(r.Windows)))
	e.Field("layers")
	e.Int(int64(len(r.Windows[0])))
	e.Field("phase")
	e.Quote(r.copies.Phase)
	e.Field("step_seconds")
	e.Float(k.StepSeconds)
	e.Field("steps_per_window")
	e.Float(k.Horizon)
	e.Field("policies")
	priced := r.bytes > 0
	seconds := func(x float64) {
		if priced {
			e.Float(x)
		} else {
			e.Raw("null")
		}
	}
	figures.Lines(e, r.ways, func(w way) {
		e.Raw(`{"name":"` + w.name + `"`)
		if w.refused != nil {
			e.Field("error")
			e.Quote(wire.OneLine(w.refused))
			e.Raw("}")
			return
		}
		s := w.summary(len(r.Windows[0]))
		lost := func(x float64) {
			if priced || s.changes == 0 || k.Hidden == 1 {
				e.Float(x)
			} else {
				e.Raw("null")
			}
		}
		e.Field("imbalance_mean")
		e.Float(s.mean)
		e.Field("imbalance_max")
		e.Float(s.most)
		e.Field("moves")
		e.Int(int64(s.moves))
		e.Field("moves_per_plan_and_layer")
		e.Float(s.perLayer)
		e.Field("copy_seconds_per_plan")
		seconds(s.copySeconds)
		e.Field("lost")
		lost(s.slow + s.stall)
		e.Field("plan_seconds")
		e.Float(s.planSeconds)
		e.Field("plans")
		e.Int(int64(s.changes))
		e.Field("not_worth_moving")
		e.Int(int64(s.refusals))
		e.Field("next_windows")
		figures.Lines(e, w.steps, func(s step) {
			e.Raw(`{"imbalance_mean":`)
			e.Float(s.mean)
			e.Field("imbalance_max")
			e.Float(s.most)
			e.Field("moves")
			e.Int(int64(s.moves))
			e.Field("copy_seconds")
			seconds(s.copySeconds)
			e.Field("lost")
			lost(s.slow + s.stall)
			e.Raw("}")
		})
		e.Raw("}")
	})
	e.Raw("}\n")
	return e.B
}
