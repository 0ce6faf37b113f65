package eplb

import "github.com/moelb/moelb/eplb/internal/search"

// annealing improves plans from scratch, of one window.
type annealing struct {
	s    search.State
	task search.Task
}

const (
	// annealSlots is the most slots of a layer that is annealed.
	annealSlots = 1 << 12
	// drawsAGap is how many changes are drawn for what a plan is above its goal, up
	// to firstDraws: what is near its bound is not worth much more time.
	drawsAGap  = 8e6
	firstDraws = 1 << 12
	// goOn is the gain that makes another round, of twice as many, worth its time, up
	// to lastDraws.
	goOn      = 2e-5
	lastDraws = 1 << 14
)

// anneal lowers s.best until it is within goal, as long as that pays. Without it
// 128 GPUs of 3 slots stand .1 to .5% higher, 96 of 3 .05%.
func (s *scratch) anneal(goal float64, stop func() bool) {
	if s.least > 1 || s.u.slots > annealSlots {
		return
	}
	p := s.annealing
	if p == nil {
		p = &annealing{task: search.Task{Experts: len(s.w), First: s.u.first, Speed: s.u.speed, Share: []float64{1}}}
		s.annealing = p
	}
	p.task.Load = s.w
	p.s.Set(&p.task)
	s.annealAs(&p.s, goal, stop)
}

// annealAs is anneal under what a state's task asks for.
func (s *scratch) annealAs(p *search.State, goal float64, stop func() bool) {
	for draws := min(firstDraws, int((s.best.level-goal)*drawsAGap)) / s.thrift; draws <= lastDraws; draws *= 2 {
		was := s.best.level
		if was <= goal || stop() {
			return
		}
		p.Start(s.best.slot)
		s.cold.Anneal(p, draws, goal, stop)
		if l := p.Time(); l < was {
			s.best.level = l
			copy(s.best.slot, p.Slots())
			copy(s.best.count, p.Counts())
		}
		if was-s.best.level < goOn {
			return
		}
	}
}
