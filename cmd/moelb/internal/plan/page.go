package plan

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/figures"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/pages"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// pageData is what the page draws. It stands in the page as JSON.
type pageData struct {
	Title     string       `json:"-"`
	Headline  string       `json:"-"`
	Cards     []pages.Card `json:"-"`
	Notes     []string     `json:"-"`
	Version   string       `json:"-"`
	HasBefore bool         `json:"-"`

	BeforeName   string    `json:"beforeName"`
	GPUs         int       `json:"gpus"`
	GPUsPerNode  int       `json:"gpusPerNode"`
	GPUsPerCell  int       `json:"gpusPerCell"`
	Before       [][]int   `json:"before"` // thousandths of the mean, [layers][cells]; null = unknown
	After        [][]int   `json:"after"`
	WasImbalance []float64 `json:"wasImbalance"`
	Imbalance    []float64 `json:"imbalance"`
	Bound        []float64 `json:"bound"`
	Free         []float64 `json:"free"` // without locality; null = no locality
	Hottest      []hot     `json:"hottest"`
	Slots        [][]int   `json:"slots"` // null = too many
	FirstSlot    []int     `json:"firstSlot"`

	T *trafficData `json:"t"` // null = no routes were given, or there are too many nodes
	M *movesData   `json:"m"` // null = there is no previous placement
}

const (
	pageWidth = 512 // the widest row of a heat map
	pageSlots = 60_000
	pageHot   = 16
)

// page is the plan as one page that needs nothing else: heat maps of the GPUs'
// loads before and after, the imbalance of each layer beside its bound, and the
// hottest experts with their replicas.
func (s *solution) page() ([]byte, error) {
	plan := &s.result.Placement
	layers := len(plan.PhysicalToLogical)
	d := &pageData{
		Title: "Expert placement: " + s.Source, Headline: s.headline(), Version: console.Version(), Notes: s.remarks(),
		BeforeName: s.beforeName(), GPUs: plan.GPUs, GPUsPerNode: plan.GPUs / s.Topology.NodeCount(),
		Imbalance: rounded(figures.Each(&s.result, figures.ImbalanceOf)), Bound: rounded(figures.Each(&s.result, figures.BoundOf)), Hottest: s.hottest(pageHot),
	}
	width := max(1, min(plan.GPUs, pageWidth, pages.MaxCells/layers))
	d.GPUsPerCell = (plan.GPUs + width - 1) / width
	after, err := s.scores(plan)
	if err != nil {
		return nil, err
	}
	d.After = s.heat(after, d.GPUsPerCell)
	var was []float64
	if s.before != nil {
		before, err := s.scores(s.before)
		if err != nil {
			return nil, err
		}
		d.Before, d.HasBefore = s.heat(before, d.GPUsPerCell), true
		if was, err = s.beforeImbalance(); err != nil {
			return nil, err
		}
		d.WasImbalance = rounded(was)
	}
	if d.GPUsPerCell == 1 && layers*plan.Slots() <= pageSlots {
		d.Slots, d.FirstSlot = plan.PhysicalToLogical, plan.FirstSlots()
	}
	if k := s.result.Locality; k != nil {
		d.Free = rounded(k.FreeImbalance)
	}
	d.Cards, d.M, d.T = s.cards(was), s.moved(d.GPUsPerCell), s.drawn()
	return pages.Render("page.html", d)
}

// cards are the figures to be read first.
func (s *solution) cards(was []float64) []pages.Card {
	mean, most := figures.MeanMax(figures.Each(&s.result, figures.ImbalanceOf), s.loads, 1)
	low, lowMost := figures.MeanMax(figures.Each(&s.result, figures.BoundOf), s.loads, 1)
	var out []pages.Card
	add := func(label, value, format string, args ...any) {
		out = append(out, pages.NewCard(label, value, fmt.Sprintf(format, args...)))
	}
	if was != nil {
		x, y := figures.MeanMax(was, s.loads, 1)
		add("Imbalance before", fmt.Sprintf("%.3f", x), "%s placement, worst layer %.3f", s.beforeName(), y)
	}
	add("Imbalance after", fmt.Sprintf("%.4f", mean), "worst layer %.4f", most)
	add("Proved lower bound", fmt.Sprintf("%.4f", low), "worst layer %.4f; no placement is below", lowMost)
	if was != nil {
		x, _ := figures.MeanMax(was, s.loads, 1)
		add("Expert time saved", fmt.Sprintf("%.0f%%", 100*max(0, 1-mean/x)), "of the most loaded GPU's, mean of the layers")
	}
	if k := s.result.Locality; k != nil {
		free, _ := figures.MeanMax(k.FreeImbalance, s.loads, 1)
		share, _ := figures.MeanMax(k.OffNodeShare, s.loads, 0)
		add("Price of locality", fmt.Sprintf("%.1f%%", 100*(mean/free-1)), "imbalance %.4f with groups not kept on nodes; %.1f%% of load off its node", free, 100*share)
	}
	if t := s.result.Traffic; t != nil {
		add("Nodes a token visits", fmt.Sprintf("%.3f", eplb.MeanVisited(t.Plan).Nodes), "%.3f planned without routes", eplb.MeanVisited(t.Even).Nodes)
	}
	if s.Previous != nil {
		moves := s.moves()
		note := fmt.Sprintf("%.1f a layer", float64(moves)/float64(len(s.loads)))
		if n, known := s.movedBytes(moves); known && s.bytes > 0 {
			note += ", " + human.Bytes(n)
		}
		add("Moves", fmt.Sprint(moves), "%s", note)
	}
	if x := s.change; x != nil && x.schedule.Priced && len(x.schedule.Rounds) > 0 {
		add("Copying", human.Duration(x.schedule.Seconds), "%s, %s", human.Plural(len(x.schedule.Rounds), "round"), x.verdict())
	}
	add("Planning time", human.Duration(s.seconds), "policy %v", s.Options.Policy)
	return out
}

// heat is each GPU's load/speed in thousandths of the layer's mean, the largest
// of every perCell GPUs; -1 = out of service.
func (s *solution) heat(scores []placement.Score, perCell int) [][]int {
	out := make([][]int, len(scores))
	speeds := 0.0
	for g := range s.Topology.GPUs {
		speeds += s.Topology.SpeedOf(g)
	}
	for l, score := range scores {
		total := 0.0
		for _, x := range score.GPULoads {
			total += x
		}
		row := make([]int, (len(score.GPULoads)+perCell-1)/perCell)
		for i := range row {
			row[i] = -1
		}
		for g, x := range score.GPULoads {
			if v := s.Topology.SpeedOf(g); v > 0 {
				level := 0
				if total > 0 {
					level = int(math.Round(1000 * x / v * speeds / total))
				}
				row[g/perCell] = max(row[g/perCell], level)
			}
		}
		out[l] = row
	}
	return out
}

// rounded keeps what a page can show.
func rounded(x []float64) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = math.Round(1e5*v) / 1e5
	}
	return out
}
