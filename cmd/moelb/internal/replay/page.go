package replay

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/pages"
)

// replayPage is what the page of a replay draws. It stands in the page as JSON.
type replayPage struct {
	Title    string       `json:"-"`
	Headline string       `json:"-"`
	Cards    []pages.Card `json:"-"`
	Notes    []string     `json:"-"`
	Version  string       `json:"-"`

	Every  int       `json:"every"`
	Priced bool      `json:"priced"`
	Ways   []wayData `json:"ways"`
}

// wayData is one way to keep a placement, window by window from the second on.
type wayData struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	Plans bool   `json:"plans"` // after the first window
	// Figures of all windows: imbalance, the worst layer's, moves a plan and
	// layer, seconds of copying a plan, percent lost to imbalance and to copying.
	Mean     float64 `json:"mean"`
	Worst    float64 `json:"worst"`
	PerLayer float64 `json:"perLayer"`
	Copy     string  `json:"copy"`
	Slow     float64 `json:"slow"`
	Stall    float64 `json:"stall"`
	Planning string  `json:"planning"`

	Imbalance []float64 `json:"imbalance"` // [windows]
	Moves     []float64 `json:"moves"`     // a layer, [windows]; -1 = not planned
	SaidNo    []bool    `json:"saidNo"`
	Heat      [][]int   `json:"heat"` // thousandths, [layers][windows]; null = too many
}

// page is the replay as one page that needs nothing else.
func (r *replay) page() ([]byte, error) {
	layers := len(r.Windows[0])
	d := &replayPage{Title: "Replay: " + r.Source, Headline: r.headline(), Notes: r.remarks(), Version: console.Version(), Every: r.every, Priced: r.bytes > 0}
	for i := range r.ways {
		w := &r.ways[i]
		if w.refused != nil {
			continue
		}
		s := w.summary(layers)
		x := wayData{Name: w.name, Title: w.title, Plans: s.changes > 0, Mean: s.mean, Worst: s.most, PerLayer: s.perLayer, Slow: 100 * s.slow, Stall: 100 * s.stall, Copy: "–", Planning: "–"}
		if s.changes > 0 && d.Priced {
			x.Copy = human.Duration(s.copySeconds)
		}
		if !w.never {
			x.Planning = human.Duration(s.planSeconds)
		}
		drawn := layers*len(w.steps) <= pages.MaxCells/len(r.ways)
		if drawn {
			x.Heat = make([][]int, layers)
		}
		for i, s := range w.steps {
			x.Imbalance = append(x.Imbalance, math.Round(1e4*s.mean)/1e4)
			moves := -1.0
			if s.planned && i > 0 {
				moves = math.Round(1e2*float64(s.moves)/float64(layers)) / 1e2
			}
			x.Moves, x.SaidNo = append(x.Moves, moves), append(x.SaidNo, s.saidNo)
			for l := range x.Heat {
				x.Heat[l] = append(x.Heat[l], int(math.Round(1000*s.imbalance[l])))
			}
		}
		d.Ways = append(d.Ways, x)
	}
	d.Cards = r.cards()
	return pages.Render("pagereplay.html", d)
}

// cards compare the published policy, or ours planned anew, with following.
func (r *replay) cards() []pages.Card {
	layers := len(r.Windows[0])
	of := map[string]summary{}
	for i := range r.ways {
		if w := &r.ways[i]; w.refused == nil {
			of[w.name] = w.summary(layers)
		}
	}
	against, name := of["published"], "published policy"
	if _, ok := of["published"]; !ok {
		against, name = of["replan"], "re-planned"
	}
	none, ours := of["none"], of["follow"]
	out := []pages.Card{
		pages.NewCard("Imbalance, no balancing", fmt.Sprintf("%.3f", none.mean), fmt.Sprintf("on the next window, worst layer %.3f", none.most)),
		pages.NewCard("Imbalance, "+name, fmt.Sprintf("%.3f", against.mean), fmt.Sprintf("worst layer %.3f", against.most)),
		pages.NewCard("Imbalance, followed", fmt.Sprintf("%.3f", ours.mean), fmt.Sprintf("worst layer %.3f", ours.most)),
	}
	if ours.changes > 0 {
		out = append(out, pages.NewCard("Moves a plan and layer", fmt.Sprintf("%.1f", ours.perLayer), fmt.Sprintf("followed; %s %.1f", name, against.perLayer)))
		if r.bytes > 0 {
			out = append(out, pages.NewCard("Copying a plan", human.Duration(ours.copySeconds), fmt.Sprintf("followed; %s %s", name, human.Duration(against.copySeconds))),
				pages.NewCard("Time lost", fmt.Sprintf("%.2f%%", 100*(ours.slow+ours.stall)), fmt.Sprintf("followed; %s %.2f%%, no balancing %.1f%%", name, 100*(against.slow+against.stall), 100*none.slow)))
		}
	}
	return out
}
