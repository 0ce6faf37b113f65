// Command own-policy puts a decode policy of its own into the simulated system: any
// type that keeps the interface decode.Batcher can take the place of the balancer.
// It prints how a token's time and the ranks' evenness compare with moelb's.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout, 40); err != nil {
		log.Fatal(err)
	}
}

// fewest places each request on the rank with the fewest, and knows nothing of KV.
// The simulator refuses what a rank has no room for, and asks again later.
type fewest struct {
	held []int // requests by rank
	rank map[decode.ID]int
}

var _ decode.Batcher = (*fewest)(nil)

// Add places one request.
func (f *fewest) Add(r decode.Request) (int, error) {
	best := 0
	for g, n := range f.held {
		if n < f.held[best] {
			best = g
		}
	}
	f.held[best]++
	f.rank[r.ID] = best
	return best, nil
}

// Batch places several, one by one.
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

// Done takes a request off.
func (f *fewest) Done(id decode.ID) error {
	g, ok := f.rank[id]
	if !ok {
		return fmt.Errorf("%w: %d", decode.ErrUnknown, id)
	}
	f.held[g]--
	delete(f.rank, id)
	return nil
}

// Step tells that every running request grew by one token, which it ignores.
func (f *fewest) Step() {}

func run(w io.Writer, seconds float64) error {
	policy, err := simulate.FindPolicy("moelb", "moelb", "optimal")
	if err != nil {
		return err
	}
	own := policy
	own.Decode = simulate.DecodePolicy{Name: "fewest", Even: true, New: func(c decode.Config) (decode.Batcher, error) {
		return &fewest{held: make([]int, c.Ranks), rank: map[decode.ID]int{}}, nil
	}}
	for _, p := range []simulate.Policy{policy, own} {
		c := simulate.Default(p)
		c.Seconds, c.Warm = seconds, seconds/4
		c.DecodeOnly = true
		// The unit starts as full as it stays: requests that began before the run.
		c.Past, c.PastTPOT = 400, .045
		r, err := simulate.Run(c, workload.Steady(150, 1))
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "%-7s %.1f ms a token, p99 %.1f; busiest rank %.3f times the mean KV, %.3f the mean requests\n", p.Decode.Name, 1e3*r.TPOT50, 1e3*r.TPOT99, r.KVImbalance, r.RequestsImbalance)
	}
	return nil
}
