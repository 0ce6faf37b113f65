// Command mixed runs an engine that is not disaggregated: on each rank a step computes
// chunks of prompts beside the requests that it decodes. Both balancers drive it:
// package decode says what its requests leave of a rank's step, package prefill fills
// that, and a prompt that is computed goes on where it is. It prints how long
// a step takes, and the first token, beside an engine that gives prompts as much on
// every rank.
package main

import (
	"fmt"
	"io"
	"log"
	"os"
	"slices"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

const (
	ranks    = 16
	capacity = 550_000 // tokens of KV a rank
	most     = 2048    // tokens of prompts a rank and step
	aim      = .15     // seconds that a step should take
)

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// engine is what both ledgers look at.
type engine struct {
	prompts  *prefill.Balancer
	running  *decode.Balancer
	cost     decode.Cost
	requests []workload.Request
	computed []int64 // of each prompt
	left     []int64 // tokens that each request is yet to generate
	clock    float64
	steps    []float64 // how long each took
	first    []float64 // when each first token came, after its prompt
}

func newEngine(requests []workload.Request) (*engine, error) {
	e := &engine{requests: requests, cost: decode.DeepSeekV3H800(), computed: make([]int64, len(requests)), left: make([]int64, len(requests))}
	var err error
	// A prompt's KV stays on its rank while it is decoded: KeepKV holds its room.
	e.prompts, err = prefill.New(prefill.Config{Ranks: ranks, MaxTokens: most, MaxKV: []int64{capacity}, KeepKV: true})
	if err != nil {
		return nil, err
	}
	e.running, err = decode.New(decode.Config{Ranks: ranks, KVCapacity: []int64{capacity}})
	return e, err
}

// decoding is how long a rank's requests take in a step.
func (e *engine) decoding(g int) float64 {
	r := e.running.Rank(g)
	return e.cost.Step + e.cost.KV*float64(r.KV) + e.cost.Request*float64(r.Width)
}

// budgets are what is left of each rank's step, if it is to last no longer than aim.
func (e *engine) budgets() []prefill.Budget {
	left := make([]prefill.Budget, ranks)
	for g := range left {
		left[g] = prefill.Budget{Tokens: most - int64(e.running.Rank(g).Width), Seconds: max(.01, aim-e.decoding(g))}
	}
	return left
}

// alike are budgets that know nothing of decode.
func (e *engine) alike() []prefill.Budget {
	return slices.Repeat([]prefill.Budget{{Tokens: most / 2, Seconds: 1}}, ranks)
}

// step runs one step of the engine.
func (e *engine) step(left []prefill.Budget) error {
	chunks, err := e.prompts.StepWithin(nil, left)
	if err != nil {
		return err
	}
	cost := prefill.DeepSeekV3H800()
	busy := make([]float64, ranks)
	for g := range busy {
		busy[g] = e.decoding(g)
	}
	for _, c := range chunks {
		w := prefill.WorkOf(c.Tokens, e.computed[c.ID])
		busy[c.Rank] += cost.Token*float64(w.Tokens) + cost.Pair*float64(w.Pairs)
		e.computed[c.ID] += c.Tokens
	}
	took := slices.Max(busy)
	e.clock += took
	e.steps = append(e.steps, took)
	// Those that ran have a token more; the last of some end.
	e.running.Step()
	for _, id := range e.running.Known(nil) {
		if e.left[id]--; e.left[id] > 0 {
			continue
		}
		if err := e.running.Done(id); err != nil {
			return err
		}
		if err := e.prompts.Done(prefill.ID(id)); err != nil {
			return err
		}
	}
	// Those that are computed have their first token, and run where they are.
	for _, c := range chunks {
		if !c.Last {
			continue
		}
		q := e.requests[c.ID]
		e.first = append(e.first, e.clock-q.Arrival)
		e.left[c.ID] = int64(q.Output)
		if err := e.running.Enter(decode.Request{ID: decode.ID(c.ID), KV: int64(q.Input)}, c.Rank); err != nil {
			return err
		}
	}
	return nil
}

// serve runs the engine until all requests are computed.
func (e *engine) serve(budgets func() []prefill.Budget) error {
	for next := 0; len(e.first) < len(e.requests); {
		for ; next < len(e.requests) && e.requests[next].Arrival <= e.clock; next++ {
			if err := e.prompts.Enqueue(prefill.Request{ID: prefill.ID(next), Tokens: int64(e.requests[next].Input)}); err != nil {
				return err
			}
		}
		if err := e.step(budgets()); err != nil {
			return err
		}
	}
	return nil
}

func run(w io.Writer) error {
	requests := workload.Chat(3000, 1)
	for i := range requests {
		requests[i].Arrival = float64(i) / 20 // a second
	}
	for _, way := range []struct {
		name    string
		budgets func(*engine) []prefill.Budget
	}{
		{"alike on all ranks:  ", (*engine).alike},
		{"what decode leaves:  ", (*engine).budgets},
	} {
		e, err := newEngine(requests)
		if err != nil {
			return err
		}
		if err := e.serve(func() []prefill.Budget { return way.budgets(e) }); err != nil {
			return err
		}
		slices.Sort(e.steps)
		slices.Sort(e.first)
		at := func(x []float64, q float64) float64 { return x[int(q*float64(len(x)-1))] }
		fmt.Fprintf(w, "%s a step takes %.0f ms (median), %.0f ms (99%%); first tokens after %.2f s (median), %.2f s (99%%)\n", way.name,
			1e3*at(e.steps, .5), 1e3*at(e.steps, .99), at(e.first, .5), at(e.first, .99))
	}
	return nil
}
