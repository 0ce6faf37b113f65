package scratch

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
func (s *Planner) anneal(goal float64, stop func() bool) {
	if s.Least > 1 || s.U.Slots > annealSlots {
		return
	}
	p := s.annealing
	if p == nil {
		p = &annealing{task: search.Task{Experts: len(s.W), First: s.U.First, Speed: s.U.Speed, Share: []float64{1}}}
		s.annealing = p
	}
	p.task.Load = s.W
	p.s.Set(&p.task)
	s.annealAs(&p.s, goal, stop)
}

// annealAs is anneal under what a state's task asks for.
func (s *Planner) annealAs(p *search.State, goal float64, stop func() bool) {
	for draws := min(firstDraws, int((s.Best.Level-goal)*drawsAGap)) / s.thrift; draws <= lastDraws; draws *= 2 {
		was := s.Best.Level
		if was <= goal || stop() {
			return
		}
		p.Start(s.Best.Slot)
		s.cold.Anneal(p, draws, goal, stop)
		if l := p.Time(); l < was {
			s.Best.Level = l
			copy(s.Best.Slot, p.Slots())
			copy(s.Best.Count, p.Counts())
		}
		if was-s.Best.Level < goOn {
			return
		}
	}
}
