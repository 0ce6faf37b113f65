package simulate

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/cmd/moelb/internal/pages"
)

// simulatePage is what the page draws. It stands in the page as JSON.
type simulatePage struct {
	Title    string       `json:"-"`
	Headline string       `json:"-"`
	Cards    []pages.Card `json:"-"`
	Version  string       `json:"-"`
	Notes    []string     `json:"-"`

	Rows     []pageRow   `json:"rows"`
	Gantt    []pageGantt `json:"gantt"`
	Measured float64     `json:"measuredFrom"` // seconds
}

// pageRow is one policy.
type pageRow struct {
	Label     string           `json:"label"`
	Policy    string           `json:"policy"`
	USD       [2]float64       `json:"usd"` // a million tokens: prefill, decode
	Tokens    float64          `json:"tokens"`
	TTFT      [2]float64       `json:"ttft"`
	Unstable  bool             `json:"unstable"`
	Carries   float64          `json:"carries"` // requests a second
	TPOT      [2]float64       `json:"tpot"`
	Idle      float64          `json:"idle"`
	Nodes     float64          `json:"nodes"`
	Imbalance [6]float64       `json:"imbalance"`
	Series    []simulate.Point `json:"series"`
	Experts   [][]int          `json:"experts"` // decode, thousandths of the mean, [layers][GPUs]
	Prefill   [][]int          `json:"prefill"`
	KV        []int            `json:"kv"`
	Requests  []int            `json:"requests"`
}

// pageGantt is one layer's overlap.
type pageGantt struct {
	Title string     `json:"title"`
	Lanes []string   `json:"lanes"`
	Spans []pageSpan `json:"spans"`
	Width float64    `json:"width"` // microseconds
	Layer float64    `json:"layer"`
}

// pageSpan is one stage; times in microseconds.
type pageSpan struct {
	Lane  int     `json:"l"`
	Stage string  `json:"s"`
	Micro int     `json:"m"`
	From  float64 `json:"a"`
	To    float64 `json:"b"`
}

// page is the study as one page that needs nothing else.
func (f *simulateFlags) page(s *simulated) ([]byte, error) {
	on, off := s.Rows[0], s.Rows[0]
	d := &simulatePage{Title: "What each balancer is worth", Headline: s.headline(), Version: console.Version(), Measured: s.config.Warm}
	for _, r := range s.Rows {
		if r.Label == "all off" {
			off = r
		}
		hour := float64(s.config.Prefill.GPU.Node) * f.prices.GPUHour / 3600 / s.MeanOutput * 1e6
		row := pageRow{
			Label: r.Label, Policy: r.Policy.String(), Tokens: r.TokensPerSecond, TTFT: [2]float64{r.TTFT50, r.TTFT99}, TPOT: [2]float64{r.TPOT50, r.TPOT99}, Unstable: r.Unstable, Carries: r.Carries, Idle: r.Idle, Nodes: r.NodesPerThousand,
			USD:       [2]float64{hour * float64(s.PrefillNodes) / r.PrefillCapacity, hour * float64(s.DecodeNodes) / r.DecodeCapacity},
			Imbalance: [6]float64{r.PairsImbalance, r.TokensImbalance, r.PrefillExperts, r.KVImbalance, r.RequestsImbalance, r.DecodeExperts},
			KV:        thousandths(r.Heat.KV), Requests: thousandths(r.Heat.Requests),
		}
		if r.Label == "all on" || r.Label == "all off" {
			row.Series = r.Series
			for _, x := range r.Heat.Experts {
				row.Experts = append(row.Experts, thousandths(x))
			}
			for _, x := range r.Heat.Prefill {
				row.Prefill = append(row.Prefill, thousandths(x))
			}
		}
		d.Rows = append(d.Rows, row)
	}
	for _, x := range []struct {
		name string
		row  simulate.Row
	}{{"all balancers on", on}, {"all off", off}} {
		g, err := s.gantt(x.name, &x.row)
		if err != nil {
			return nil, err
		}
		d.Gantt = append(d.Gantt, g...)
	}
	add := func(label, value, format string, args ...any) {
		d.Cards = append(d.Cards, pages.NewCard(label, value, fmt.Sprintf(format, args...)))
	}
	add("A million generated tokens", fmt.Sprintf("$%.2f", on.USDPerMillion), "$%.2f with all balancers off", off.USDPerMillion)
	add("Nodes for 1,000 requests a second", fmt.Sprintf("%.0f", on.NodesPerThousand), "%.0f with all off", off.NodesPerThousand)
	late := func(r simulate.Row, text string) string {
		if r.Unstable {
			return fmt.Sprintf("unstable (%.0f requests a second carried)", r.Carries)
		}
		return text
	}
	add("Time a token, median", late(on, milli(on.TPOT50)), "%s with all off, at the same load", late(off, milli(off.TPOT50)))
	add("Time to the first token, median", late(on, human.Duration(on.TTFT50)), "%s with all off", late(off, human.Duration(off.TTFT50)))
	add("GPU time idle", fmt.Sprintf("%.0f%%", 100*on.Idle), "%.0f%% with all off: waiting for others, for the network, for work", 100*off.Idle)
	add("Requests simulated", fmt.Sprint(on.Requests), "each policy served the same; none was lost")
	d.Notes = []string{
		fmt.Sprintf("Mean prompt %.0f tokens, %.1f%% of them cached; %.0f generated. Load %.2f of what the fleet serves with all balancers on", s.MeanInput, 100*s.HitRate, s.MeanOutput, s.Load),
		"Step times come from a cost model of the published kernels and schedules; moelb estimate prints its factors and which of them were fitted",
		fmt.Sprintf("Prices: $%g a GPU and hour", f.prices.GPUHour),
	}
	return pages.Render("pagesimulate.html", d)
}

