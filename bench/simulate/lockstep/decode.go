// Package lockstep simulates serving units step by step, as far as balancing
// them goes: who holds how much, and how long a lockstep step takes.
package lockstep

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
)

// Decode is a decode unit under a load. A request that arrives during a step joins
// its rank at the next one; it is placed on arrival, when the step's finishes are
// not known yet, or (Joint) at the step's end together with what else arrived in
// it.
type Decode struct {
	Ranks, Batch int // requests a rank of a full unit
	Capacity     int // KV tokens a rank; 0 = not counted
	Cost         decode.Cost
	Requests     []workload.Request // outputs ≥ 1
	Steps        int                // the first quarter is not counted
	Seed         uint64
	// Load > 0: the requests are replayed in a loop, so fast that they fill this
	// share of the unit. 0: a closed loop, in which each request that finishes is
	// replaced, a step later, by one drawn from them.
	Load  float64
	Joint bool
	// Hints tells the scheduler each request's output.
	Hints bool
	// Delay is how many steps late finishes are heard of, and growth where there
	// are no Reports.
	Delay int
	// Reports: at each step every rank reports the load it had Delay steps before
	// to every scheduler; with Counted, how far it had come with each one's
	// requests too.
	Reports, Counted bool
	// Moves running requests are allowed at every MovesEvery-th step.
	Moves, MovesEvery int
}

// DecodeResult is how a unit did.
type DecodeResult struct {
	Waste    float64 // 1 - mean step cost / max step cost
	KV       float64 // max/mean over the ranks, mean over the steps
	Requests float64
	Overruns int // steps and ranks with more KV than capacity
	Refused  int // requests that no rank took
	Peak     int // most KV a rank held, at any step
	Moved    int
}

// Mover is a scheduler that moves running requests.
type Mover interface {
	Rebalance(dst []decode.Move, most int) ([]decode.Move, error)
}

// Reporter is a scheduler that takes reports.
type Reporter interface {
	Report(decode.Report) error
}

// running is one request of the simulation.
type running struct {
	router int
	id     decode.ID
	rank   int
	size   int // its KV when it ends
	base   int // its KV - step
	joined bool
	left   int
}

// rankState is what a rank knows of itself at the start of a step.
type rankState struct {
	n, kv            int
	placed, finished []uint64 // by router
}

type decodeRun struct {
	*Decode
	routers []decode.Scheduler
	rng     *rand.Rand
	kv, n   []int
	ends    map[int][]*running // by step
	byID    []map[decode.ID]*running
	placed  [][]uint64
	gone    [][]uint64
	next    int
	dst     []int
	ids     decode.ID // the latest request's
	result  DecodeResult
	weights []float64
}

// Run runs the unit; requests go to the schedulers in turn.
func (d *Decode) Run(routers ...decode.Scheduler) (DecodeResult, error) {
	r := &decodeRun{Decode: d, routers: routers, rng: rand.New(rand.NewPCG(d.Seed, 7)), kv: make([]int, d.Ranks), n: make([]int, d.Ranks), ends: map[int][]*running{}}
	for range routers {
		r.byID = append(r.byID, map[decode.ID]*running{})
		r.placed = append(r.placed, make([]uint64, d.Ranks))
		r.gone = append(r.gone, make([]uint64, d.Ranks))
	}
	return r.run()
}

// request is an arrival: its tokens now, and how many it will still generate.
type request struct{ kv, output, generated int }

