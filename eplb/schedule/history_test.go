package schedule

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// history is a unit that lives through failures, returns, growth, shrinking and
// new loads, each change cut short at some round by the next.
type history struct {
	rng     *rand.Rand
	each    int // slots of a GPU
	experts int
	layers  int
	dead    []bool
	at      placement.Placement
	loads   placement.Loads
}

func newHistory(rng *rand.Rand) *history {
	h := &history{rng: rng, each: 2 + rng.IntN(4), layers: 1 + rng.IntN(3)}
	gpus := 3 + rng.IntN(5)
	h.dead = make([]bool, gpus)
	h.experts = max(2, gpus*h.each/2+rng.IntN(gpus*h.each/2))
	h.at = placement.Trivial(h.layers, h.experts, gpus*h.each, gpus)
	h.newLoads()
	return h
}

func (h *history) newLoads() {
	h.loads = placement.NewLoads(h.layers, h.experts)
	for _, row := range h.loads {
		for e := range row {
			row[e] = float64(1 + h.rng.IntN(1+h.rng.IntN(200)))
		}
	}
}

func (h *history) alive() int {
	n := 0
	for _, dead := range h.dead {
		if !dead {
			n++
		}
	}
	return n
}

// event is what happens next; false = it cannot happen here.
func (h *history) event() (what string, ok bool) {
	switch h.rng.IntN(5) {
	case 0:
		g := h.rng.IntN(len(h.dead))
		if h.dead[g] || (h.alive()-1)*h.each < h.experts {
			return "", false
		}
		h.dead[g] = true
		if h.rng.IntN(2) == 0 {
			h.empty(g) // the controller has noted that its memory is gone
		}
		return fmt.Sprintf("GPU %d dies", g), true
	case 1:
		g := slices.Index(h.dead, true)
		if g < 0 {
			return "", false
		}
		h.dead[g] = false
		h.empty(g)
		return fmt.Sprintf("GPU %d returns", g), true
	case 2:
		if len(h.dead) > 10 {
			return "", false
		}
		n := 1 + h.rng.IntN(3)
		h.dead = append(h.dead, make([]bool, n)...)
		return fmt.Sprintf("%d GPUs join", n), true
	case 3:
		n := 1 + h.rng.IntN(2)
		if n >= len(h.dead) {
			return "", false
		}
		was := h.dead
		if h.dead = h.dead[:len(was)-n]; h.alive()*h.each < h.experts {
			h.dead = was
			return "", false
		}
		for g := len(h.dead); g < len(was); g++ {
			if was[g] {
				h.empty(g)
			}
		}
		return fmt.Sprintf("%d GPUs leave", n), true
	default:
		h.newLoads()
		return "new loads", true
	}
}

func (h *history) empty(g int) {
	if g >= h.at.GPUs {
		return
	}
	first := h.at.FirstSlots()
	for _, row := range h.at.PhysicalToLogical {
		for i := first[g]; i < first[g+1]; i++ {
			row[i] = -1
		}
	}
}

