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
	// requests too. With Streamed, a router hears of its own requests' finishes at
	// once, since their tokens pass through it: the reports alone are late.
	Reports, Counted, Streamed bool
	// Moves running requests are allowed at every MovesEvery-th step.
	Moves, MovesEvery int
}

// DecodeResult is how a unit did.
type DecodeResult struct {
	Waste    float64 // 1 - mean step cost / max step cost
	Floor    float64 // Waste of ranks made even but for the finishes that nobody had heard of
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

// rankState is what a rank knows of itself at the start of a step.
type rankState struct {
	n, kv            int64
	placed, finished []uint64 // by router
}

type decodeRun struct {
	*Decode
	routers  []decode.Scheduler
	rng      *rand.Rand
	unit     DecodeUnit
	requests []Request  // by ID, from 1 on; Decode is the router
	to       []int      // the rank that each was placed on
	placed   [][]uint64 // by router and rank
	gone     [][]uint64
	next     int
	dst      []int
	result   DecodeResult
	weights  []float64
	ended    [][]rankState // what ended on each rank in a step, of as many of the latest as are not heard of
}

// Run runs the unit; requests go to the schedulers in turn.
func (d *Decode) Run(routers ...decode.Scheduler) (DecodeResult, error) {
	r := &decodeRun{Decode: d, routers: routers, rng: rand.New(rand.NewPCG(d.Seed, 7)), requests: make([]Request, 1), to: make([]int, 1)}
	r.unit = NewDecodeUnit(d.Ranks, &r.requests)
	for range routers {
		r.placed = append(r.placed, make([]uint64, d.Ranks))
		r.gone = append(r.gone, make([]uint64, d.Ranks))
	}
	return r.run()
}

func (r *decodeRun) run() (DecodeResult, error) {
	warm := r.warm()
	joining, err := r.place(warm)
	if err != nil {
		return r.result, err
	}
	var pending []int32
	history := make([][]int32, r.Delay+1)
	reports := make([][]rankState, r.Delay+1)
	mean, most, kv, n, floor, counted := 0.0, 0.0, 0.0, 0.0, 0.0, 0
	arrivals := r.arrivals(len(warm))
	for s := 1; s <= r.Steps; s++ {
		r.join(joining)
		if r.Reports {
			reports[s%len(reports)] = r.states()
			if s > r.Delay {
				if err := r.report(reports[(s-r.Delay)%len(reports)]); err != nil {
					return r.result, err
				}
			}
		}
		if s > r.Steps/4 {
			maxKV, sumKV, maxN, sumN := slices.Max(r.unit.KV), sum(r.unit.KV), slices.Max(r.unit.N), r.unit.Total
			g := float64(r.Ranks)
			most += r.Cost.Step + r.Cost.KV*float64(maxKV) + r.Cost.Request*float64(maxN)
			mean += r.Cost.Step + r.Cost.KV*float64(sumKV)/g + r.Cost.Request*float64(sumN)/g
			floor += r.unheard()
			kv += float64(maxKV) * g / float64(sumKV)
			n += float64(maxN) * g / float64(sumN)
			counted++
		}
		for _, x := range r.unit.KV {
			r.result.Peak = max(r.result.Peak, int(x))
			if r.Capacity > 0 && int(x) > r.Capacity && s > r.Steps/4 {
				r.result.Overruns++
			}
		}
		if s > r.Delay || r.Reports {
			for _, x := range r.routers {
				x.Step()
			}
		}
		batch := arrivals(s, len(pending))
		if !r.Joint {
			if joining, err = r.place(batch); err != nil {
				return r.result, err
			}
		}
		pending = r.finish()
		history[s%len(history)] = pending
		if s > r.Delay || r.Streamed {
			heard := pending
			if !r.Streamed {
				heard = history[(s-r.Delay)%len(history)]
			}
			for _, id := range heard {
				if err := r.routers[r.requests[id].Decode].Done(decode.ID(id)); err != nil {
					return r.result, err
				}
			}
		}
		if r.Joint {
			if joining, err = r.place(batch); err != nil {
				return r.result, err
			}
		}
		if r.Moves > 0 && s%r.MovesEvery == 0 {
			if err := r.rebalance(); err != nil {
				return r.result, err
			}
		}
	}
	r.result.Waste, r.result.Floor = 1-mean/most, floor/(mean+floor)
	r.result.KV, r.result.Requests = kv/float64(counted), n/float64(counted)
	return r.result, nil
}

// warm returns the requests of a unit met at a random moment, the longest first:
// a long output is met more often.
func (r *decodeRun) warm() []Request {
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
	out := make([]Request, int(load*float64(r.Ranks*r.Batch)))
	for i := range out {
		j, _ := slices.BinarySearch(r.weights, r.rng.Float64()*all)
		q := r.Decode.Requests[min(j, len(r.weights)-1)]
		out[i] = arrival(q)
		out[i].Made = int32(r.rng.IntN(q.Output))
	}
	slices.SortStableFunc(out, func(a, b Request) int { return cmp.Compare(b.KV(), a.KV()) })
	return out
}

// arrivals returns what arrives in step s; finished = requests that finished in
// the step before.
func (r *decodeRun) arrivals(held int) func(s, finished int) []Request {
	list := r.Decode.Requests
	if r.Load == 0 {
		return func(_, finished int) []Request {
			out := make([]Request, finished)
			for i := range out {
				out[i] = arrival(list[r.rng.IntN(len(list))])
			}
			return out
		}
	}
	// In the steady state, held requests of the mean output leave as many a step.
	span := r.weights[len(list)-1] / float64(held)
	last := max(list[len(list)-1].Arrival, 1e-9)
	next, start := 0, 0.0
	return func(s, _ int) (out []Request) {
		for {
			q := list[next]
			if start+q.Arrival/last*span >= float64(s) {
				return out
			}
			out = append(out, arrival(q))
			if next++; next == len(list) {
				next, start = 0, start+span
			}
		}
	}
}

// arrival is a request that comes from prefill.
func arrival(q workload.Request) Request {
	return Request{Prompt: int32(q.Input), Output: int32(q.Output), Rank: -1}
}

// place asks the schedulers; the requests start with the next step.
func (r *decodeRun) place(batch []Request) (placed []int32, err error) {
	asked := make([][]decode.Request, len(r.routers))
	for _, q := range batch {
		x := r.next
		r.next = (r.next + 1) % len(r.routers)
		q.Decode = int32(x)
		ask := decode.Request{ID: decode.ID(len(r.requests)), KV: q.KV(), Generated: int64(q.Made)}
		if r.Hints {
			ask.Output = int64(q.Output - q.Made)
		}
		r.requests, r.to = append(r.requests, q), append(r.to, -1)
		if r.Joint {
			asked[x] = append(asked[x], ask)
			continue
		}
		g, err := r.routers[x].Add(ask)
		if err != nil {
			return nil, err
		}
		placed = r.took(placed, ask.ID, g)
	}
	for x, asked := range asked {
		if len(asked) == 0 {
			continue
		}
		b, ok := r.routers[x].(decode.Batcher)
		if !ok {
			return nil, fmt.Errorf("router %d places no batches", x)
		}
		if r.dst, err = b.Batch(r.dst[:0], asked); err != nil {
			return nil, err
		}
		for i, g := range r.dst {
			placed = r.took(placed, asked[i].ID, g)
		}
	}
	return placed, nil
}

func (r *decodeRun) took(placed []int32, id decode.ID, rank int) []int32 {
	if rank < 0 {
		r.result.Refused++
		return placed
	}
	r.to[id] = rank
	return append(placed, int32(id))
}

// join lets placed requests start with the step.
func (r *decodeRun) join(placed []int32) {
	for _, id := range placed {
		r.unit.Join(id, r.to[id])
		r.placed[r.requests[id].Decode][r.to[id]]++
	}
}

// finish ends the step, and returns what ends with it, as it came.
func (r *decodeRun) finish() []int32 {
	done := r.unit.Tick(nil)
	slices.Reverse(done)
	late := 1 // of an arrival, the step's own finishes are not known
	if !r.Streamed {
		late += r.Delay
	}
	r.ended = append(r.ended, make([]rankState, r.Ranks))
	r.ended = r.ended[max(0, len(r.ended)-late):]
	for _, id := range done {
		e := &r.ended[len(r.ended)-1][r.to[id]]
		e.n, e.kv = e.n+1, e.kv+r.requests[id].KV()
		r.gone[r.requests[id].Decode][r.to[id]]++
	}
	return done
}

// unheard is what a step costs beyond its mean where ranks are even but for the
// finishes that no router had heard of when it placed the last of what runs: those of
// the rank where fewest ended, in requests and in KV use. No rule knows which ranks
// those will be, and any other spread is worse on the mean.
func (r *decodeRun) unheard() float64 {
	if r.Joint {
		return 0
	}
	var sum rankState
	least := rankState{n: 1 << 62, kv: 1 << 62}
	for g := range r.Ranks {
		var e rankState
		for _, step := range r.ended {
			e.n, e.kv = e.n+step[g].n, e.kv+step[g].kv
		}
		least.n, least.kv = min(least.n, e.n), min(least.kv, e.kv)
		sum.n, sum.kv = sum.n+e.n, sum.kv+e.kv
	}
	g := float64(r.Ranks)
	return r.Cost.KV*(float64(sum.kv)/g-float64(least.kv)) + r.Cost.Request*(float64(sum.n)/g-float64(least.n))
}

func (r *decodeRun) states() []rankState {
	out := make([]rankState, r.Ranks)
	for g := range out {
		out[g] = rankState{n: r.unit.N[g], kv: r.unit.KV[g]}
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
			p := decode.Report{Rank: g, Requests: int(s.n), KV: s.kv, Age: r.Delay}
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
func (r *decodeRun) rebalance() error {
	for _, router := range r.routers {
		moves, err := router.(Mover).Rebalance(nil, r.Moves)
		if err != nil {
			return err
		}
		for _, m := range moves {
			r.to[m.ID] = m.To
			if r.requests[m.ID].Rank >= 0 {
				r.unit.Move(int32(m.ID), m.To)
			}
			r.result.Moved++
		}
	}
	return nil
}

func sum(xs []int64) (all int64) {
	for _, x := range xs {
		all += x
	}
	return all
}
