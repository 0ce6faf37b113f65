package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// scheduler builds the rounds of a schedule, each layer by layer. A layer's
// part of a round is worked out between load and emit: cur is what slots hold
// at the round's start, plan what they hold at its end.
type scheduler struct {
	gpus, experts, slots int
	perGPU, rdmaPerGPU   int32
	first                []int
	gpuOf, node          []int // of a slot, of a GPU
	live                 []bool

	cur, fin [][]int32 // [layers][slots]; slots out of service hold -1
	left     []int     // slots of each layer that differ

	// The round at hand.
	moves              []placement.Move
	sendLeft, recvLeft []int32 // copies each GPU may still send, receive
	farSend, farRecv   []int32 // of these, over RDMA

	// The layer at hand.
	layer  int
	plan   []int32
	src    []int32 // where a slot's new expert is read; -1 = outside the unit
	fresh  []bool  // the slot receives its expert in this round
	copies []int32 // live copies of each expert at the round's end
	hold   buckets // slots that hold each expert at the round's start
	// Experts that GPUs need, and the slots where GPUs can put them: empty, or
	// holding an expert that the GPU does not keep.
	req   []request
	reqOf buckets // requests of each GPU
	reqBy buckets // and for each expert
	spare buckets // spare slots of each GPU
	used  []bool  // the spare slot has been given away
	cnt   []int32
	held  []int32 // the last GPU seen to hold each expert, counted from 1
	keys  []int32

	match matching
	chain chainSearch
	local localCopies
}

// request is an expert that a GPU lacks.
type request struct {
	gpu, expert int32
	want        int32 // a slot that is to hold it
	done        bool
}

// buckets are lists of ints, one after the other.
type buckets struct{ first, item []int32 }

func (b *buckets) of(i int32) []int32 { return b.item[b.first[i]:b.first[i+1]] }

// fill sorts the items 0..len(keys)-1 into buckets; key -1 = leave out.
func (b *buckets) fill(keys []int32) {
	clear(b.first)
	for _, k := range keys {
		b.first[k+1]++
	}
	b.first[0] = 0
	for i := 1; i < len(b.first); i++ {
		b.first[i] += b.first[i-1]
	}
	total := b.first[len(b.first)-1]
	b.item = slices.Grow(b.item[:0], len(keys))[:len(keys)]
	for i := len(keys) - 1; i >= 0; i-- { // backwards, so that the lists rise
		if k := keys[i]; k >= 0 {
			b.first[k+1]--
			b.item[b.first[k+1]] = int32(i)
		}
	}
	copy(b.first, b.first[1:]) // where bucket k starts stood one further on
	b.first[len(b.first)-1] = total
}

func newScheduler(prev, next *placement.Placement, t *placement.Topology, o *Options) *scheduler {
	layers, slots, gpus, experts := len(prev.PhysicalToLogical), prev.Slots(), prev.GPUs, prev.Experts
	s := &scheduler{
		gpus: gpus, experts: experts, slots: slots, perGPU: int32(o.PerGPU), rdmaPerGPU: int32(o.RDMAPerGPU),
		first: prev.FirstSlots(), gpuOf: make([]int, slots), node: make([]int, gpus), live: make([]bool, gpus),
		cur: make([][]int32, layers), fin: make([][]int32, layers), left: make([]int, layers),
		sendLeft: make([]int32, gpus), recvLeft: make([]int32, gpus),
		farSend: make([]int32, gpus), farRecv: make([]int32, gpus),
		plan: make([]int32, slots), src: make([]int32, slots), fresh: make([]bool, slots),
		copies: make([]int32, experts), used: make([]bool, slots), cnt: make([]int32, experts), held: make([]int32, experts),
		hold: buckets{first: make([]int32, experts+1)}, reqBy: buckets{first: make([]int32, experts+1)},
		reqOf: buckets{first: make([]int32, gpus+1)}, spare: buckets{first: make([]int32, gpus+1)},
	}
	s.match.init(gpus, experts)
	s.chain.init(gpus)
	s.local.init(slots, experts)
	for g := range gpus {
		s.node[g], s.live[g] = t.Node(g), t.SpeedOf(g) > 0
		for i := s.first[g]; i < s.first[g+1]; i++ {
			s.gpuOf[i] = g
		}
	}
	for l := range layers {
		s.cur[l], s.fin[l] = make([]int32, slots), make([]int32, slots)
		for i := range slots {
			s.cur[l][i], s.fin[l][i] = int32(prev.PhysicalToLogical[l][i]), int32(next.PhysicalToLogical[l][i])
			if !s.live[s.gpuOf[i]] {
				s.cur[l][i], s.fin[l][i] = -1, -1
			}
			if s.cur[l][i] != s.fin[l][i] {
				s.left[l]++
			}
		}
	}
	return s
}

