package plan

import (
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/placement"
)

// movesData is what the page draws of the moves.
type movesData struct {
	Moves    []int   `json:"moves"`    // [layers]
	Received [][]int `json:"received"` // copies, [layers][cells]
	// The schedule's rounds; null = not asked for.
	Rounds    []roundData `json:"rounds"`
	AllRounds int         `json:"allRounds"`
	Priced    bool        `json:"priced"`
	CopyMs    [2]float64  `json:"copyMs"` // of a copy over NVLink and over RDMA
	Stop      int         `json:"stop"`   // rounds that pay; -1 = unknown

	Verdict string `json:"-"`
	Restore int    `json:"-"` // rounds that bring back experts
}

// roundData is a round: its milliseconds, and for every GPU with something to do
// its number and the copies it receives over NVLink and RDMA and sends over both.
type roundData struct {
	Milliseconds float64  `json:"ms"`
	Layers       []int    `json:"layers"`
	GPUs         [][5]int `json:"gpus"`
}

// pageRounds bounds the rounds times GPUs that are drawn.
const pageRounds = 60_000

// moved is the part of the page about moves; nil where there is no previous.
func (s *solution) moved(perCell int) *movesData {
	if s.Previous == nil {
		return nil
	}
	d := &movesData{Received: s.received(perCell), Stop: -1}
	for _, l := range s.result.Layers {
		d.Moves = append(d.Moves, l.Moves)
	}
	if s.change == nil {
		return d
	}
	schedule := &s.change.schedule
	d.AllRounds, d.Priced = len(schedule.Rounds), schedule.Priced
	if x := s.change.decision; x != nil {
		d.Stop, d.Verdict = x.Rounds, human.Sentence(x.String())
	}
	d.Restore = schedule.Restore
	d.CopyMs = s.change.copyMilliseconds
	unit := s.Topology.Extend(s.Previous.GPUs)
	gpus := unit.GPUs
	d.Rounds = make([]roundData, min(d.AllRounds, max(1, pageRounds/gpus)))
	gpuOf := schedule.GPUOf()
	work := make([][5]int, gpus)
	for i := range d.Rounds {
		r := &schedule.Rounds[i]
		clear(work)
		for _, m := range r.Moves {
			countCopy(work, m, gpuOf, &unit)
			if n := len(d.Rounds[i].Layers); n == 0 || d.Rounds[i].Layers[n-1] != m.Layer {
				d.Rounds[i].Layers = append(d.Rounds[i].Layers, m.Layer)
			}
		}
		d.Rounds[i].Milliseconds = rounded([]float64{1e3 * r.Seconds})[0]
		d.Rounds[i].GPUs = [][5]int{}
		for g, w := range work {
			if w[0] = g; w != [5]int{g} {
				d.Rounds[i].GPUs = append(d.Rounds[i].GPUs, w)
			}
		}
	}
	return d
}

// countCopy adds a copy over a link to what its GPUs do in a round.
func countCopy(work [][5]int, m placement.Move, gpuOf []int, t *placement.Topology) {
	if m.Expert < 0 {
		return
	}
	to, link := gpuOf[m.To], 1
	if m.From >= 0 {
		from := gpuOf[m.From]
		if from == to {
			return
		}
		if t.Node(from) == t.Node(to) {
			link = 0
		}
		work[from][3+link]++
	}
	work[to][1+link]++
}

// received counts the copies that the GPUs of each cell receive in each layer.
func (s *solution) received(perCell int) [][]int {
	plan, was := &s.result.Placement, s.Previous
	a, b := was.FirstSlots(), plan.FirstSlots()
	out := make([][]int, len(plan.PhysicalToLogical))
	had := make([]int, plan.Experts)
	for l, row := range plan.PhysicalToLogical {
		out[l] = make([]int, (plan.GPUs+perCell-1)/perCell)
		for g := range plan.GPUs {
			var old []int
			if g < was.GPUs {
				old = was.PhysicalToLogical[l][a[g]:a[g+1]]
			}
			for _, e := range old {
				if e >= 0 {
					had[e]++
				}
			}
			for _, e := range row[b[g]:b[g+1]] {
				if e < 0 {
					continue
				}
				if had[e] > 0 {
					had[e]--
				} else {
					out[l][g/perCell]++
				}
			}
			for _, e := range old {
				if e >= 0 {
					had[e] = 0
				}
			}
		}
	}
	return out
}