func (r *decodeRun) run() (DecodeResult, error) {
	warm := r.warm()
	placed, err := r.place(warm, 0)
	if err != nil {
		return r.result, err
	}
	r.join(placed, 0)
	var joining, pending []*running
	history := make([][]*running, r.Delay+1)
	reports := make([][]rankState, r.Delay+1)
	mean, most, kv, n, counted := 0.0, 0.0, 0.0, 0.0, 0
	arrivals := r.arrivals(len(warm))
	for s := 1; s <= r.Steps; s++ {
		r.join(joining, s)
		if r.Reports {
			reports[s%len(reports)] = r.states()
			if s > r.Delay {
				if err := r.report(reports[(s-r.Delay)%len(reports)]); err != nil {
					return r.result, err
				}
			}
		}
		if s > r.Steps/4 {
			maxKV, sumKV, maxN, sumN := slices.Max(r.kv), sum(r.kv), slices.Max(r.n), sum(r.n)
			g := float64(r.Ranks)
			most += r.Cost.Step + r.Cost.KV*float64(maxKV) + r.Cost.Request*float64(maxN)
			mean += r.Cost.Step + r.Cost.KV*float64(sumKV)/g + r.Cost.Request*float64(sumN)/g
			kv += float64(maxKV) * g / float64(sumKV)
			n += float64(maxN) * g / float64(sumN)
			counted++
		}
		for g, x := range r.kv {
			r.result.Peak = max(r.result.Peak, x)
			if r.Capacity > 0 && x > r.Capacity && s > r.Steps/4 {
				r.result.Overruns++
			}
			r.kv[g] += r.n[g]
		}
		if s > r.Delay || r.Reports {
			for _, x := range r.routers {
				x.Step()
			}
		}
		batch := arrivals(s, len(pending))
		if !r.Joint {
			if joining, err = r.place(batch, s); err != nil {
				return r.result, err
			}
		}
		pending = r.finish(s)
		history[s%len(history)] = pending
		if s > r.Delay {
			for _, x := range history[(s-r.Delay)%len(history)] {
				delete(r.byID[x.router], x.id)
				if err := r.routers[x.router].Done(x.id); err != nil {
					return r.result, err
				}
			}
		}
		if r.Joint {
			if joining, err = r.place(batch, s); err != nil {
				return r.result, err
			}
		}
		if r.Moves > 0 && s%r.MovesEvery == 0 {
			if err := r.rebalance(s); err != nil {
				return r.result, err
			}
		}
	}
	r.result.Waste = 1 - mean/most
	r.result.KV, r.result.Requests = kv/float64(counted), n/float64(counted)
	return r.result, nil
}

// warm returns the requests of a unit met at a random moment, the longest first:
// a long output is met more often.
func (r *decodeRun) warm() []request {
	r.weights = make([]float64, len(r.Decode.Requests))
	all := 0.0
	for i, q := range r.Decode.Requests {
		all += float64(q.Output)
		r.weights[i] = all
	}
	load := r.Load
	if load == 0 {
		load = 1
	}
	out := make([]request, int(load*float64(r.Ranks*r.Batch)))
	for i := range out {
		j, _ := slices.BinarySearch(r.weights, r.rng.Float64()*all)
		q := r.Decode.Requests[min(j, len(r.weights)-1)]
		age := r.rng.IntN(q.Output)
		out[i] = request{q.Input + age, q.Output - age, age}
	}
	slices.SortStableFunc(out, func(a, b request) int { return cmp.Compare(b.kv, a.kv) })
	return out
}

// arrivals returns what arrives in step s; finished = requests that finished in
// the step before.
func (r *decodeRun) arrivals(held int) func(s, finished int) []request {
	list := r.Decode.Requests
	if r.Load == 0 {
		return func(_, finished int) []request {
			out := make([]request, finished)
			for i := range out {
				q := list[r.rng.IntN(len(list))]
				out[i] = request{q.Input, q.Output, 0}
			}
			return out
		}
	}
	// In the steady state, held requests of the mean output leave as many a step.
	span := r.weights[len(list)-1] / float64(held)
	last := max(list[len(list)-1].Arrival, 1e-9)
	next, start := 0, 0.0
	return func(s, _ int) (out []request) {
		for {
			q := list[next]
			if start+q.Arrival/last*span >= float64(s) {
				return out
			}
			out = append(out, request{q.Input, q.Output, 0})
			if next++; next == len(list) {
				next, start = 0, start+span
			}
		}
	}
}

