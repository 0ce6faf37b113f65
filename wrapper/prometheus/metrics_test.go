package prometheus_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/wrapper/prometheus"
)

func Example() {
	metrics := prometheus.New(prometheus.Options{ConstLabels: client.Labels{"unit": "decode-0"}})
	registry := client.NewRegistry()
	registry.MustRegister(metrics)

	plan, err := eplb.Plan(context.Background(), eplb.Problem{
		Loads: placement.Loads{{90, 40, 30, 20, 10, 10}}, Replicas: 8, Topology: placement.Topology{GPUs: 4},
	}, eplb.Options{})
	if err != nil {
		panic(err)
	}
	metrics.Plan(&plan)
	metrics.Decision(prometheus.Experts, false)

	answer := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(answer, httptest.NewRequest("GET", "/metrics", nil))
	for line := range strings.Lines(answer.Body.String()) {
		if strings.HasPrefix(line, "moelb_imbalance") || strings.HasPrefix(line, "moelb_decisions") {
			fmt.Print(line)
		}
	}
	// Output:
	// moelb_decisions_total{balancer="experts",unit="decode-0"} 1
	// moelb_imbalance{balancer="experts",measure="max",unit="decode-0"} 1
	// moelb_imbalance{balancer="experts",measure="mean",unit="decode-0"} 1
}

func TestFigures(t *testing.T) {
	m := prometheus.New(prometheus.Options{})
	m.Plan(&eplb.Result{Layers: []eplb.Layer{{Imbalance: 1.25, LowerBound: 1, Moves: 3}, {Imbalance: 1.75, LowerBound: 1.5, Moves: 4}}})
	m.Loads(prometheus.Decode, "kv", []float64{10, 30, 20}, nil)
	m.Loads(prometheus.Prefill, "tokens", []float64{10, 0, 20}, []float64{1, 0, 1})
	m.Decision(prometheus.Experts, false)
	m.Decision(prometheus.Decode, true)
	m.Decision(prometheus.Decode, false)
	m.Moves(prometheus.Decode, 2)
	m.Moves(prometheus.Decode, -1)
	const want = `
# HELP moelb_balancedness Mean load of the ranks divided by the largest; 1 is perfect.
# TYPE moelb_balancedness gauge
moelb_balancedness{balancer="decode",measure="kv"} 0.6666666666666666
moelb_balancedness{balancer="experts",measure="max"} 0.5714285714285714
moelb_balancedness{balancer="experts",measure="mean"} 0.6666666666666666
moelb_balancedness{balancer="prefill",measure="tokens"} 0.75
# HELP moelb_decisions_total Decisions taken: requests placed, re-plans considered.
# TYPE moelb_decisions_total counter
moelb_decisions_total{balancer="decode"} 2
moelb_decisions_total{balancer="experts"} 1
# HELP moelb_imbalance Largest load of a rank divided by the mean; 1 is perfect.
# TYPE moelb_imbalance gauge
moelb_imbalance{balancer="decode",measure="kv"} 1.5
moelb_imbalance{balancer="experts",measure="max"} 1.75
moelb_imbalance{balancer="experts",measure="mean"} 1.5
moelb_imbalance{balancer="prefill",measure="tokens"} 1.3333333333333333
# HELP moelb_lower_bound Proved: no placement has an imbalance below this.
# TYPE moelb_lower_bound gauge
moelb_lower_bound{balancer="experts",measure="max"} 1.5
moelb_lower_bound{balancer="experts",measure="mean"} 1.25
# HELP moelb_moves_total Replicas or requests moved to another rank.
# TYPE moelb_moves_total counter
moelb_moves_total{balancer="decode"} 2
moelb_moves_total{balancer="experts"} 7
# HELP moelb_refused_total Decisions that ended with nothing: it fits nowhere, or is not worth moving.
# TYPE moelb_refused_total counter
moelb_refused_total{balancer="decode"} 1
moelb_refused_total{balancer="experts"} 0
`
	if err := testutil.CollectAndCompare(m, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(m); err != nil || len(problems) > 0 {
		t.Error(err, problems)
	}
	m.Scores([]placement.Score{{Imbalance: 1}, {Imbalance: 3}})
	m.Scores(nil)
	m.Plan(&eplb.Result{})
	if err := testutil.CollectAndCompare(m, strings.NewReader(`
# HELP moelb_imbalance Largest load of a rank divided by the mean; 1 is perfect.
# TYPE moelb_imbalance gauge
moelb_imbalance{balancer="decode",measure="kv"} 1.5
moelb_imbalance{balancer="experts",measure="max"} 3
moelb_imbalance{balancer="experts",measure="mean"} 2
moelb_imbalance{balancer="prefill",measure="tokens"} 1.3333333333333333
`), "moelb_imbalance"); err != nil {
		t.Error(err)
	}
}

// TestFewSeries demands that the number of series depends on the unit's size only
// where that was asked for.
func TestFewSeries(t *testing.T) {
	for _, ranks := range []int{32, 144} {
		for _, perRank := range []bool{false, true} {
			m := prometheus.New(prometheus.Options{PerRank: perRank})
			loads := make([]float64, ranks)
			for i := range loads {
				loads[i] = float64(i)
			}
			m.Loads(prometheus.Decode, "kv", loads, nil)
			m.Loads(prometheus.Decode, "requests", loads, nil)
			m.Plan(&eplb.Result{Layers: make([]eplb.Layer, 58)})
			want := 11 // imbalance, balancedness: 4 each; bound: 2; moves: 1
			if perRank {
				want += 2 * ranks
			}
			if n := testutil.CollectAndCount(m); n != want {
				t.Errorf("%d ranks, per rank %v: %d series, want %d", ranks, perRank, n, want)
			}
		}
	}
}

func TestManyGoroutines(t *testing.T) {
	m := prometheus.New(prometheus.Options{PerRank: true})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				m.Loads(prometheus.Decode, "kv", []float64{1, 2}, nil)
				m.Decision(prometheus.Decode, false)
				testutil.CollectAndCount(m)
			}
		})
	}
	wg.Wait()
	if err := testutil.CollectAndCompare(m, strings.NewReader(`
# HELP moelb_decisions_total Decisions taken: requests placed, re-plans considered.
# TYPE moelb_decisions_total counter
moelb_decisions_total{balancer="decode"} 800
`), "moelb_decisions_total"); err != nil {
		t.Error(err)
	}
}
