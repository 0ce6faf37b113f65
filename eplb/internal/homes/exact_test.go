package homes

import (
	"testing"
	"time"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// The homes of many small groups are more than can be tried: the work that is allowed
// ends the search though most of them are ruled out at once.
func TestManyHomes(t *testing.T) {
	p := &problem.Problem{Replicas: 24, Groups: 20, Off: 1, ByGroup: true, Topology: placement.Topology{GPUs: 5, Nodes: 5}}
	p.Loads = placement.NewLoads(1, 20)
	for e := range p.Loads[0] {
		p.Loads[0][e] = float64(1 + e*e)
	}
	p.Unit = problem.NewUnit(&p.Topology, p.Replicas, 20)
	lo := New(p)
	done := make(chan float64)
	go func() { done <- lo.Plan(p.Loads[0], 1, 0, func() bool { return false }) }()
	select {
	case bound := <-done:
		if level := lo.S.Best.Level; bound >= level {
			t.Errorf("bound %v of a plan at %v: what was not searched proves nothing", bound, level)
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no plan after 30 s")
	}
}