// place asks the schedulers; the requests start with the next step.
func (r *decodeRun) place(batch []request, step int) ([]*running, error) {
	var out []*running
	asked := make([][]decode.Request, len(r.routers))
	which := make([][]request, len(r.routers))
	for _, q := range batch {
		x := r.next
		r.next = (r.next + 1) % len(r.routers)
		r.ids++
		ask := decode.Request{ID: r.ids, KV: int64(q.kv), Generated: int64(q.generated)}
		if r.Hints {
			ask.Output = int64(q.output)
		}
		if r.Joint {
			asked[x], which[x] = append(asked[x], ask), append(which[x], q)
			continue
		}
		g, err := r.routers[x].Add(ask)
		if err != nil {
			return nil, err
		}
		out = r.took(out, x, ask.ID, g, q)
	}
	for x, asked := range asked {
		if len(asked) == 0 {
			continue
		}
		b, ok := r.routers[x].(decode.Batcher)
		if !ok {
			return nil, fmt.Errorf("router %d places no batches", x)
		}
		var err error
		if r.dst, err = b.Batch(r.dst[:0], asked); err != nil {
			return nil, err
		}
		for i, g := range r.dst {
			out = r.took(out, x, asked[i].ID, g, which[x][i])
		}
	}
	return out, nil
}

func (r *decodeRun) took(out []*running, router int, id decode.ID, rank int, q request) []*running {
	if rank < 0 {
		r.result.Refused++
		return out
	}
	x := &running{router: router, id: id, rank: rank, size: q.kv + q.output, left: q.output, base: q.kv}
	r.byID[router][id] = x
	return append(out, x)
}

// join lets placed requests start with step s.
func (r *decodeRun) join(placed []*running, s int) {
	s = max(s, 1)
	for _, x := range placed {
		r.kv[x.rank] += x.base
		x.base -= s
		x.joined = true
		r.n[x.rank]++
		r.placed[x.router][x.rank]++
		end := s + x.left - 1
		r.ends[end] = append(r.ends[end], x)
	}
}

// finish ends what ends with step s.
func (r *decodeRun) finish(s int) []*running {
	done := r.ends[s]
	delete(r.ends, s)
	for _, x := range done {
		r.kv[x.rank] -= x.size
		r.n[x.rank]--
		r.gone[x.router][x.rank]++
	}
	return done
}

func (r *decodeRun) states() []rankState {
	out := make([]rankState, r.Ranks)
	for g := range out {
		out[g] = rankState{n: r.n[g], kv: r.kv[g]}
		for x := range r.routers {
			out[g].placed = append(out[g].placed, r.placed[x][g])
			out[g].finished = append(out[g].finished, r.gone[x][g])
		}
	}
	return out
}

func (r *decodeRun) report(states []rankState) error {
	for g, s := range states {
		for x, router := range r.routers {
			p := decode.Report{Rank: g, Requests: s.n, KV: int64(s.kv), Age: r.Delay}
			if r.Counted {
				p.Placed, p.Finished = s.placed[x], s.finished[x]
			}
			if err := router.(Reporter).Report(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// rebalance moves running requests between two steps.
func (r *decodeRun) rebalance(s int) error {
	for x, router := range r.routers {
		moves, err := router.(Mover).Rebalance(nil, r.Moves)
		if err != nil {
			return err
		}
		for _, m := range moves {
			q := r.byID[x][m.ID]
			q.rank = m.To
			if q.joined {
				kv := q.base + s + 1
				r.kv[m.From] -= kv
				r.kv[m.To] += kv
				r.n[m.From]--
				r.n[m.To]++
			}
			r.result.Moved++
		}
	}
	return nil
}

func sum(xs []int) (all int) {
	for _, x := range xs {
		all += x
	}
	return all
}
