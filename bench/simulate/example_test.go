package simulate_test

import (
	"fmt"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
)

// fewest is a decode policy of one's own: a request goes to the rank that has fewest.
type fewest struct {
	requests []int
	at       map[decode.ID]int
}

func (f *fewest) Add(r decode.Request) (int, error) {
	best := 0
	for g, n := range f.requests {
		if n < f.requests[best] {
			best = g
		}
	}
	f.requests[best]++
	f.at[r.ID] = best
	return best, nil
}

func (f *fewest) Batch(dst []int, requests []decode.Request) ([]int, error) {
	for _, r := range requests {
		g, err := f.Add(r)
		if err != nil {
			return dst, err
		}
		dst = append(dst, g)
	}
	return dst, nil
}

func (f *fewest) Done(id decode.ID) error {
	f.requests[f.at[id]]--
	delete(f.at, id)
	return nil
}

func (f *fewest) Step() {} // every request has a token more: nothing to this policy

// A policy of one's own takes part through the interfaces of packages prefill and
// decode, on the same requests as the others. The units here are small.
func ExampleRun() {
	own := simulate.DecodePolicy{Name: "fewest", Even: true, New: func(c decode.Config) (decode.Batcher, error) {
		return &fewest{make([]int, c.Ranks), map[decode.ID]int{}}, nil
	}}
	var kv [2]float64
	for i, d := range []simulate.DecodePolicy{simulate.DecodePolicies()[0], own} {
		c := simulate.Default(simulate.Policy{Prefill: simulate.PrefillPolicies()[0], Decode: d, Experts: experts.Alone})
		for _, u := range []*cost.Unit{&c.Prefill, &c.Decode} {
			u.Model.Layers, u.Model.DenseLayers, u.Model.Experts, u.Nodes, u.Slots = 4, 0, 64, 1, 8
		}
		c.Plan[0].Fleet = simulate.Fleet{Prefill: 1, Decode: 1}
		c.Seconds, c.Warm = 4, 1
		r, err := simulate.Run(c, workload.Steady(40, 1))
		if err != nil {
			fmt.Println(err)
			return
		}
		kv[i] = r.KVImbalance
		fmt.Printf("%s: %d requests entered and left\n", d.Name, r.Requests)
	}
	fmt.Println("KV is less even under one's own:", kv[1] > kv[0])
	// Output:
	// moelb: 186 requests entered and left
	// fewest: 186 requests entered and left
	// KV is less even under one's own: true
}
