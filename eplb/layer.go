package eplb

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// layerTask is a layer as the search sees it, in every window that has load. Its
// memory is used again for every layer.
type layerTask struct {
	p    *checked
	u    *unit
	task search.Task
	s    search.State
	idle bool // the layer has no load: its experts are all alike
	pick representatives
	at   int // 1 + the layer whose loads are set
}

func newLayerTask(p *checked) *layerTask {
	u := p.unit
	y := &layerTask{p: p, u: u}
	y.task = search.Task{Experts: p.experts(), First: u.first, Speed: u.speed}
	if p.twoNodes {
		y.task.Domain = u.node
	}
	return y
}

// setLoads takes the windows of layer l that have load in it, or as many sums of
// alike ones as can be planned for.
func (y *layerTask) setLoads(l int) {
	t := &y.task
	if y.at == l+1 {
		return
	}
	y.at = l + 1
	live := y.pick.live(y.p, l)
	t.Share = t.Share[:0]
	all := 0.0
	for _, w := range live {
		sum := 0.0
		for _, x := range w {
			sum += x
		}
		t.Share = append(t.Share, sum)
		all += sum
	}
	n := len(live)
	if y.idle = n == 0; y.idle {
		n, t.Share = 1, append(t.Share, 1)
	}
	gpus := float64(len(y.u.gpu))
	t.Load = slices.Grow(t.Load[:0], t.Experts*n)[:t.Experts*n]
	for i := range t.Load {
		t.Load[i] = gpus / float64(t.Experts)
	}
	for k, w := range live {
		scale := gpus / t.Share[k]
		for e, x := range w {
			t.Load[e*n+k] = x * scale
		}
		t.Share[k] /= all
	}
}

// setHome keeps the experts of groups on their nodes but for so many replicas.
func (y *layerTask) setHome(home []int32, off int) {
	t := &y.task
	per := t.Experts / len(home)
	t.Home = slices.Grow(t.Home[:0], t.Experts)[:t.Experts]
	for e := range t.Home {
		t.Home[e] = home[e/per]
	}
	t.Node, t.MostOff = y.u.node, off
}
