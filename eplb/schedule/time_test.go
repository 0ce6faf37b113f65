package schedule

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moelb/moelb/placement"
)

// Eight times the layers, of which one is moved at once, take about eight times the time:
// those that a round cannot finish are not tried in it.
func TestTimeGrowsWithLayers(t *testing.T) {
	took := func(layers int) float64 {
		const gpus = 16
		rng := rand.New(rand.NewPCG(81, 0))
		prev := placement.Trivial(layers, gpus, 2*gpus, gpus)
		next := prev.Clone()
		for _, row := range next.PhysicalToLogical {
			rng.Shuffle(len(row), func(i, j int) { row[i], row[j] = row[j], row[i] })
		}
		best := math.Inf(1)
		for range 4 {
			start := time.Now()
			if _, err := New(&prev, &next, placement.Topology{GPUs: gpus, Nodes: 2}, Options{LayersAtOnce: 1}); err != nil {
				t.Fatal(err)
			}
			best = min(best, time.Since(start).Seconds())
		}
		return best
	}
	few, many := took(150), took(8*150)
	t.Logf("%.4f s, %.4f", few, many)
	if many > 32*few {
		t.Errorf("%.1f times the time", many/few)
	}
}
