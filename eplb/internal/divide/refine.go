package divide

import (
	"slices"

	"github.com/moelb/moelb/eplb/internal/search"
)

// refinedWork is the most slots times slots and experts that refining is worth its time
// for.
const refinedWork = 1 << 10

// refine makes one change of the best plan after another, each that evens the split out
// the most. Without it 6 experts on 4 GPUs of 2 slots stand 3.5% higher.
func (p *Planner) refine(goal float64, stop func() bool) {
	s := p.s
	slots, experts := int32(len(s.Slot)), int32(len(s.Count))
	if slots*(slots+experts) > refinedWork {
		return
	}
	var at search.State
	at.Set(&search.Task{Experts: int(experts), First: s.U.First, Speed: s.U.Speed}) // of no window
	for was := 0.0; p.split != was && p.split > goal && !stop(); {
		was = p.split
		from := slices.Clone(s.Best.Slot)
		at.Start(from)
		for a := range slots {
			for b := range slots + experts {
				c := search.Change{A: a, B: b, E: -1}
				if b >= slots {
					c.B, c.E = -1, b-slots
				}
				if at.May(c) {
					at.Apply(c)
					p.offer(at.Slots(), at.Counts())
					at.Start(from)
				}
			}
		}
	}
}
