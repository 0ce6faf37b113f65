package system

import (
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moelb/moelb/bench/workload"
)

func ours() Policy {
	return Policy{PrefillPolicies()[0], DecodePolicies()[0], ExpertsOptimal}
}

func none() Policy {
	p, d := PrefillPolicies(), DecodePolicies()
	return Policy{p[len(p)-1], d[len(d)-1], ExpertsAlone}
}

func small(p Policy, seconds float64) Config {
	c := Default(p)
	c.Seconds, c.Warm = seconds, seconds/2
	return c
}

// alike compares results but for the functions in their policies.
var alike = cmp.Comparer(func(a, b Policy) bool { return a.String() == b.String() })

func TestRun(t *testing.T) {
	for _, p := range []Policy{ours(), none()} {
		began := time.Now()
		c := small(p, 120)
		r, err := Run(c, workload.Steady(180, 1))
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%v: %.0f tok/s, in %.0f, ttft %.3g %.3g, tpot %.4g %.4g, idle %.3f %.3f, %d requests, peak %d, evict %d, experts %.3f %.3f moves %d %.3fs, steps %d %d (%.3f %.4f) imb pairs %.3f tok %.3f kv %.4f n %.4f; %v", p, r.TokensPerSecond, r.InputPerSecond, r.TTFT50, r.TTFT99, r.TPOT50, r.TPOT99, r.PrefillIdle, r.DecodeIdle, r.Requests, r.PeakInFlight, r.Evictions, r.PrefillExperts, r.DecodeExperts, r.Moves, r.MoveSeconds, r.PrefillSteps, r.DecodeSteps, r.PrefillStep, r.DecodeStep, r.PairsImbalance, r.TokensImbalance, r.KVImbalance, r.RequestsImbalance, time.Since(began))
	}
}

func TestSameAgain(t *testing.T) {
	c := small(ours(), 30)
	a, err := Run(c, workload.Steady(150, 1))
	if err != nil {
		t.Fatal(err)
	}
	b, err := Run(c, workload.Steady(150, 1))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(a, b, alike); d != "" {
		t.Error(d)
	}
}

// TestConservation breaks each rule on purpose.
func TestConservation(t *testing.T) {
	for f := dropRequest; f <= leakKV; f++ {
		s, err := newSim(small(none(), 20), workload.Steady(100, 1))
		if err != nil {
			t.Fatal(err)
		}
		s.fault = f
		_, err = s.run()
		var lost *ConservationError
		if !errors.As(err, &lost) {
			t.Errorf("fault %d was not found: %v", f, err)
		} else {
			t.Logf("fault %d: %v", f, err)
		}
	}
}

// TestPeakHour runs the whole fleet at the published peak for a simulated hour:
// 29 prefill units, 9 decode units.
func TestPeakHour(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	c := Default(ours())
	c.Plan = []PlanStep{{0, Fleet{29, 9}}}
	c.Seconds, c.Warm = 3600, 300
	c.MaxRequests = 128
	began := time.Now()
	r, err := Run(c, workload.Steady(1700, 1))
	if err != nil {
		t.Fatal(err)
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("%v; %.0f MB; %+v", time.Since(began), float64(m.Sys)/1e6, r.TokensPerSecond)
	t.Logf("in %.0f, ttft %.3g %.3g, tpot %.4g %.4g, idle %.3f %.3f, %d requests, peak %d, evict %d, steps %d %d (%.3f %.4f)", r.InputPerSecond, r.TTFT50, r.TTFT99, r.TPOT50, r.TPOT99, r.PrefillIdle, r.DecodeIdle, r.Requests, r.PeakInFlight, r.Evictions, r.PrefillSteps, r.DecodeSteps, r.PrefillStep, r.DecodeStep)
}