// change plans for what is, checks the whole schedule, and does some of it.
func (h *history) change() error {
	gpus := len(h.dead)
	unit := placement.Topology{GPUs: gpus, NodeGPUs: []int{}, NVLink: 160e9, RDMA: 45e9}
	for left := gpus; left > 0; left -= unit.NodeGPUs[len(unit.NodeGPUs)-1] {
		unit.NodeGPUs = append(unit.NodeGPUs, min(4, left))
	}
	if slices.Contains(h.dead, true) {
		unit.Speed = make([]float64, gpus)
		for g, dead := range h.dead {
			if !dead {
				unit.Speed[g] = 1
			}
		}
	}
	o := eplb.Options{Locality: eplb.Free, Workers: 1, Restarts: -1}
	if h.rng.IntN(3) == 0 {
		o.MaxMoves = -1 + h.rng.IntN(6)
	}
	r, err := eplb.Plan(context.Background(), eplb.Problem{Loads: h.loads, Replicas: gpus * h.each, Topology: unit, Previous: &h.at}, o)
	if err != nil {
		return err
	}
	if o.MaxMoves < 0 {
		if err := h.fewest(&r, unit); err != nil {
			return err
		}
	}
	limits := Options{ExpertBytes: 44_040_192, PerGPU: 1 + h.rng.IntN(3), RDMAPerGPU: h.rng.IntN(3), LayersAtOnce: h.rng.IntN(3)}
	randomLimits(h.rng, &limits)
	union := unit.Extend(h.at.GPUs)
	s, err := New(&h.at, &r.Placement, union, limits)
	if err == nil {
		err = execute(&s, &h.at, &r.Placement, union, limits)
	}
	if err != nil {
		return err
	}
	done := h.rng.IntN(len(s.Rounds) + 1)
	if h.rng.IntN(3) == 0 {
		done = len(s.Rounds)
	}
	next, err := s.Apply(&h.at, done)
	if err != nil {
		return err
	}
	if done == len(s.Rounds) && !slices.EqualFunc(next.PhysicalToLogical, r.Placement.PhysicalToLogical, slices.Equal[[]int]) {
		return fmt.Errorf("the end is %v, planned %v", next.PhysicalToLogical, r.Placement.PhysicalToLogical)
	}
	// A controller that starts anew in between gets to the same.
	half := h.rng.IntN(done + 1)
	then, err := s.Apply(&h.at, half)
	if err == nil {
		then, err = s.Resume(&then, half, done)
	}
	if err != nil || !slices.EqualFunc(next.PhysicalToLogical, then.PhysicalToLogical, slices.Equal[[]int]) {
		return fmt.Errorf("%d rounds and then up to %d lead to %v, all at once to %v (%v)", half, done, then.PhysicalToLogical, next.PhysicalToLogical, err)
	}
	h.at = next
	return nil
}

// fewest demands that a plan which may not move makes the moves that it must:
// experts that are nowhere, and slots in service that are empty.
func (h *history) fewest(r *eplb.Result, unit placement.Topology) error {
	first := h.at.FirstSlots()
	for l, row := range h.at.PhysicalToLogical {
		lives, empty := make([]bool, h.experts), 0
		for g := range unit.GPUs {
			if unit.SpeedOf(g) == 0 {
				continue
			}
			empty += h.each
			if g >= h.at.GPUs {
				continue
			}
			seen := map[int]bool{}
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 && !seen[e] {
					seen[e] = true
					empty--
					lives[e] = true
				}
			}
			empty += max(0, len(seen)-h.each)
		}
		lost := 0
		for _, ok := range lives {
			if !ok {
				lost++
			}
		}
		if m := r.Layers[l].Moves; m < lost || m > max(lost, empty) {
			return fmt.Errorf("layer %d: %d moves, where %d experts are lost and %d slots empty", l, m, lost, empty)
		}
	}
	return nil
}

// Through random histories no contract is broken at any round, every plan can be
// made, and every end is the plan's.
func TestHistories(t *testing.T) {
	const seed = 51
	histories := 120
	if long.Tests() {
		histories = 2_000
	}
	for i := range histories {
		rng := rand.New(rand.NewPCG(seed, uint64(i)))
		h := newHistory(rng)
		var told []string
		for range 2 + rng.IntN(6) {
			what, ok := h.event()
			if !ok {
				continue
			}
			told = append(told, what)
			if err := h.change(); err != nil {
				t.Fatalf("seed %d, history %d, %q: %v", seed, i, told, err)
			}
		}
	}
}

// An expert that died takes the empty slot, though a copy elsewhere could better
// be done without: the slot must be filled anyhow, and that would be two moves.
func TestFewestMovesAfterAFailure(t *testing.T) {
	at := placement.Placement{Experts: 5, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 4, 2, 0, -1}}}
	p := eplb.Problem{Loads: placement.Loads{{2, 1, 1, 9, 5}}, Replicas: 6, Topology: placement.Topology{GPUs: 2}, Previous: &at}
	for _, loads := range []placement.Loads{{{2, 1, 9, 5, 1}}, {{9, 1, 1, 1, 1}}, {{1, 1, 50, 50, 1}}} {
		p.Loads = loads
		r, err := eplb.Plan(context.Background(), p, eplb.Options{MaxMoves: -1})
		if err != nil {
			t.Fatal(err)
		}
		if row := r.Placement.PhysicalToLogical[0]; r.Layers[0].Moves != 1 || row[5] != 3 {
			t.Errorf("%v: %d moves to %v", loads, r.Layers[0].Moves, row)
		}
	}
}