// gantt plays two layers of each phase, as uneven as a policy left the work.
func (s *simulated) gantt(name string, r *simulate.Row) ([]pageGantt, error) {
	least := func(x float64) float64 { return max(1, x) }
	prompt := math.Max(2, s.MeanInput)
	p, err := s.config.Prefill.Estimate(cost.Batch{Tokens: float64(s.config.MaxTokens), Prompt: prompt, Hit: min(s.HitRate, .99), Attention: least(r.PairsImbalance), Senders: least(r.TokensImbalance), Experts: least(r.PrefillExperts)})
	if err != nil {
		return nil, err
	}
	held := max(1, s.MeanInput+s.MeanOutput/2)
	each := min(88, .8*float64(s.config.Decode.KVRoom())/held)
	d, err := s.config.Decode.Estimate(cost.Batch{Requests: each, KV: held, Queries: float64(s.config.Queries), Acceptance: s.config.Acceptance, Attention: least(r.KVImbalance), Senders: least(r.RequestsImbalance), Experts: least(r.DecodeExperts)})
	if err != nil {
		return nil, err
	}
	const skip, shown = 12, 2 // layers
	spans, ends := p.Prefill.Timeline(skip + shown + 1)
	a := window(spans, ends[skip-1], ends[skip+shown-1], []string{"busiest in attention", "busiest in tokens", "busiest in experts", "any other"})
	a.Title, a.Layer = "Prefill, "+name, 1e6*p.LayerSeconds
	spans, ends = d.Decode.Timeline(2 * (skip + shown + 1))
	b := window(spans, ends[2*skip-1], ends[2*(skip+shown)-1], []string{"most KV", "most requests", "busiest in experts", "any other"})
	b.Title, b.Layer = "Decode, "+name, 1e6*d.LayerSeconds
	return []pageGantt{a, b}, nil
}

// window cuts spans to a stretch of time; the network is the first lane.
func window(spans []cost.Span, from, to float64, ranks []string) pageGantt {
	g := pageGantt{Lanes: append([]string{"network"}, ranks...), Width: micros(to - from)}
	for _, x := range spans {
		a, b := max(x.Start, from), min(x.End, to)
		if b > a {
			g.Spans = append(g.Spans, pageSpan{x.Rank + 1, x.Stage, x.Micro, micros(a - from), micros(b - from)})
		}
	}
	return g
}

func micros(seconds float64) float64 { return math.Round(1e7*seconds) / 10 }

func thousandths(x []float64) []int {
	out := make([]int, len(x))
	for i, v := range x {
		out[i] = int(math.Round(1000 * v))
	}
	return out
}
