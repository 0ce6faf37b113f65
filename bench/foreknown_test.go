package bench

import (
	"cmp"
	"math"
	"slices"

	dec "github.com/moelb/moelb/decode"
)

// foreknown places jointly as nobody can who isn't told how long each output will be: by
// what the ranks will hold over the life of what it places. It shows how much of what
// long outputs waste lies in not knowing them, and is no bound: its constants are the
// best of four, and it sees no further than the requests that are there.
type foreknown struct {
	cost  dec.Cost
	clock int64
	ranks [][]outlook
	of    map[dec.ID]int
}

// outlook is a request whose end is known.
type outlook struct {
	id        dec.ID
	kv, until int64 // KV use - clock; clock at its end
}

// foreknownAt are the steps ahead at which it looks, but for the last, where it ends.
var foreknownAt = [...]int64{0, 16, 64, 160, 320, 640, 1000, 1600, 2400, 3600, 5000, 8000, 16_000}

const foreknownSteps = len(foreknownAt) - 1

func newForeknown(ranks int, c dec.Cost) *foreknown {
	return &foreknown{cost: c, ranks: make([][]outlook, ranks), of: map[dec.ID]int{}}
}

func (f *foreknown) Add(r dec.Request) (int, error) {
	g, err := f.Batch(nil, []dec.Request{r})
	return g[0], err
}

func (f *foreknown) Done(id dec.ID) error {
	list := &f.ranks[f.of[id]]
	*list = slices.DeleteFunc(*list, func(q outlook) bool { return q.id == id })
	delete(f.of, id)
	return nil
}

func (f *foreknown) Step() { f.clock++ }

// count adds what a request will hold.
func (f *foreknown) count(kv *[foreknownSteps]float64, q outlook, share float64) {
	for j := range kv {
		if at := f.clock + foreknownAt[j]; j == 0 || at < q.until {
			kv[j] += share * float64(q.kv+at)
		}
	}
}

// beyond is the cost of x units of c each beyond what is free, growing by bend a unit.
func beyond(x, c, bend float64) float64 { return c * max(0, x) * (1 + bend*max(0, x)) }

func (f *foreknown) Batch(dst []int, requests []dec.Request) ([]int, error) {
	n := float64(len(f.ranks))
	held := make([][foreknownSteps]float64, len(f.ranks))
	var mean [foreknownSteps]float64
	all := len(f.of) + len(requests)
	for g, list := range f.ranks {
		for _, q := range list {
			f.count(&held[g], q, 1)
			f.count(&mean, q, 1/n)
		}
	}
	order, coming := make([]int, len(requests)), make([]outlook, len(requests))
	for i, r := range requests {
		order[i], coming[i] = i, outlook{r.ID, r.KV - f.clock, f.clock + r.Output}
		f.count(&mean, coming[i], 1/n)
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(requests[b].KV, requests[a].KV) })
	first := len(dst)
	dst = append(dst, make([]int, len(requests))...)
	even := (all + len(f.ranks) - 1) / len(f.ranks)
	for _, i := range order {
		g := f.best(coming[i], held, &mean, even, float64(all)/n)
		dst[first+i], f.of[requests[i].ID] = g, g
		f.ranks[g] = append(f.ranks[g], coming[i])
		f.count(&held[g], coming[i], 1)
	}
	return dst, nil
}

// best is the rank where a request costs least over its life, by what all will hold
// beyond the mean of those that are there: the cost of KV use beyond a level and, as
// things are now, of requests beyond an even spread. As much of what the mean will have
// lost by then as comes anew can go elsewhere.
func (f *foreknown) best(q outlook, held [][foreknownSteps]float64, mean *[foreknownSteps]float64, even int, requests float64) int {
	const anew, level, share = 0.7, 3000, 0.25
	var more [foreknownSteps]float64
	f.count(&more, q, 1)
	widest, most := 0, 0.0
	for g, list := range f.ranks {
		widest, most = max(widest, len(list)), max(most, held[g][0])
	}
	each := mean[0] / requests
	best, least := -1, math.Inf(1)
	for g, list := range f.ranks {
		kv, life := 0.0, 0.0
		for j := range more {
			if more[j] == 0 {
				break
			}
			steps := float64(foreknownAt[j+1] - foreknownAt[j])
			free := mean[j] + anew*(mean[0]-mean[j]) + level + share*(most-mean[0])
			kv += steps * (beyond(held[g][j]+more[j]-free, f.cost.KV, 0.5/each) - beyond(held[g][j]-free, f.cost.KV, 0.5/each))
			life += steps
		}
		count := beyond(float64(len(list)+1-even), f.cost.Request/2, 0.5)
		if len(list) < widest {
			count *= 0.3
		}
		cost := kv + life*count
		if f.clock == 0 { // what fills the unit is spread evenly
			cost = 3*float64(max(0, len(list)+1-even))*f.cost.Request + f.cost.KV*max(0, held[g][0]+more[0]-mean[0]) + 1e-9*f.cost.KV*held[g][0]
		}
		if cost < least || cost == least && held[g][0] > held[best][0] {
			best, least = g, cost
		}
	}
	return best
}