// emptyDead makes the moves that empty the slots out of service.
func (s *scheduler) emptyDead(prev *placement.Placement) {
	for l, row := range prev.PhysicalToLogical {
		for i, e := range row {
			if e >= 0 && !s.live[s.gpuOf[i]] {
				s.moves = append(s.moves, placement.Move{Layer: l, Expert: -1, From: -1, To: i})
			}
		}
	}
}

func (s *scheduler) startRound() {
	for g := range s.gpus {
		s.sendLeft[g], s.recvLeft[g] = s.perGPU, s.perGPU
		s.farSend[g], s.farRecv[g] = s.rdmaPerGPU, s.rdmaPerGPU
	}
}

// takeMoves returns the moves of the round that ends.
func (s *scheduler) takeMoves() []placement.Move {
	m := slices.Clone(s.moves)
	s.moves = s.moves[:0]
	return m
}

// load makes l the layer at hand, as it is at the round's start.
func (s *scheduler) load(l int) {
	cur, fin := s.cur[l], s.fin[l]
	s.layer = l
	copy(s.plan, cur)
	clear(s.fresh)
	clear(s.used)
	clear(s.copies)
	clear(s.held)
	for _, e := range cur {
		if e >= 0 {
			s.copies[e]++
		}
	}
	s.hold.fill(cur)
	s.req = s.req[:0]
	s.keys = slices.Grow(s.keys[:0], s.slots)[:s.slots]
	for i := range s.keys {
		s.keys[i] = -1
	}
	for g := range s.gpus {
		a, b := s.first[g], s.first[g+1]
		// cnt: copies the GPU is to have beyond those it has.
		for i := a; i < b; i++ {
			if cur[i] >= 0 {
				s.cnt[cur[i]]--
				s.held[cur[i]] = int32(g) + 1
			}
			if fin[i] >= 0 {
				s.cnt[fin[i]]++
			}
		}
		for i := a; i < b; i++ {
			switch x := cur[i]; {
			case x == fin[i]:
			case x < 0:
				s.keys[i] = int32(g)
			case s.cnt[x] < 0:
				s.keys[i] = int32(g)
				s.cnt[x]++
			}
		}
		for i := a; i < b; i++ {
			// A GPU that has one copy and is to have two makes the other itself.
			if e := fin[i]; e >= 0 && s.cnt[e] > 0 && cur[i] != e {
				s.cnt[e] = 0
				if s.held[e] != int32(g)+1 {
					s.req = append(s.req, request{gpu: int32(g), expert: e, want: int32(i)})
				}
			}
		}
		for i := a; i < b; i++ {
			if cur[i] >= 0 {
				s.cnt[cur[i]] = 0
			}
			if fin[i] >= 0 {
				s.cnt[fin[i]] = 0
			}
		}
	}
	s.spare.fill(s.keys)
	s.keys = s.keys[:0]
	for _, q := range s.req {
		s.keys = append(s.keys, q.gpu)
	}
	s.reqOf.fill(s.keys)
	for i, q := range s.req {
		s.keys[i] = q.expert
	}
	s.reqBy.fill(s.keys)
}

// safe says whether a spare slot can be overwritten: it is empty, or its expert
// has another copy at the round's end.
func (s *scheduler) safe(slot int32) bool {
	return !s.used[slot] && (s.plan[slot] < 0 || s.copies[s.plan[slot]] > 1)
}

// room picks a spare slot of GPU g for an expert whose place is want: want
// itself, else prefer (-1 = none), else an empty one, else the one whose expert
// has the most copies. -1 = none is safe.
func (s *scheduler) room(g, want, prefer int32) int32 {
	best, score := int32(-1), int32(0)
	for _, slot := range s.spare.of(g) {
		if !s.safe(slot) {
			continue
		}
		const most = 1 << 30
		n := int32(most - 2)
		switch x := s.plan[slot]; {
		case slot == want:
			n = most
		case slot == prefer:
			n = most - 1
		case x >= 0:
			n = s.copies[x]
		}
		if n > score {
			best, score = slot, n
		}
	}
	return best
}

// hasRoom says whether a spare slot of GPU g is safe.
func (s *scheduler) hasRoom(g int32) bool {
	return slices.ContainsFunc(s.spare.of(g), s.safe)
}

// vacate gives away a spare slot.
func (s *scheduler) vacate(slot int32) {
	s.used[slot] = true
	if x := s.plan[slot]; x >= 0 {
		s.copies[x]--
	}
}

// open says whether GPU h can still send a copy to GPU g in this round.
func (s *scheduler) open(h, g int32) bool {
	return s.sendLeft[h] > 0 && s.recvLeft[g] > 0 && (s.node[h] == s.node[g] || s.farSend[h] > 0 && s.farRecv[g] > 0)
}

