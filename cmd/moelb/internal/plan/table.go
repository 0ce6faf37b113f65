package plan

import (
	"bytes"
	"fmt"
	"math"
	"strings"

	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/eplb"
)

// headline says in one line what was planned.
func (s *solution) headline() string {
	t := &s.Topology
	out := fmt.Sprintf("%s x %d experts on %s (%s), %d slots a layer", human.Plural(len(s.loads), "layer"), s.loads.Experts(), human.Plural(t.GPUs, "GPU"), human.Plural(t.NodeCount(), "node"), s.Replicas)
	if dead := t.GPUs - t.InService(); dead > 0 {
		out += fmt.Sprintf(", %d out of service", dead)
	}
	return out
}

// beforeName says what the plan is compared with.
func (s *solution) beforeName() string {
	if s.Previous != nil {
		return "previous"
	}
	return "initial"
}

// table is a plan summed up for people.
func (s *solution) table() ([]byte, error) {
	before, err := s.beforeImbalance()
	if err != nil {
		return nil, err
	}
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s: %s\n\n", s.Source, s.headline())
	mean, most := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
	low, lowMost := figures.MeanMax(figures.Each(&s.result, figures.BoundOf), s.loads, 1)
	was, wasMost := "-", "-"
	g := human.Table{}
	g.Add("imbalance (max/mean GPU load)", s.beforeName(), "plan", "lower bound")
	if before != nil {
		x, y := figures.MeanMax(before, s.loads, 1)
		was, wasMost = fmt.Sprintf("%.4f", x), fmt.Sprintf("%.4f", y)
	}
	g.Add("mean of the layers", was, fmt.Sprintf("%.4f", mean), fmt.Sprintf("%.4f", low))
	g.Add("worst layer", wasMost, fmt.Sprintf("%.4f", most), fmt.Sprintf("%.4f", lowMost))
	if k := s.result.Locality; k != nil {
		x, y := figures.MeanMax(k.FreeImbalance, s.loads, 1)
		g.Add("mean, groups not kept on nodes", "", fmt.Sprintf("%.4f", x), "")
		g.Add("worst, groups not kept on nodes", "", fmt.Sprintf("%.4f", y), "")
	}
	g.Write(b, "  ")
	b.WriteByte('\n')
	s.trafficTable(b)
	if hottest := s.hottest(5); len(hottest) > 0 {
		h := human.Table{}
		h.Add("hottest experts", "share of its layer", "x mean expert", "replicas")
		for _, x := range hottest {
			h.Add(fmt.Sprintf("layer %d, expert %d", x.Layer, x.Expert), fmt.Sprintf("%.2f%%", 100*x.Share), fmt.Sprintf("%.1f", x.Times), fmt.Sprint(x.Replicas))
		}
		h.Write(b, "  ")
		b.WriteByte('\n')
	}
	for _, line := range s.remarks() {
		fmt.Fprintf(b, "%s\n", line)
	}
	return b.Bytes(), nil
}

// remarks are what the plan means, a sentence each.
func (s *solution) remarks() []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	proved, stopped, gap := 0, 0, 0.0
	for _, l := range s.result.Layers {
		switch l.Status {
		case eplb.Proved:
			proved++
		case eplb.Stopped:
			stopped++
		}
		gap = max(gap, l.Imbalance/l.LowerBound-1)
	}
	text := fmt.Sprintf("Planned in %s by policy %v; ", human.Duration(s.seconds), s.Options.Policy)
	switch {
	case proved == len(s.loads):
		text += "no plan is better in any layer"
	default:
		text += fmt.Sprintf("no layer is more than %.2g%% above its lower bound", math.Ceil(1e4*gap)/100)
	}
	if stopped > 0 {
		text += fmt.Sprintf("; %s stopped early", human.Plural(stopped, "layer"))
	}
	say("%s", text)
	if n := len(s.Windows); n > 1 && s.Options.Dispatch != eplb.Split {
		say("Imbalance is that of %s in proportion to their tokens", human.Plural(n, "window"))
	}
	if names := s.without(); names != nil {
		what := "The previous placement"
		if s.Previous == nil {
			what = "The initial placement (expert after expert, as engines start)"
		}
		say("%s stands without the plan's %s", what, strings.Join(names, ", "))
	}
	if k := s.result.Locality; k != nil {
		mean, _ := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
		free, _ := figures.MeanMax(k.FreeImbalance, s.loads, 1)
		share, _ := figures.MeanMax(k.OffNodeShare, s.loads, 0)
		text := fmt.Sprintf("Keeping %s on their nodes costs %.1f%% of the expert time", human.Plural(s.Groups, "group"), 100*(mean/free-1))
		if share > 0 {
			text += fmt.Sprintf("; %.1f%% of the load is served off its node", 100*share)
		}
		say("%s", text)
	}
	if s.Previous != nil {
		say("%s", s.movesText())
	}
	if s.change != nil {
		for _, line := range s.change.remarks() {
			say("%s", line)
		}
	}
	return out
}

// movesText says how much the plan moves.
func (s *solution) movesText() string {
	moves := s.moves()
	text := fmt.Sprintf("%s (%.1f a layer)", human.Plural(moves, "move"), float64(moves)/float64(len(s.loads)))
	if n, known := s.movedBytes(moves); known && s.bytes > 0 {
		text += fmt.Sprintf(", %s of weights", human.Bytes(n))
		if s.model != nil && s.bytes == s.model.ExpertBytes() {
			text += " as " + s.model.Name
		}
	}
	return text
}
