package problem

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// Layer is a layer as the search sees it, in every window that has load. Its
// memory is used again for every layer.
type Layer struct {
	P    *Problem
	U    *Unit
	Task search.Task
	S    search.State
	Idle bool // the layer has no load: its experts are all alike
	pick representatives
	At   int // 1 + the layer whose loads are set
}

func NewLayer(p *Problem) *Layer {
	u := p.Unit
	y := &Layer{P: p, U: u}
	y.Task = search.Task{Experts: p.Experts(), First: u.First, Speed: u.Speed}
	if p.TwoNodes {
		y.Task.Domain = u.Node
	}
	return y
}

// SetLoads takes the windows of layer l that have load in it, or as many sums of
// alike ones as can be planned for.
func (y *Layer) SetLoads(l int) {
	t := &y.Task
	if y.At == l+1 {
		return
	}
	y.At = l + 1
	y.pick.live(y.P, l)
	n, all := len(y.pick.rows), Sum(y.pick.total)
	t.Share = append(t.Share[:0], y.pick.total...)
	if y.Idle = n == 0; y.Idle {
		n, t.Share = 1, append(t.Share, 1)
	}
	gpus := float64(len(y.U.Gpu))
	t.Load = slices.Grow(t.Load[:0], t.Experts*n)[:t.Experts*n]
	for i := range t.Load {
		t.Load[i] = gpus / float64(t.Experts)
	}
	for k, w := range y.pick.rows {
		scale := gpus / t.Share[k]
		for e, x := range w {
			t.Load[e*n+k] = x * scale
		}
		t.Share[k] /= all
	}
}

// SetHome keeps the experts of groups on their nodes but for so many replicas.
func (y *Layer) SetHome(home []int32, off int) {
	t := &y.Task
	t.Home = t.Home[:0]
	for _, group := range y.P.GroupOf() {
		if t.Home = append(t.Home, -1); group >= 0 {
			t.Home[len(t.Home)-1] = home[group]
		}
	}
	t.Node, t.MostOff = y.U.Node, off
}