// deliver has request r served from a slot of another GPU, -1 = from outside,
// into a vacated slot. The expert's copies are counted by the caller.
func (s *scheduler) deliver(r, from, to int32) {
	q := &s.req[r]
	q.done = true
	s.recvLeft[q.gpu]--
	if from < 0 {
		s.farRecv[q.gpu]--
	} else {
		h := s.gpuOf[from]
		s.sendLeft[h]--
		if s.node[h] != s.node[q.gpu] {
			s.farSend[h]--
			s.farRecv[q.gpu]--
		}
	}
	s.plan[to], s.src[to], s.fresh[to] = q.expert, from, true
}

// source picks the slot that request r is read from: on its node, else on the
// least busy GPU that holds the expert at the round's start and may still send.
// Outside the unit where no GPU holds it. ok is false where all holders are busy.
func (s *scheduler) source(r int32) (slot int32, ok bool) {
	q := &s.req[r]
	hold := s.hold.of(q.expert)
	if len(hold) == 0 {
		// One load a round: others copy it later.
		return -1, s.copies[q.expert] == 0 && s.recvLeft[q.gpu] > 0 && s.farRecv[q.gpu] > 0
	}
	best, bestLeft, bestNear := int32(-1), int32(0), false
	for _, h := range hold {
		g := s.gpuOf[h]
		left, near := s.sendLeft[g], s.node[g] == s.node[q.gpu]
		if s.open(int32(g), q.gpu) && (best < 0 || near && !bestNear || near == bestNear && left > bestLeft) {
			best, bestLeft, bestNear = h, left, near
		}
	}
	return best, best >= 0
}

// nearer reads what comes over RDMA on the same node after all where a holder
// there has a send to spare: it was passed over for having more to send later.
func (s *scheduler) nearer() {
	for again := true; again; { // a send that this frees may serve another
		again = false
		for i, fresh := range s.fresh {
			if fresh && s.src[i] >= 0 && s.moveNearer(i) {
				again = true
			}
		}
	}
}

// moveNearer has what slot i receives over RDMA read on its node, if it can be.
func (s *scheduler) moveNearer(i int) bool {
	g, h := s.gpuOf[i], s.gpuOf[s.src[i]]
	if s.node[g] == s.node[h] {
		return false
	}
	for _, slot := range s.hold.of(s.plan[i]) {
		if near := s.gpuOf[slot]; s.node[near] == s.node[g] && s.sendLeft[near] > 0 {
			s.sendLeft[near]--
			s.sendLeft[h]++
			s.farSend[h]++
			s.farRecv[g]++
			s.src[i] = slot
			return true
		}
	}
	return false
}

// emit ends the layer's part of the round.
func (s *scheduler) emit() {
	cur, fin := s.cur[s.layer], s.fin[s.layer]
	for i, e := range s.plan {
		if e == cur[i] {
			continue
		}
		m := placement.Move{Layer: s.layer, Expert: int(e), From: -1, To: i}
		if e >= 0 {
			m.From = int(s.src[i])
		}
		s.moves = append(s.moves, m)
		switch {
		case e == fin[i]:
			s.left[s.layer]--
		case cur[i] == fin[i]:
			s.left[s.layer]++
		}
		cur[i] = e
	}
}

// round makes one round of the first layers of order that are unfinished, at
// most atOnce of them.
func (s *scheduler) round(order []int, atOnce int) {
	for _, l := range order {
		if s.left[l] == 0 {
			continue
		}
		if atOnce--; atOnce < 0 || !s.idle() {
			break
		}
		s.load(l)
		for range s.perGPU {
			if !s.matchPass() {
				break
			}
		}
		s.chainPass(false)
		s.nearer()
		s.localPass()
		s.emit()
	}
}

// idle says whether a GPU can still send and one can still receive.
func (s *scheduler) idle() bool {
	return slices.Max(s.sendLeft) > 0 && slices.Max(s.recvLeft) > 0
}

// lostLayers says whether any layer has an expert that no GPU in service holds.
func (s *scheduler) lostLayers(order []int) bool {
	return slices.ContainsFunc(order, s.lost)
}

// lost says whether a layer has an expert that no GPU in service holds.
func (s *scheduler) lost(l int) bool {
	clear(s.copies)
	for _, e := range s.cur[l] {
		if e >= 0 {
			s.copies[e]++
		}
	}
	return slices.Index(s.copies, 0) >= 0
}

// restoreRound brings lost experts of all layers back, as many as links allow.
// Where none has room, the first such layer makes an ordinary round.
func (s *scheduler) restoreRound(order []int) {
	n := len(s.moves)
	for _, l := range order {
		if s.lost(l) {
			s.load(l)
			s.chainPass(true)
			s.nearer()
			s.emit()
		}
	}
	if len(s.moves) > n {
		return
	}
	for i, l := range order {
		if s.lost(l) {
			s.round(order[i:], 1)
			return
		}
	}
}
