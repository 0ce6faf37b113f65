package pairs

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/pack"
)

// Search searches for counts on a few slots a GPU; its memory is used again for
// every layer.
type Search struct {
	s      *pack.Packer
	counts counts
	least  float64 // no replica is smaller
}

func New(s *pack.Packer) *Search {
	n := len(s.W)
	return &Search{s: s, counts: counts{count: make([]int32, n), below: make([]int32, n)}}
}

// TwoEach says whether every GPU has two slots and the same speed. For given
// counts the best placement is then known: the largest replica goes with the
// smallest, the second largest with the second smallest, and so on (a fold), which is
// what packing by size makes. What is left to search is the counts.
func TwoEach(s *pack.Packer) bool {
	return s.U.Alike() && s.U.Slots == 2*len(s.U.Gpu)
}

const (
	// foldWork is what the search of counts for a fold may do for one level, in experts
	// looked at. The hardest of 256 experts seen took a tenth of it.
	foldWork = 1 << 22
	// sumWork is what SearchSums may do in a layer: four times what 256 experts take.
	sumWork = 1 << 23
	// sumLevels is how many levels it tries.
	sumLevels = 7
)

// SearchFold fills s.best for two slots a GPU and returns a proved bound, which
// the plan meets unless two replicas of one expert had to be parted, the search
// ran out of work, or it was stopped. Cost: 0.05 ms a layer of 256 experts.
func (f *Search) SearchFold(bound float64, stop func() bool) float64 {
	s := f.s
	if !s.CountBy(-1, bound) {
		return bound
	}
	s.Pack()
	s.Keep()
	p := f.ready()
	for ask := true; bound < s.Best.Level*(1-pack.ProvedTolerance) && !stop(); {
		// Adams' counts are often the best, so that is asked first; otherwise
		// halve the range until asking again is worth it.
		level := s.Best.Level
		T := level * (1 - pack.ProvedTolerance/2)
		if !ask {
			T = bound + (level-bound)/2
		}
		found, proved := p.reach(T, f.least, foldWork)
		switch {
		case found: // smaller ones make more partners for the big ones
			if f.take(false, math.Inf(1)); s.Best.Level >= level {
				return bound
			}
		case proved:
			bound = max(bound, T)
		default:
			return bound
		}
		ask = s.Best.Level < bound*(1+1e-4)
	}
	return bound
}

// SearchSums tries counts for levels between bound and the best, and keeps what is best.
// Without it 256 experts on 96 GPUs of 3 slots stand .4% higher, on 72 of 4 .3% (z .8,
// 1.2); others hardly.
func (f *Search) SearchSums(bound, goal float64, stop func() bool) {
	s, p := f.s, f.ready()
	lo, hi := bound, s.Best.Level
	p.work = sumWork
	for range sumLevels {
		if s.Best.Level <= goal || hi <= lo*(1+2e-4) || p.work <= 0 || stop() {
			return
		}
		if T := lo + (hi-lo)/2; p.giveBySums(T, f.least, int32(s.U.Room(0)-1)) {
			f.take(true, goal) // as Adams would
			hi = T
		} else {
			lo = T
		}
	}
}

// ready gives the counts the layer at hand; no replica is smaller than the coldest expert
// cut into all spare copies.
func (f *Search) ready() *counts {
	s, p := f.s, &f.counts
	p.w, p.order, p.gpus, p.slots = s.W, s.Order, len(s.U.Gpu), s.U.Slots
	f.least = s.W[s.Order[len(s.Order)-1]] / float64(s.U.Slots-len(s.W)+1)
	return p
}

// take packs the counts that were found, with what copies are left, towards a goal.
func (f *Search) take(largest bool, goal float64) {
	s := f.s
	f.counts.giveRest(largest)
	copy(s.Count, f.counts.count)
	s.Pack()
	s.Swap(goal)
	s.Keep()
}
