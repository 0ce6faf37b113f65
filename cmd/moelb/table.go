package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"

	"github.com/moelb/moelb/eplb"
)

// grid is a table in plain text: the first column is flush left unless it
// holds numbers, the others are flush right unless all are words.
type grid struct {
	rows    [][]string
	numbers bool // in the first column
	left    bool // every column flush left
}

func (g *grid) add(cells ...string) { g.rows = append(g.rows, cells) }

// write prints the grid with a rule under its first row.
func (g *grid) write(b *bytes.Buffer, indent string) {
	var width []int
	for _, row := range g.rows {
		for i, cell := range row {
			if i == len(width) {
				width = append(width, 0)
			}
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for i, row := range g.rows {
		line, rule := indent, -2
		for j, cell := range row {
			pad := strings.Repeat(" ", width[j]-utf8.RuneCountInString(cell))
			switch {
			case j > 0 && g.left:
				line += "  " + cell + pad
			case j > 0:
				line += "  " + pad + cell
			case g.numbers:
				line += pad + cell
			default:
				line += cell + pad
			}
			rule += width[j] + 2
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
		if i == 0 {
			b.WriteString(indent + strings.Repeat("─", rule) + "\n")
		}
	}
}

// duration is seconds for people.
func duration(seconds float64) string {
	switch {
	case seconds < 1e-3:
		return fmt.Sprintf("%.0f µs", seconds*1e6)
	case seconds < 1:
		return fmt.Sprintf("%.3g ms", seconds*1e3)
	}
	return fmt.Sprintf("%.3g s", seconds)
}

// size is bytes for people, in decimal units.
func size(n int64) string {
	x := float64(n)
	for _, unit := range []string{"B", "kB", "MB", "GB"} {
		if x < 1000 {
			return fmt.Sprintf("%.3g %s", x, unit)
		}
		x /= 1000
	}
	return fmt.Sprintf("%.3g TB", x)
}

// plural is "1 node", "4 nodes".
func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// headline says in one line what was planned.
func (s *solution) headline() string {
	t := &s.topology
	out := fmt.Sprintf("%s x %d experts on %s (%s), %d slots a layer", plural(len(s.loads), "layer"), s.loads.Experts(), plural(t.GPUs, "GPU"), plural(t.NodeCount(), "node"), s.replicas)
	if dead := t.GPUs - t.InService(); dead > 0 {
		out += fmt.Sprintf(", %d out of service", dead)
	}
	return out
}

// beforeName says what the plan is compared with.
func (s *solution) beforeName() string {
	if s.previous != nil {
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
	fmt.Fprintf(b, "%s: %s\n\n", s.source, s.headline())
	mean, most := meanMax(s.each(imbalanceOf), s.loads, 1)
	low, lowMost := meanMax(s.each(boundOf), s.loads, 1)
	was, wasMost := "-", "-"
	g := grid{}
	g.add("imbalance (max/mean GPU load)", s.beforeName(), "plan", "lower bound")
	if before != nil {
		x, y := meanMax(before, s.loads, 1)
		was, wasMost = fmt.Sprintf("%.4f", x), fmt.Sprintf("%.4f", y)
	}
	g.add("mean of the layers", was, fmt.Sprintf("%.4f", mean), fmt.Sprintf("%.4f", low))
	g.add("worst layer", wasMost, fmt.Sprintf("%.4f", most), fmt.Sprintf("%.4f", lowMost))
	if k := s.result.Locality; k != nil {
		x, y := meanMax(k.FreeImbalance, s.loads, 1)
		g.add("mean, groups not kept on nodes", "", fmt.Sprintf("%.4f", x), "")
		g.add("worst, groups not kept on nodes", "", fmt.Sprintf("%.4f", y), "")
	}
	g.write(b, "  ")
	b.WriteByte('\n')
	s.trafficTable(b)
	if hottest := s.hottest(5); len(hottest) > 0 {
		h := grid{}
		h.add("hottest experts", "share of its layer", "x mean expert", "replicas")
		for _, x := range hottest {
			h.add(fmt.Sprintf("layer %d, expert %d", x.Layer, x.Expert), fmt.Sprintf("%.2f%%", 100*x.Share), fmt.Sprintf("%.1f", x.Times), fmt.Sprint(x.Replicas))
		}
		h.write(b, "  ")
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
	text := fmt.Sprintf("Planned in %s by policy %v; ", duration(s.seconds), s.options.Policy)
	switch {
	case proved == len(s.loads):
		text += "no plan is better in any layer"
	default:
		text += fmt.Sprintf("no layer is more than %.2g%% above its lower bound", math.Ceil(1e4*gap)/100)
	}
	if stopped > 0 {
		text += fmt.Sprintf("; %s stopped early", plural(stopped, "layer"))
	}
	say("%s", text)
	if n := len(s.windows); n > 1 && s.options.Dispatch != eplb.Split {
		say("Imbalance is that of %s in proportion to their tokens", plural(n, "window"))
	}
	if k := s.result.Locality; k != nil {
		mean, _ := meanMax(s.each(imbalanceOf), s.loads, 1)
		free, _ := meanMax(k.FreeImbalance, s.loads, 1)
		share, _ := meanMax(k.OffNodeShare, s.loads, 0)
		text := fmt.Sprintf("Keeping %s on their nodes costs %.1f%% of the expert time", plural(s.groups, "group"), 100*(mean/free-1))
		if share > 0 {
			text += fmt.Sprintf("; %.1f%% of the load is served off its node", 100*share)
		}
		say("%s", text)
	}
	if s.previous != nil {
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
	text := fmt.Sprintf("%s (%.1f a layer)", plural(moves, "move"), float64(moves)/float64(len(s.loads)))
	if n, known := s.movedBytes(moves); known && s.bytes > 0 {
		text += fmt.Sprintf(", %s of weights", size(n))
		if s.model != nil && s.bytes == s.model.ExpertBytes() {
			text += " as " + s.model.Name
		}
	}
	return text
}

// remarks say how long the moves take and whether they pay.
func (x *transition) remarks() []string {
	s := &x.schedule
	if len(s.Rounds) == 0 {
		return []string{"Nothing to move"}
	}
	text := fmt.Sprintf("Copied in %s (no schedule has fewer than %d)", plural(len(s.Rounds), "round"), s.RoundsBound)
	if s.Priced {
		text += fmt.Sprintf(" and %s (none takes less than %s)", duration(s.Seconds), duration(s.SecondsBound))
	}
	out := []string{text}
	what := fmt.Sprintf("A GPU deals with %s at most in a round", plural(s.Peers, "other"))
	if s.StagedBytes > 0 {
		what = fmt.Sprintf("A GPU stages %.0f MB at most in a round, and deals with %s", float64(s.StagedBytes)/1e6, plural(s.Peers, "other"))
	}
	out = append(out, what)
	if s.Restore > 0 {
		out = append(out, fmt.Sprintf("Experts without a copy are back after %s, %d of them from outside", plural(s.Restore, "round"), s.Outside))
	}
	if s.Emptied > 0 {
		out = append(out, fmt.Sprintf("GPUs that leave are empty after %s", plural(s.Emptied, "round")))
	}
	if x.decision == nil {
		return append(out, "Whether it pays is unknown: an expert's size is (--model, --expert-bytes)")
	}
	return append(out, sentence(x.decision.String()))
}

// sentence starts with a capital letter.
func sentence(s string) string { return strings.ToUpper(s[:1]) + s[1:] }
