package eplb

import (
	"context"
	"math/rand/v2"
	"os"
	"sort"
	"strconv"
	"testing"
	"time"
)

func TestZZ(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	n := 2000
	if v := os.Getenv("N"); v != "" {
		n, _ = strconv.Atoi(v)
	}
	type rec struct {
		ratio    float64
		ms       float64
		kind     string
		e, rr, g int
	}
	var fs []rec
	proved := 0
	tot := 0.0
	var done []float64
	for i := range n {
		p, kind := drawAny(r, i)
		p.Loads = p.Loads[:1]
		t0 := time.Now()
		res, _ := Plan(context.Background(), p, Options{Workers: 1})
		ms := time.Since(t0).Seconds() * 1e3
		tot += ms
		x := res.Layers[0]
		if x.Status == Proved {
			proved++
			done = append(done, ms)
		} else {
			fs = append(fs, rec{x.Imbalance / x.LowerBound, ms, kind, p.Loads.Experts(), p.Replicas, p.Topology.GPUs})
		}
	}
	sort.Float64s(done)
	sort.Slice(fs, func(i, j int) bool { return fs[i].ratio > fs[j].ratio })
	t.Logf("total %.0f ms, proved %d of %d; done ms p50 %.3f p90 %.3f p99 %.3f max %.3f", tot, proved, n, done[len(done)/2], done[len(done)*9/10], done[len(done)*99/100], done[len(done)-1])
	for i := 0; i < len(fs); i += 1 + len(fs)/25 {
		t.Logf("%+v", fs[i])
	}
	s := 0.0
	for _, f := range fs {
		s += f.ratio
	}
	t.Logf("mean ratio of unproved %.5f", s/float64(len(fs)))
}
