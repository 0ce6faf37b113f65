package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// scheduler builds the rounds of a schedule. Several layers share a round, each
// with a change of its own between load and emit.
type scheduler struct {
	gpus, experts, slots int
	limits
	first          []int
	gpuOf, node    []int  // of a slot, of a GPU
	live           []bool // the GPU's memory can be read
	leaving        []bool // it can, and ends empty
	someLeave      bool
	apart          bool // outside reads have a link of their own
	cur, fin       [][]int32
	left           []int // slots of each layer that differ
	begun          []bool
	least          []int // rounds that a layer takes at least
	expertsOf      []int // of each layer
	lostIn, onlyIn []int // experts of a layer that are nowhere, or on leaving GPUs alone
	anyLost        bool  // in some layer, at the round's start
	anyLeaving     bool  // a leaving GPU still holds something

	// The round at hand.
	moves  []placement.Move
	staged []int // in place: indices of moves
	links

	*change // of the layer at hand
	loaded  []*change
	idle    []*change // memory to use again
	match   matching
	chain   chainSearch
	local   localCopies
	sorter  moveOrder
	cnt     []int32
	held    []int32 // the last GPU seen to hold each expert, counted from 1
	keys    []int32
	saved   links // before a layer was tried
	undo    point // before a step that staging may not allow
}

