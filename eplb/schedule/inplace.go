package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// In place, a copy is written straight into its slot, so it must run after the
// copies that read that slot. Every slot is written once a round, so a copy waits
// for the readers of its slot, and these wait for the readers of theirs: chains,
// and cycles. Of each cycle one copy is staged: read first, written last.

// moveOrder sorts the moves of a layer.
type moveOrder struct {
	writer  []int32 // move that writes each slot, -1 = none
	readers []int32 // of the slot that each move writes, not yet run
	done    []bool
	list    []int // the moves in order
	staged  []bool
	moves   []placement.Move
	left    []int32 // what each GPU can still stage
}

func (o *moveOrder) init(slots int) {
	o.writer = slices.Repeat([]int32{-1}, slots)
}

// sort orders moves so that each can run, and stages one of each cycle: the one
// whose slot is among those given, else that of the GPU with most room left.
// false = a cycle cannot be staged.
func (o *moveOrder) sort(moves []placement.Move, gpuOf []int, staging []int32) bool {
	n := len(moves)
	o.readers, o.done, o.staged = slices.Grow(o.readers[:0], n)[:n], slices.Grow(o.done[:0], n)[:n], slices.Grow(o.staged[:0], n)[:n]
	clear(o.readers)
	clear(o.done)
	clear(o.staged)
	o.list = o.list[:0]
	for i, m := range moves {
		o.writer[m.To] = int32(i)
	}
	defer func() {
		for _, m := range moves {
			o.writer[m.To] = -1
		}
	}()
	for _, m := range moves {
		if w := o.next(m); w >= 0 {
			o.readers[w]++
		}
	}
	for i := range moves {
		o.run(moves, int32(i))
	}
	for i := range moves {
		if o.done[i] {
			continue
		}
		best := int32(-1)
		for j := int32(i); ; {
			g := gpuOf[moves[j].To]
			if slices.Contains(staging, int32(moves[j].To)) {
				best = j
				break
			}
			if o.left[g] > 0 && (best < 0 || o.left[g] > o.left[gpuOf[moves[best].To]]) {
				best = j
			}
			if j = o.next(moves[j]); j == int32(i) {
				break
			}
		}
		if best < 0 {
			return false
		}
		o.left[gpuOf[moves[best].To]]--
		o.staged[best] = true
		o.readers[best] = 0
		o.run(moves, best)
	}
	return true
}

// next is the move that writes the slot which m reads, -1 = none.
func (o *moveOrder) next(m placement.Move) int32 {
	if m.From < 0 || m.From == m.To {
		return -1
	}
	return o.writer[m.From]
}

// run lists move i if nobody reads its slot any more, and then what waited for it.
func (o *moveOrder) run(moves []placement.Move, i int32) {
	for i >= 0 && !o.done[i] && o.readers[i] == 0 {
		o.done[i] = true
		o.list = append(o.list, int(i))
		if i = o.next(moves[i]); i >= 0 {
			o.readers[i]--
		}
	}
}

// putInOrder sorts the moves of the layer at hand, those from start on.
func (s *scheduler) putInOrder(start int) {
	o := &s.sorter
	moves := s.moves[start:]
	o.left = append(o.left[:0], s.stageLeft...)
	if !o.sort(moves, s.gpuOf, s.staging) {
		return // stageCycles has seen to the room
	}
	o.moves = append(o.moves[:0], moves...)
	for k, i := range o.list {
		moves[k] = o.moves[i]
		if o.staged[i] {
			s.staged = append(s.staged, start+k)
		}
	}
}

// watched says whether what is staged in place must be looked at step by step.
func (s *scheduler) watched() bool { return s.inPlace && s.stage < noLimit }

// plannedMoves lists the moves that the layer at hand would make.
func (s *scheduler) plannedMoves() []placement.Move {
	o := &s.sorter
	o.moves = o.moves[:0]
	for i, e := range s.plan {
		if e == s.cur[s.layer][i] {
			continue
		}
		m := placement.Move{Layer: s.layer, Expert: int(e), From: -1, To: i}
		if e >= 0 {
			m.From = int(s.src[i])
		}
		o.moves = append(o.moves, m)
	}
	return o.moves
}

// fits says whether the cycles of the layer at hand can be staged.
func (s *scheduler) fits() bool {
	s.sorter.left = append(s.sorter.left[:0], s.stageLeft...)
	return s.sorter.sort(s.plannedMoves(), s.gpuOf, nil)
}

// unstage gives back what the layer at hand was to stage, stageCycles takes it.
func (s *scheduler) unstage() {
	for _, slot := range s.staging {
		s.stageLeft[s.gpuOf[slot]]++
	}
	s.staging = s.staging[:0]
}

func (s *scheduler) stageCycles() {
	moves := s.plannedMoves()
	s.sorter.left = append(s.sorter.left[:0], s.stageLeft...)
	if !s.sorter.sort(moves, s.gpuOf, nil) {
		return // not where each step fits
	}
	for i, staged := range s.sorter.staged {
		if staged {
			s.staging = append(s.staging, int32(moves[i].To))
			s.stageLeft[s.gpuOf[moves[i].To]]--
		}
	}
}

// point is what a step may have to go back to.
type point struct {
	links links
	c     change
}

func (s *scheduler) mark() {
	p, c := &s.undo, s.change
	if p.links.to == nil {
		p.links = newLinks(s.gpus)
	}
	p.links.set(&s.links)
	p.c.plan, p.c.src = append(p.c.plan[:0], c.plan...), append(p.c.src[:0], c.src...)
	p.c.fresh, p.c.used = append(p.c.fresh[:0], c.fresh...), append(p.c.used[:0], c.used...)
	p.c.copies, p.c.req = append(p.c.copies[:0], c.copies...), append(p.c.req[:0], c.req...)
}

func (s *scheduler) goBack() {
	p, c := &s.undo, s.change
	s.links.set(&p.links)
	copy(c.plan, p.c.plan)
	copy(c.src, p.c.src)
	copy(c.fresh, p.c.fresh)
	copy(c.used, p.c.used)
	copy(c.copies, p.c.copies)
	copy(c.req, p.c.req)
}

// serveWithin is serve where cycles may not fit: then step by step.
func (s *scheduler) serveWithin() {
	s.unstage()
	s.mark()
	s.serve()
	if s.fits() {
		s.stageCycles()
		return
	}
	s.goBack()
	s.chainWithin(0)
	s.unstage()
	for g := range s.gpus {
		if !s.live[g] {
			continue
		}
		s.mark()
		if s.settle(int32(g)); !s.fits() {
			s.goBack()
			if s.reorderSome(int32(g)); !s.fits() {
				s.goBack()
			}
		}
	}
	s.stageCycles()
}

// chainWithin is chainPass, each step only if its cycles can be staged.
func (s *scheduler) chainWithin(urgency int) {
	s.unstage()
	for r := range s.req {
		q := &s.req[r]
		for !q.done && s.recvLeft[q.gpu] > 0 && (urgency == 0 || s.urgent(q.expert) == urgency) {
			s.mark()
			if !s.serveRequest(int32(r)) {
				break
			}
			if !s.fits() {
				s.goBack()
				break
			}
		}
	}
	s.stageCycles()
}
