package workload

import (
	"math"
	"testing"
)

func TestTraffic(t *testing.T) {
	a, b := Steady(100, 1), Steady(100, 1)
	n, input, output, last := 20_000, 0, 0, 0.0
	for range n {
		q, ok := a.Next()
		if p, _ := b.Next(); !ok || p.Arrival != q.Arrival || p.Input != q.Input || p.Output != q.Output {
			t.Fatal("the same seed gives other requests")
		}
		if q.Arrival < last || q.Input < 1 || q.Output < 1 {
			t.Fatalf("request %+v", q)
		}
		last, input, output = q.Arrival, input+q.Input, output+q.Output
	}
	for _, c := range []struct{ got, want float64 }{{float64(n) / last, 100}, {float64(input) / float64(n), trafficInput}, {float64(output) / float64(n), trafficOutput}} {
		if math.Abs(c.got/c.want-1) > .03 {
			t.Errorf("mean %.1f, want %.1f", c.got, c.want)
		}
	}
}
