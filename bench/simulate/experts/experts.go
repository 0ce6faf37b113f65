// Package experts is the experts of a simulated phase: what each kind of text asks of
// them, window by window, where a policy places them, and what its moves take.
package experts

import (
	"math"
	"slices"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// WindowSeconds is how long the experts' loads stay as they are, and how often
// their placement is planned.
const WindowSeconds = 300

// UsualTopics is how many kinds of text the traffic is mixed of, each with its own
// hot experts; topicPeriod is how many windows a topic's share takes to rise and
// fall.
const (
	UsualTopics = 3
	topicPeriod = 48
	// history is how many windows were seen before a run starts, memory how much
	// a window counts against the next one when loads are forecast.
	history = 6
	memory  = .8
)

// Experts is the expert-parallel balancer of all units of a phase, which see the
// same mix of text: what each GPU's experts get, window by window, under a
// placement that was planned on the windows before.
type Experts struct {
	unit     *cost.Unit
	policy   Policy
	domains  []workload.Domain
	topology placement.Topology
	window   int
	forecast placement.Loads // decayed sum of the windows so far
	current  *placement.Placement
	plans    plans // of all runs on these topics
	// share is the share of a layer's tokens that each GPU's experts get,
	// [layers x ranks]; it changes with version.
	share   []float64
	nodes   []float64 // by layer: the busiest NVLink domain's share against the mean
	version int
	speed   []float64   // of GPUs, 0 = dead; nil = all live
	heat    [][]float64 // of the last window: GPU load / mean, [layers][ranks]

	imbalance float64 // sum over windows of the layers' mean
	windows   int
	moves     int64
	moveTime  float64 // seconds of copying, in all
}

// TopicLoads is what each kind of text asks of the experts, in so many windows of
// a run and those before it.
func TopicLoads(u *cost.Unit, topics, windows int, seed uint64) []workload.Domain {
	const tokensAWindow = 1 << 16
	return workload.Domains(u.Model.Model, topics, windows+history, tokensAWindow, seed)
}

func New(u *cost.Unit, policy Policy, domains []workload.Domain) (*Experts, error) {
	e := &Experts{unit: u, policy: policy, window: -1, topology: placement.H800(u.Nodes)}
	e.topology.GPUs = u.Ranks()
	e.topology.NVLink, e.topology.RDMA = .8*u.GPU.NVLink, .9*u.GPU.RDMA
	e.domains = domains
	e.share = make([]float64, u.Model.Layers*u.Ranks())
	e.nodes = make([]float64, u.Model.Layers)
	e.plans = plans{}
	first := placement.Trivial(u.Model.Layers, u.Model.Experts, u.SlotsEach()*u.Ranks(), u.Ranks())
	e.current = &first
	e.forecast = placement.NewLoads(u.Model.Layers, u.Model.Experts)
	for w := -history; w < -1; w++ {
		e.learn(w)
	}
	_, err := e.Advance(0)
	return e, err
}

// Clone is the same state for another run's unit; what is planned they share.
func (e *Experts) Clone(u *cost.Unit) *Experts {
	c := *e
	c.unit, c.forecast, c.heat, c.share = u, clone(e.forecast), clone(e.heat), slices.Clone(e.share)
	c.nodes = slices.Clone(e.nodes)
	return &c
}

// at is the loads of a window: topics mixed by shares that rise and fall.
func (e *Experts) at(window int) placement.Loads {
	m := e.unit.Model.Model
	out := placement.NewLoads(m.Layers, m.Experts)
	for d := range e.domains {
		phase := (window + history + d*topicPeriod/len(e.domains)) % topicPeriod
		rise := math.Abs(float64(2*phase)/topicPeriod - 1) // 1 down to 0 and up again
		w := e.domains[d].Windows[window+history]
		for l, row := range w {
			for x, v := range row {
				out[l][x] += float64((.25 + .75*rise) * v)
			}
		}
	}
	return out
}

// learn adds a window to the forecast.
func (e *Experts) learn(window int) {
	for l, row := range e.at(window) {
		for x, v := range row {
			e.forecast[l][x] = float64(memory*e.forecast[l][x]) + v
		}
	}
}

// measure notes what each GPU's experts get in the window, under the placement in
// force.
func (e *Experts) measure() error {
	u := e.unit
	loads := e.at(e.window)
	scores, err := e.current.ScoreLayers(loads, placement.Topology{GPUs: u.Ranks()})
	if err != nil {
		return err
	}
	e.heat = e.heat[:0]
	sum := 0.0
	for l, s := range scores {
		total := 0.0
		for _, x := range s.GPULoads {
			total += x
		}
		row := make([]float64, len(s.GPULoads))
		for r, x := range s.GPULoads {
			row[r] = x / total
			e.share[l*u.Ranks()+r] = row[r]
			row[r] *= float64(u.Ranks())
		}
		e.heat = append(e.heat, row)
		e.nodes[l] = busiestDomain(row, u.GPU.Domain)
		sum += s.Imbalance
	}
	e.version++
	e.imbalance += sum / float64(len(scores))
	e.windows++
	return nil
}

// busiestDomain is the load of the NVLink domain with most against the mean, of
// GPUs' loads against theirs.
func busiestDomain(row []float64, domain int) float64 {
	if len(row) <= domain {
		return 1
	}
	top := 0.0
	for from := 0; from < len(row); from += domain {
		part := row[from:min(from+domain, len(row))]
		sum := 0.0
		for _, x := range part {
			sum += x
		}
		top = max(top, sum/float64(len(part)))
	}
	return max(1, top)
}

// Share is the share of layer l's tokens that each GPU's experts get.
func (e *Experts) Share(l int) []float64 {
	n := len(e.share) / len(e.nodes)
	return e.share[l*n : (l+1)*n]
}

// Busiest is the load of layer l's busiest NVLink domain against the mean.
func (e *Experts) Busiest(l int) float64 { return e.nodes[l] }

// Version changes with what Share and Busiest say.
func (e *Experts) Version() int { return e.version }

// Heat is each GPU's load in the window against the mean, [layers][ranks].
func (e *Experts) Heat() [][]float64 { return clone(e.heat) }

// Moves and MoveSeconds are how many experts were copied, and for how long, in all.
func (e *Experts) Moves() int64         { return e.moves }
func (e *Experts) MoveSeconds() float64 { return e.moveTime }

// MeanImbalance is the mean over windows and layers.
func (e *Experts) MeanImbalance() float64 { return e.imbalance / float64(max(e.windows, 1)) }

func clone(x [][]float64) [][]float64 {
	out := slices.Clone(x)
	for i := range out {
		out[i] = slices.Clone(out[i])
	}
	return out
}
