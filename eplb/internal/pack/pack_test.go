package pack

import (
	"testing"

	"github.com/moelb/moelb/eplb/internal/problem"
	"github.com/moelb/moelb/placement"
)

// A GPU that passes comes before a lighter one that does not, one with room before all.
func TestLightestFor(t *testing.T) {
	s := New(problem.NewUnit(&placement.Topology{GPUs: 3}, 6, 4), 4)
	s.SetLoads([]float64{4, 3, 2, 1})
	s.Adams(6, 3, nil)
	s.Begin()
	s.Put(0, 0)
	s.Put(1, 1)
	last := func(gpu int) bool { return gpu == 1 }
	if g, h := s.LightestFor(3, nil), s.LightestFor(3, last); g != 2 || h != 1 {
		t.Errorf("GPU %d of all, %d of those that pass", g, h)
	}
	s.Put(2, 1)
	if g := s.LightestFor(3, last); g != 2 {
		t.Errorf("GPU %d where the one that passes is full", g)
	}
}
