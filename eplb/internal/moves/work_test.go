package moves

import (
	"context"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/eplb/internal/fresh"
	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// TestWorkFollowsTheLayer demands that the search for the fewest moves looks at no more
// changes than a layer of so many slots has use for.
func TestWorkFollowsTheLayer(t *testing.T) {
	for _, c := range []struct {
		experts, gpus, slots, had, most int // most changes a layer, on the mean
	}{{8, 4, 3, 3, 10000}, {64, 8, 9, 9, 260000}, {8, 4, 5, 4, 400000}} {
		const layers = 6
		rng := rand.New(rand.NewPCG(uint64(c.experts), 1))
		top := placement.Topology{GPUs: c.gpus}
		loads := placement.NewLoads(layers, c.experts)
		p := &problem.Problem{Loads: loads, Windows: []placement.Loads{loads}, Topology: top, Replicas: c.gpus * c.slots, Groups: 1, Tolerance: 2e-4,
			Unit: problem.NewUnit(&top, c.gpus*c.slots, c.experts)}
		for _, row := range p.Loads {
			for e := range row {
				row[e] = math.Ceil(1e6 / float64(1+rng.IntN(c.experts)))
			}
		}
		was := placement.Trivial(layers, c.experts, c.gpus*c.had, c.gpus)
		f := fresh.New(p)
		for l := range layers {
			if c.had != c.slots {
				continue // every GPU has a slot more, which must be filled
			}
			f.SetLayer(context.Background(), l)
			f.Make()
			p.Unit.Write(f.Slot, was.PhysicalToLogical[l])
		}
		for _, row := range p.Loads {
			for e := range row {
				row[e] = math.Ceil(row[e] * (.5 + rng.Float64()))
			}
		}
		p.Previous = &was
		m, work := New(p), 0
		for l := range layers {
			f.SetLayer(context.Background(), l)
			m.Front(context.Background(), f, l, 0)
			work += m.S.Work() / layers
		}
		if work == 0 || work > c.most {
			t.Errorf("%d experts on %d GPUs of %d: %d changes looked at a layer, want at most %d", c.experts, c.gpus, c.slots, work, c.most)
		} else {
			t.Logf("%d experts on %d GPUs of %d: %d changes a layer", c.experts, c.gpus, c.slots, work)
		}
	}
}
