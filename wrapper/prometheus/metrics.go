// Package prometheus keeps a balancer's figures as Prometheus metrics, on the
// official client.
//
//	moelb_imbalance{balancer,measure}      gauge    max/mean load of the ranks; 1 is perfect
//	moelb_balancedness{balancer,measure}   gauge    mean/max load of the ranks
//	moelb_lower_bound{balancer,measure}    gauge    proved: no placement is below this imbalance
//	moelb_moves_total{balancer}            counter  replicas or requests moved
//	moelb_decisions_total{balancer}        counter  decisions taken
//	moelb_refused_total{balancer}          counter  of these: not worth moving, or fits nowhere
//	moelb_rank_load{balancer,measure,rank} gauge    load of each rank; only with Options.PerRank
//
// balancer is prefill, decode or experts. measure is what is made even: tokens,
// attention, kv, requests; for experts it is the statistic over layers, mean or
// max, each taken over the ranks of every layer first. So a process has a dozen
// series or two, whatever the size of its unit, unless it asks for those of each
// rank.
//
// grafana/dashboard.json shows them in Grafana, alerts.yaml has rules for Prometheus:
// two that are worth waking for, two that can wait for the morning.
package prometheus

import (
	"math"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// Balancer says whose figures they are.
type Balancer string

const (
	Prefill Balancer = "prefill"
	Decode  Balancer = "decode"
	Experts Balancer = "experts"
)

// Options choose what is kept; the zero value is the documented default.
type Options struct {
	// ConstLabels are attached to every metric, for processes that look after
	// several units.
	ConstLabels prometheus.Labels
	// PerRank keeps the load of every rank too: as many series as the unit has
	// ranks, for every balancer and measure that Loads is called with.
	PerRank bool
}

// Metrics is a prometheus.Collector: register it. It may be used by any number
// of goroutines at once.
type Metrics struct {
	imbalance, balancedness, bound *prometheus.GaugeVec
	moves, decisions, refused      *prometheus.CounterVec
	rank                           *prometheus.GaugeVec // nil unless PerRank
}

// New returns metrics that hold nothing yet.
func New(o Options) *Metrics {
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return prometheus.NewGaugeVec(prometheus.GaugeOpts{Namespace: "moelb", Name: name, Help: help, ConstLabels: o.ConstLabels}, labels)
	}
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "moelb", Name: name, Help: help, ConstLabels: o.ConstLabels}, []string{"balancer"})
	}
	m := &Metrics{
		imbalance:    gauge("imbalance", "Largest load of a rank divided by the mean; 1 is perfect.", "balancer", "measure"),
		balancedness: gauge("balancedness", "Mean load of the ranks divided by the largest; 1 is perfect.", "balancer", "measure"),
		bound:        gauge("lower_bound", "Proved: no placement has an imbalance below this.", "balancer", "measure"),
		moves:        counter("moves_total", "Replicas or requests moved to another rank."),
		decisions:    counter("decisions_total", "Decisions taken: requests placed, re-plans considered."),
		refused:      counter("refused_total", "Decisions that ended with nothing: it fits nowhere, or is not worth moving."),
	}
	if o.PerRank {
		m.rank = gauge("rank_load", "Load of each rank, in the measure's unit.", "balancer", "measure", "rank")
	}
	return m
}

func (m *Metrics) collectors() []prometheus.Collector {
	c := []prometheus.Collector{m.imbalance, m.balancedness, m.bound, m.moves, m.decisions, m.refused}
	if m.rank != nil {
		c = append(c, m.rank)
	}
	return c
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}

// Loads sets imbalance and balancedness from the load of each rank, and with
// PerRank the loads themselves. speed is each rank's relative speed, 0 = out of
// service; nil = all equal. measure is a short fixed word, e.g. "kv".
func (m *Metrics) Loads(b Balancer, measure string, loads, speed []float64) {
	m.set(b, measure, placement.Imbalance(loads, speed))
	if m.rank == nil {
		return
	}
	for r, x := range loads {
		m.rank.WithLabelValues(string(b), measure, strconv.Itoa(r)).Set(x)
	}
}

// Plan sets the imbalance and the lower bound of the experts, mean and maximum
// over the layers, and adds the plan's moves. Call it for a plan that is applied.
func (m *Metrics) Plan(r *eplb.Result) {
	if len(r.Layers) == 0 {
		return
	}
	var mean, most, bound, mostBound float64
	moves := 0
	for _, l := range r.Layers {
		mean += l.Imbalance
		bound += l.LowerBound
		most, mostBound = math.Max(most, l.Imbalance), math.Max(mostBound, l.LowerBound)
		moves += l.Moves
	}
	n := float64(len(r.Layers))
	m.set(Experts, "mean", mean/n)
	m.set(Experts, "max", most)
	m.bound.WithLabelValues(string(Experts), "mean").Set(bound / n)
	m.bound.WithLabelValues(string(Experts), "max").Set(mostBound)
	m.Moves(Experts, moves)
}

// Scores sets the imbalance of the experts, mean and maximum over the layers, of
// the placement in force under the loads of the last window.
func (m *Metrics) Scores(layers []placement.Score) {
	if len(layers) == 0 {
		return
	}
	var mean, most float64
	for _, l := range layers {
		mean += l.Imbalance
		most = math.Max(most, l.Imbalance)
	}
	m.set(Experts, "mean", mean/float64(len(layers)))
	m.set(Experts, "max", most)
}

func (m *Metrics) set(b Balancer, measure string, imbalance float64) {
	m.imbalance.WithLabelValues(string(b), measure).Set(imbalance)
	m.balancedness.WithLabelValues(string(b), measure).Set(1 / imbalance)
}

// Decision counts a decision: for experts whether to move now (schedule.Decide), else
// where a request goes. refused: it was not worth moving, or fits nowhere.
func (m *Metrics) Decision(b Balancer, refused bool) {
	m.decisions.WithLabelValues(string(b)).Inc()
	n := 0.0
	if refused {
		n = 1
	}
	m.refused.WithLabelValues(string(b)).Add(n) // 0 shows that there were none
}

// Moves counts replicas or requests moved, n ≥ 0.
func (m *Metrics) Moves(b Balancer, n int) {
	m.moves.WithLabelValues(string(b)).Add(float64(max(n, 0)))
}
