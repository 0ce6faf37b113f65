package bench

import (
	"testing"

	"github.com/moelb/moelb/bench/baseline"
	dec "github.com/moelb/moelb/decode"
)

// TestX is a probe.
func TestX(t *testing.T) {
	for _, l := range decodeLoads(t) {
		u := l.unit()
		u.Delay = 2
		a, err := u.Run(ours(t, dec.Config{}))
		if err != nil {
			t.Fatal(err)
		}
		u.Joint = true
		aj, _ := u.Run(ours(t, dec.Config{}))
		u.Joint = false
		u.Delay, u.Reports = 1, true
		b, err := u.Run(ours(t, dec.Config{Routers: 1}))
		if err != nil {
			t.Fatal(err)
		}
		u.Counted = true
		var r [2]float64
		var q [2]float64
		for i := range 2 {
			u.Delay = i + 1
			var four, theirs []dec.Scheduler
			for k := range 4 {
				four = append(four, ours(t, dec.Config{Routers: 4, Router: k}))
			}
			for _, p := range baseline.DecodePolicies() {
				if p.Name == "br-0" {
					for k := range 4 {
						theirs = append(theirs, p.New(144, 550_000, uint64(k)))
					}
				}
			}
			c, err := u.Run(four...)
			if err != nil {
				t.Fatal(err)
			}
			r[i] = 100 * c.Waste
			c, err = u.Run(theirs...)
			if err != nil {
				t.Fatal(err)
			}
			q[i] = 100 * c.Waste
		}
		u = l.unit()
		u.Moves, u.MovesEvery = 1, 4
		m, err := u.Run(ours(t, dec.Config{}))
		if err != nil {
			t.Fatal(err)
		}
		u.Joint = true
		mj, _ := u.Run(ours(t, dec.Config{}))
		t.Logf("%s: late %.2f joint %.2f, overwritten %.2f, four %.2f (br-0 %.2f), moves %.2f (%d) joint %.2f (%d)", l.name, 100*a.Waste, 100*aj.Waste, 100*b.Waste, r, q, 100*m.Waste, m.Moved, 100*mj.Waste, mj.Moved)
	}
}