// change is a layer's part of a round: cur is what slots hold at the round's
// start, plan what they hold at its end.
type change struct {
	layer  int
	plan   []int32
	src    []int32 // where a slot's new expert is read; -1 = outside
	fresh  []bool  // the slot receives its expert from another GPU or from outside
	copies []int32 // copies of each expert at the round's end
	hold   buckets // slots that hold each expert at the round's start
	// Experts that GPUs need, and the slots where GPUs can put them: empty, or
	// holding an expert that the GPU does not keep.
	req   []request
	reqOf buckets // requests of each GPU
	reqBy buckets // and for each expert
	spare buckets // spare slots of each GPU
	used  []bool  // the spare slot has been given away
	// In place: the slots, one of each cycle, that are staged.
	staging []int32
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

func newScheduler(f *frame, t *placement.Topology, o *Options) *scheduler {
	layers, slots, gpus, experts := len(f.prev), sum(f.slots), len(f.slots), f.experts
	s := &scheduler{
		gpus: gpus, experts: experts, slots: slots, limits: newLimits(o), apart: o.Outside > 0,
		first: make([]int, gpus+1), gpuOf: make([]int, slots), node: make([]int, gpus), live: make([]bool, gpus), leaving: f.leaving,
		someLeave: slices.Contains(f.leaving, true),
		cur:       make([][]int32, layers), fin: make([][]int32, layers), left: make([]int, layers), begun: make([]bool, layers),
		expertsOf: f.expertsOf, least: make([]int, layers), lostIn: make([]int, layers), onlyIn: make([]int, layers),
		links: newLinks(gpus), saved: newLinks(gpus),
		cnt: make([]int32, experts), held: make([]int32, experts),
	}
	s.match.init(gpus, experts)
	s.chain.init(gpus)
	s.local.init(slots, experts)
	s.sorter.init(slots)
	for g := range gpus {
		s.first[g+1] = s.first[g] + f.slots[g]
		s.node[g], s.live[g] = t.Node(g), !f.dead[g]
		for i := s.first[g]; i < s.first[g+1]; i++ {
			s.gpuOf[i] = g
		}
	}
	for l := range layers {
		s.cur[l], s.fin[l] = make([]int32, slots), make([]int32, slots)
		for i := range slots {
			s.cur[l][i], s.fin[l][i] = int32(f.prev[l][i]), int32(f.next[l][i])
			if g := s.gpuOf[i]; !s.live[g] {
				s.cur[l][i], s.fin[l][i] = -1, -1
			} else if s.leaving[g] {
				s.fin[l][i] = -1
			}
			if s.cur[l][i] != s.fin[l][i] {
				s.left[l]++
			}
		}
		s.survey(l)
	}
	return s
}

// survey counts what a layer has nowhere, or on leaving GPUs alone.
func (s *scheduler) survey(l int) {
	clear(s.cnt)
	for i, e := range s.cur[l] {
		if e < 0 {
			continue
		}
		if s.leaving[s.gpuOf[i]] {
			s.cnt[e] |= 1
		} else {
			s.cnt[e] |= 2
		}
	}
	s.lostIn[l], s.onlyIn[l] = 0, 0
	for _, c := range s.cnt[:s.expertsOf[l]] {
		switch c {
		case 0:
			s.lostIn[l]++
		case 1:
			s.onlyIn[l]++
		}
	}
	clear(s.cnt)
}

// emptyDead makes the moves that empty the slots out of service.
func (s *scheduler) emptyDead(f *frame) {
	for l, row := range f.prev {
		for i, e := range row {
			if e >= 0 && !s.live[s.gpuOf[i]] {
				s.moves = append(s.moves, placement.Move{Layer: l, Expert: -1, From: -1, To: i})
			}
		}
	}
}

// newChange is memory for a layer's change.
func (s *scheduler) newChange() *change {
	if n := len(s.idle); n > 0 {
		c := s.idle[n-1]
		s.idle = s.idle[:n-1]
		return c
	}
	return &change{
		plan: make([]int32, s.slots), src: make([]int32, s.slots), fresh: make([]bool, s.slots),
		copies: make([]int32, s.experts), used: make([]bool, s.slots),
		hold: buckets{first: make([]int32, s.experts+1)}, reqBy: buckets{first: make([]int32, s.experts+1)},
		reqOf: buckets{first: make([]int32, s.gpus+1)}, spare: buckets{first: make([]int32, s.gpus+1)},
	}
}

// load makes l the layer at hand, as it is at the round's start.
func (s *scheduler) load(l int) {
	if s.change == nil {
		s.change = s.newChange()
	}
	cur, fin := s.cur[l], s.fin[l]
	s.layer = l
	copy(s.plan, cur)
	clear(s.fresh)
	clear(s.used)
	s.staging = s.staging[:0]
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
		s.compare(g, cur, fin)
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

// compare lists what GPU g lacks, and marks its spare slots in s.keys.
func (s *scheduler) compare(g int, cur, fin []int32) {
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

// urgent says how soon an expert must be copied: 2 = it is nowhere, 1 = it is on
// leaving GPUs alone. Nobody has copied it in this round yet.
func (s *scheduler) urgent(e int32) int {
	hold := s.hold.of(e)
	if int(s.copies[e]) > len(hold) || slices.ContainsFunc(hold, func(slot int32) bool { return !s.leaving[s.gpuOf[slot]] }) {
		return 0
	}
	if len(hold) == 0 {
		return 2
	}
	return 1
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

// deliver has request r served from a slot of another GPU, -1 = from outside,
// into a vacated slot. The expert's copies are counted by the caller.
func (s *scheduler) deliver(r, from, to int32) {
	q := &s.req[r]
	q.done = true
	if from < 0 {
		s.takeOutside(int(q.gpu))
	} else {
		s.book(s.gpuOf[from], int(q.gpu), 1)
	}
	s.plan[to], s.src[to], s.fresh[to] = q.expert, from, true
}

// source picks the slot that request r is read from: on its node, else on the
// least busy GPU that holds the expert at the round's start and may still send.
// Outside where no GPU holds it. ok is false where all holders are busy.
func (s *scheduler) source(r int32) (slot int32, ok bool) {
	q := &s.req[r]
	hold := s.hold.of(q.expert)
	if len(hold) == 0 {
		// One load a round: others copy it later.
		return -1, s.copies[q.expert] == 0 && s.openOutside(int(q.gpu))
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
		near := s.gpuOf[slot]
		if s.node[near] != s.node[g] {
			continue
		}
		s.book(h, g, -1)
		if s.open(int32(near), int32(g)) {
			s.book(near, g, 1)
			s.src[i] = slot
			return true
		}
		s.book(h, g, 1)
	}
	return false
}

// emit ends the layer's part of the round.
func (s *scheduler) emit() {
	cur, fin := s.cur[s.layer], s.fin[s.layer]
	start := len(s.moves)
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
	}
	if len(s.moves) > start {
		s.begun[s.layer] = true
		if s.inPlace {
			s.putInOrder(start)
		}
	}
	copy(cur, s.plan)
	if s.lostIn[s.layer]+s.onlyIn[s.layer] > 0 {
		s.survey(s.layer)
	}
}
