package search

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// Mend fills every slot, and gives the experts of a dead GPU a place.
func TestMend(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 5))
		task, slot := random(rng)
		task.Home = nil
		if task.Domain != nil {
			continue
		}
		g := rng.IntN(task.GPUs())
		for i := task.First[g]; i < task.First[g+1]; i++ {
			slot[i] = -1
		}
		var s State
		s.Set(task)
		s.Start(slot)
		s.Mend()
		check(t, &s)
		kept := slices.Clone(s.Slots())
		s.Settle(kept)
		s.Start(kept)
		check(t, &s)
	}
}

// What a GPU had and has no more is told of once each, in order.
func TestMissing(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 0))
	for _, experts := range []int{1, 64, 65, 200} {
		const gpus = 3
		task := &Task{Experts: experts, First: []int{0, 1, 2, 3}, Speed: []float64{1, 1, 1}, Share: []float64{1}, Load: make([]float64, experts), Prev: []int32{-1, -1, -1}}
		task.Had = make([]uint64, gpus*task.Words())
		var s State
		s.Set(task)
		s.Start([]int32{0, int32(experts - 1), -1})
		for g := range gpus {
			var want, got []int32
			for e := range experts {
				if rng.IntN(3) == 0 {
					task.Had[g*task.Words()+e>>6] |= 1 << (e & 63)
					if s.slot[g] != int32(e) {
						want = append(want, int32(e))
					}
				}
			}
			s.missing(int32(g), func(e int32) { got = append(got, e) })
			if !slices.Equal(got, want) {
				t.Fatalf("%d experts, GPU %d: %v, want %v", experts, g, got, want)
			}
		}
	}
}

// An empty slot goes to an expert that has yet to come to another domain, rather than to
// a larger one that is in two.
func TestFillEmptyBringsApart(t *testing.T) {
	task := &Task{Experts: 3, First: []int{0, 2, 4, 6}, Speed: []float64{1, 1, 1}, Share: []float64{1}, Load: []float64{100, 1, 1}, Domain: []int{0, 1, 1}}
	var s State
	s.Set(task)
	s.Start([]int32{0, 1, 0, 2, 2, -1})
	s.fillEmpty()
	if s.slot[5] != 1 {
		t.Errorf("the slot got expert %d, want 1, which is in one domain", s.slot[5])
	}
}

// Of an expert that has a replica too many the one on the fullest GPU goes, and what lacks
// takes its slot.
func TestRecount(t *testing.T) {
	for _, x := range []struct {
		hot        float64 // load of expert 1, which is on GPU 0
		from, want []int32
	}{
		{1.2, []int32{0, 1, 0, 2, 2, 3}, []int32{3, 1, 0, 2, 2, 3}},
		{.1, []int32{0, 1, 0, 2, 2, 3}, []int32{0, 1, 3, 2, 2, 3}},
	} {
		task := &Task{Experts: 4, First: []int{0, 2, 4, 6}, Speed: []float64{1, 1, 1}, Share: []float64{1}, Load: []float64{.6, x.hot, .6, .6}}
		var s State
		s.Set(task)
		s.Start(x.from)
		if !s.Recount([]int32{1, 0, 2, 3, 2, 3}) || !slices.Equal(s.Slots(), x.want) {
			t.Errorf("expert 1 of load %v: %v, not %v", x.hot, s.Slots(), x.want)
		}
	}
}
