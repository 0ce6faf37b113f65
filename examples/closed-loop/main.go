// Command closed-loop runs the three balancers in one loop: requests enter a
// prefill unit, join a rank of a decode unit once their prompt is computed, and
// every token of both is counted for its experts, which are placed anew window by
// window. It prints how even the ranks are, and what each new placement moves and
// gains. An engine would run the steps and do the counting; the loop is the same.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/eplb/track"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

const (
	windows     = 6
	rounds      = 30 // of a window: a step of the prefill unit each, about half a second
	decodeSteps = 10 // of the decode unit in that time
	arrivals    = 40 // requests a round
)

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// loop is a prefill unit, a decode unit and the experts of both.
type loop struct {
	prompts  *prefill.Balancer
	running  *decode.Balancer
	experts  []*experts         // of the prefill unit, of the decode unit
	requests []workload.Request // by the prompt's ID
	waiting  []int64            // prompts that are computed and have no rank yet
	ends     map[int][]decode.ID
	arrived  int
	step     int // of the decode unit
}

func run(w io.Writer) error {
	unit := placement.PrefillUnit() // 4 nodes of 8 GPUs; here the decode unit's too
	model := placement.DeepSeekV3()
	model.Layers = 4 // of 58: enough to see
	l := &loop{requests: workload.Chat(windows*rounds*arrivals, 1), ends: map[int][]decode.ID{}}
	var err error
	if l.prompts, err = prefill.New(prefill.Config{Ranks: unit.GPUs, MaxTokens: 4096}); err != nil {
		return err
	}
	if l.running, err = decode.New(decode.Config{Ranks: unit.GPUs, KVCapacity: []int64{550_000}}); err != nil {
		return err
	}
	for _, name := range []string{"prefill", "decode"} {
		e, err := newExperts(name, model, unit)
		if err != nil {
			return err
		}
		l.experts = append(l.experts, e)
	}
	routing := workload.Drift(model, windows, 1<<20, 1) // what a token's experts are, window by window
	for window, loads := range routing {
		for range rounds {
			if err := l.round(loads); err != nil {
				return err
			}
		}
		s := l.running.Stats()
		fmt.Fprintf(w, "window %d: %d requests arrived, %d run; max/mean over the ranks %.3f of KV, %.3f of requests\n",
			window, l.arrived, len(l.running.Known(nil)), s.Imbalance.KV, s.Imbalance.Requests)
		for _, e := range l.experts {
			if err := e.replan(w); err != nil {
				return err
			}
		}
	}
	return nil
}

// round takes in what arrived, makes a step of the prefill unit, and meanwhile some
// of the decode unit.
func (l *loop) round(routing placement.Loads) error {
	for range arrivals {
		if err := l.prompts.Enqueue(prefill.Request{ID: prefill.ID(l.arrived), Tokens: int64(l.requests[l.arrived].Input)}); err != nil {
			return err
		}
		l.arrived++
	}
	computed := int64(0)
	for _, c := range l.prompts.Step(nil) {
		computed += c.Tokens
		if c.Last {
			l.waiting = append(l.waiting, int64(c.ID))
		}
	}
	err := l.join()
	generated := int64(0)
	for i := 0; i < decodeSteps && err == nil; i++ {
		generated += int64(len(l.running.Known(nil)))
		l.running.Step()
		for _, id := range l.ends[l.step] {
			err = errors.Join(err, l.running.Done(id))
		}
		delete(l.ends, l.step)
		l.step++
	}
	return errors.Join(err, l.experts[0].count(routing, computed), l.experts[1].count(routing, generated))
}

// join places the prompts that have been computed on the decode unit, jointly. What
// fits nowhere now waits.
func (l *loop) join() error {
	batch := make([]decode.Request, len(l.waiting))
	for i, prompt := range l.waiting {
		batch[i] = decode.Request{ID: decode.ID(prompt), KV: int64(l.requests[prompt].Input)}
	}
	placed, err := l.running.Batch(nil, batch)
	if err != nil {
		return err
	}
	still := l.waiting[:0]
	for i, rank := range placed {
		if rank == decode.Full {
			still = append(still, l.waiting[i])
			continue
		}
		end := l.step + max(l.requests[l.waiting[i]].Output, 1) - 1
		l.ends[end] = append(l.ends[end], batch[i].ID)
	}
	l.waiting = still
	return nil
}

// experts are those of one unit: where they are, and what they had to do.
type experts struct {
	name      string
	unit      placement.Topology
	placement placement.Placement
	tracker   *track.Tracker
}

func newExperts(name string, model placement.Model, unit placement.Topology) (*experts, error) {
	const slots = 288 // a layer: 256 experts and 32 redundant ones
	tracker, err := track.New(model.Layers, model.Experts, track.Options{})
	return &experts{name, unit, placement.Trivial(model.Layers, model.Experts, slots, unit.GPUs), tracker}, err
}

// count adds the tokens of a step, which go to experts in the proportion of routing.
func (e *experts) count(routing placement.Loads, tokens int64) error {
	counts := make([][]int64, len(routing))
	for l, row := range routing {
		counts[l] = make([]int64, len(row))
		for x, load := range row {
			counts[l][x] = int64(load) * tokens >> 20 // routing is that of 2^20 tokens
		}
	}
	return e.tracker.Add(counts)
}

// replan closes the window and places the experts for the next one like it, from
// where they are: a layer moves as few as bring it within 2%.
func (e *experts) replan(w io.Writer) error {
	e.tracker.Roll()
	seen := []placement.Loads{placement.NewLoads(len(e.placement.PhysicalToLogical), e.placement.Experts)}
	if _, err := e.tracker.Windows(seen); err != nil {
		return err
	}
	before, err := e.placement.ScoreLayers(seen[0], e.unit)
	if err != nil {
		return err
	}
	plan, err := eplb.Plan(context.Background(), eplb.Problem{Loads: seen[0], Replicas: e.placement.Slots(), Topology: e.unit, Previous: &e.placement}, eplb.Options{Target: 1.02})
	if err != nil {
		return err
	}
	from, to, moves := 0.0, 0.0, 0
	for i, layer := range plan.Layers {
		from += before[i].Imbalance / float64(len(before))
		to += layer.Imbalance / float64(len(before))
		moves += layer.Moves
	}
	fmt.Fprintf(w, "  experts of %-8s imbalance %.3f as they were, %.3f after %d moves\n", e.name+":", from, to, moves)
	e.placement = plan.Placement
	return nil
}
