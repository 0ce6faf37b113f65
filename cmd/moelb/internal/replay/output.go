package replay

import (
	"github.com/moelb/moelb/cmd/moelb/internal/answer"
	"github.com/moelb/moelb/internal/wire"
)

// replayJSON is the answer to moelb replay.
type replayJSON struct {
	Version     int     `json:"version"`
	Windows     int     `json:"windows"`
	Layers      int     `json:"layers"`
	Phase       string  `json:"phase"`
	StepSeconds float64 `json:"step_seconds"`
	Steps       float64 `json:"steps_per_window"`
	Policies    []any   `json:"policies" lines:""` // wayJSON or refusedJSON
}

type refusedJSON struct {
	Name  string `json:"name"`
	Error string `json:"error"`
}

// wayJSON is one way to keep a placement; null = an expert's size is unknown.
type wayJSON struct {
	Name        string     `json:"name"`
	Mean        float64    `json:"imbalance_mean"`
	Max         float64    `json:"imbalance_max"`
	Moves       int        `json:"moves"`
	PerLayer    float64    `json:"moves_per_plan_and_layer"`
	CopySeconds *float64   `json:"copy_seconds_per_plan"`
	Lost        *float64   `json:"lost"`
	PlanSeconds float64    `json:"plan_seconds"`
	Plans       int        `json:"plans"`
	Refusals    int        `json:"not_worth_moving"`
	Next        []stepJSON `json:"next_windows" lines:""`
}

type stepJSON struct {
	Mean        float64  `json:"imbalance_mean"`
	Max         float64  `json:"imbalance_max"`
	Moves       int      `json:"moves"`
	CopySeconds *float64 `json:"copy_seconds"`
	Lost        *float64 `json:"lost"`
}

// json is the replay in full.
func (r *replay) json() ([]byte, error) {
	k := r.copies.Stakes()
	a := replayJSON{Version: 1, Windows: len(r.Windows), Layers: len(r.Windows[0]), Phase: r.copies.Phase, StepSeconds: k.StepSeconds, Steps: k.Horizon}
	for i := range r.ways {
		a.Policies = append(a.Policies, r.wayJSON(&r.ways[i], k.Hidden))
	}
	return answer.JSON(&a)
}

func (r *replay) wayJSON(w *way, hidden float64) any {
	if w.refused != nil {
		return refusedJSON{w.name, wire.OneLine(w.refused)}
	}
	s := w.summary(len(r.Windows[0]))
	known := func(x float64, is bool) *float64 {
		if !is {
			return nil
		}
		return &x
	}
	priced := r.bytes > 0
	counts := priced || s.changes == 0 || hidden == 1
	out := wayJSON{
		Name: w.name, Mean: s.mean, Max: s.most, Moves: s.moves, PerLayer: s.perLayer, CopySeconds: known(s.copySeconds, priced),
		Lost: known(s.slow+s.stall, counts), PlanSeconds: s.planSeconds, Plans: s.changes, Refusals: s.refusals,
	}
	for _, x := range w.steps {
		out.Next = append(out.Next, stepJSON{x.mean, x.most, x.moves, known(x.copySeconds, priced), known(x.slow+x.stall, counts)})
	}
	return out
}
