package eplb

import (
	"github.com/moelb/moelb/eplb/internal/search"
)

// polisher improves plans from scratch, of one window, by the search's own steps.
type polisher struct {
	s    search.State
	task search.Task
}

// polish lowers s.best by exchanges and changes of counts from its fullest GPUs,
// under norms nearer and nearer to the maximum, until it is within goal. Packing
// chooses counts first and places them then; this changes both at once.
func (s *solver) polish(goal float64, stop func() bool) {
	if s.best.level <= goal || s.least > 1 || s.u.slots > polishSlots {
		return
	}
	p := s.polisher
	if p == nil {
		p = &polisher{task: search.Task{Experts: len(s.w), First: s.u.first, Speed: s.u.speed, Share: []float64{1}}}
		s.polisher = p
	}
	p.task.Load = s.w
	p.s.Set(&p.task)
	for _, twice := range polishNorms {
		if s.best.level <= goal || stop() || p.s.Work() > polishWork {
			return
		}
		p.s.Start(s.best.slot)
		p.s.Settled(twice, goal, func() bool { return stop() || p.s.Work() > polishWork })
		p.s.Refresh()
		if l := p.s.Time(); l < s.best.level {
			s.best.level = l
			copy(s.best.slot, p.s.Slots())
			copy(s.best.count, p.s.Counts())
		}
	}
}

// polishNorms are the powers of the norms, as how often 2 is squared.
var polishNorms = [...]int{6, 7}

// polishWork bounds the changes looked at.
const polishWork = 1 << 22

// polishSlots is the most slots of a layer that is polished.
const polishSlots = 1 << 10
