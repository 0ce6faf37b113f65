package main

import (
	"bytes"
	"fmt"

	"github.com/moelb/moelb/internal/wire"
)

// headline says in one line what is replayed.
func (r *replay) headline() string {
	t := &r.topology
	return fmt.Sprintf("%s of %s x %d experts on %s (%s), %d slots a layer", plural(len(r.windows), "window"), plural(len(r.windows[0]), "layer"),
		r.windows[0].Experts(), plural(t.GPUs, "GPU"), plural(t.NodeCount(), "node"), r.replicas)
}

// table is the replay summed up for people.
func (r *replay) table() []byte {
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s: %s\n\n", r.source, r.headline())
	g := grid{}
	g.add("experts placed by", "imbalance", "worst", "moves a layer", "copying", "time lost", "planning")
	for i := range r.ways {
		w := &r.ways[i]
		if w.refused != nil {
			g.add(w.title, "-", "-", "-", "-", "-", "-")
			continue
		}
		s := w.summary(len(r.windows[0]))
		moves, copying, planning := "-", "-", "-"
		if s.changes > 0 {
			moves = fmt.Sprintf("%.1f", s.perLayer)
			if r.bytes > 0 {
				copying = duration(s.copySeconds)
			}
		}
		if !w.never {
			planning = duration(s.planSeconds)
		}
		lost := fmt.Sprintf("%.2f%%", 100*(s.slow+s.stall))
		if r.bytes == 0 && s.changes > 0 && r.copies.hidden < 1 {
			lost = "-"
		}
		g.add(w.title, fmt.Sprintf("%.4f", s.mean), fmt.Sprintf("%.4f", s.most), moves, copying, lost, planning)
	}
	g.write(b, "  ")
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
	k := r.copies.stakes()
	out := []string{
		"Imbalance (max/mean GPU load) is that of the windows after the one planned on; moves, copying and planning are means of the " + r.when(),
		fmt.Sprintf("Time lost is what imbalance and copying add to windows of %.4g %s steps of %s, on links of H800 unless others are given", k.Horizon, r.copies.phase, duration(k.StepSeconds)),
	}
	for i := range r.ways {
		w := &r.ways[i]
		if w.refused != nil {
			out = append(out, fmt.Sprintf("No row %q: %v", w.title, w.refused))
		} else if w.ifPays {
			s := w.summary(len(r.windows[0]))
			out = append(out, fmt.Sprintf("%s: not worth moving for %d of %s", sentence(w.title), s.refusals, plural(s.changes, "plan")))
		}
	}
	return out
}

// json is the replay in full.
func (r *replay) json() []byte {
	k := r.copies.stakes()
	e := &wire.Encoder{}
	e.Raw(`{"version":1,"windows":`)
	e.Int(int64(len(r.windows)))
	e.Field("layers")
	e.Int(int64(len(r.windows[0])))
	e.Field("phase")
	e.Quote(r.copies.phase)
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
	layers(e, r.ways, func(w way) {
		e.Raw(`{"name":"` + w.name + `"`)
		if w.refused != nil {
			e.Field("error")
			e.Quote(wire.OneLine(w.refused))
			e.Raw("}")
			return
		}
		s := w.summary(len(r.windows[0]))
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
		layers(e, w.steps, func(s step) {
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
