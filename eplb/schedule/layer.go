package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// scheduler builds the rounds of a schedule. Several layers share a round, each
// with a part of its own from load to emit. Whatever a round does is a put into
// some slot: it keeps count of copies, links and memory, and can be taken back.
type scheduler struct {
	*frame
	limits
	first    []int32 // slot of each GPU
	node     []int32 // of a GPU
	cur, fin [][]int32
	left     []int  // slots of each layer that differ
	begun    []bool // the layer is under way
	urgent   []bool // it has experts that are on no GPU which stays
	copies   []int  // requests of each layer at the start
	least    []int  // rounds that it takes at least

	links         // of the round at hand
	moves         []placement.Move
	stagedMoves   []int   // in place: indices of moves
	parts         []*part // of each layer, nil = untouched
	unused        []*part // memory
	*part                 // of the layer at hand
	match         matching
	chain         chain
	stamp, wanted []int32 // of each expert
	keys          []int32
}

// part is what a round does in a layer.
type part struct {
	layer int
	plan  []int32 // what slots hold at the round's end
	src   []int32 // where a slot's new expert is read; outsideRead, or untouched
	live  []int32 // copies of each expert at the round's end
	kept  []bool  // the slot's expert is one that its GPU is to have
	hold  buckets // slots that hold each expert at the round's start
	// Experts that GPUs lack, in the order of GPUs: of each, and for each expert.
	req      []request
	reqFirst []int32
	reqBy    buckets
	stagers  []int32 // slots that are staged, in place one of each cycle
	trail    []written
}

const (
	outsideRead = -1
	untouched   = -2
)

// request is an expert that a GPU lacks.
type request struct {
	gpu, expert int32
	want        int32 // a slot that is to hold it
	done        bool
}

// written is a step: a slot gets an expert from another slot, or n = -1, it does not
// after all.
type written struct {
	slot, expert, from int32
	request            int32 // that it serves, -1 = none
	stager             int32 // slot that is staged for it, -1 = none
	n                  int32
}

func newScheduler(f *frame, t *placement.Topology, o *Options) *scheduler {
	layers, gpus := len(f.prev), len(f.slots)
	s := &scheduler{
		frame: f, limits: newLimits(o), links: newLinks(gpus), first: make([]int32, gpus+1), node: make([]int32, gpus),
		cur: make([][]int32, layers), fin: make([][]int32, layers), left: make([]int, layers), begun: make([]bool, layers), urgent: make([]bool, layers), copies: make([]int, layers), least: make([]int, layers),
		parts: make([]*part, layers), stamp: make([]int32, f.experts), wanted: make([]int32, f.experts),
	}
	for g := range gpus {
		s.first[g+1], s.node[g] = s.first[g]+int32(f.slots[g]), int32(t.Node(g))
	}
	s.match.init(gpus, f.experts)
	s.chain.init(gpus)
	for l := range layers {
		s.cur[l], s.fin[l] = make([]int32, len(s.gpuOf)), make([]int32, len(s.gpuOf))
		for i, g := range s.gpuOf {
			s.cur[l][i], s.fin[l][i] = -1, -1
			if !f.dead[g] {
				s.cur[l][i] = int32(f.prev[l][i])
			} else if f.prev[l][i] >= 0 {
				s.moves = append(s.moves, placement.Move{Layer: l, Expert: -1, From: -1, To: i})
			}
			if !f.dead[g] && !f.leaving[g] {
				s.fin[l][i] = int32(f.next[l][i])
			}
		}
		s.survey(l)
	}
	return s
}

// survey sees what is left to do in a layer.
func (s *scheduler) survey(l int) {
	s.left[l] = 0
	clear(s.stamp)
	stay := 0
	for i, e := range s.cur[l] {
		if e != s.fin[l][i] {
			s.left[l]++
		}
		if e >= 0 && s.stamp[e] == 0 && !s.leaving[s.gpuOf[i]] {
			s.stamp[e] = 1
			stay++
		}
	}
	s.urgent[l] = stay < s.expertsOf[l]
}

// newPart is memory for a layer's part in a round.
func (s *scheduler) newPart() *part {
	if n := len(s.unused); n > 0 {
		p := s.unused[n-1]
		s.unused = s.unused[:n-1]
		return p
	}
	slots := len(s.gpuOf)
	return &part{
		plan: make([]int32, slots), src: make([]int32, slots), kept: make([]bool, slots), live: make([]int32, s.experts),
		hold: newBuckets(s.experts), reqBy: newBuckets(s.experts), reqFirst: make([]int32, len(s.node)+1),
	}
}

// turnTo makes l the layer at hand, where it stands in this round.
func (s *scheduler) turnTo(l int) {
	if s.parts[l] == nil {
		s.parts[l] = s.newPart()
		s.part = s.parts[l]
		s.load(l)
	}
	s.part = s.parts[l]
}

// load fills in the part at hand for layer l as it is at the round's start.
func (s *scheduler) load(l int) {
	cur, fin := s.cur[l], s.fin[l]
	s.layer = l
	copy(s.plan, cur)
	clear(s.live)
	for i, e := range cur {
		if s.src[i] = untouched; e >= 0 {
			s.live[e]++
		}
	}
	s.hold.fill(cur)
	s.req, s.stagers, s.trail = s.req[:0], s.stagers[:0], s.trail[:0]
	clear(s.stamp) // the last GPU, from 1, seen to hold or request each expert
	clear(s.wanted)
	for g := range s.node {
		a, b := s.first[g], s.first[g+1]
		for i := a; i < b; i++ {
			if cur[i] >= 0 {
				s.stamp[cur[i]] = int32(g) + 1
			}
			if fin[i] >= 0 {
				s.wanted[fin[i]] = int32(g) + 1
			}
		}
		for i := a; i < b; i++ {
			s.kept[i] = cur[i] >= 0 && s.wanted[cur[i]] == int32(g)+1
			if e := fin[i]; e >= 0 && s.stamp[e] != int32(g)+1 {
				s.stamp[e] = int32(g) + 1
				s.req = append(s.req, request{gpu: int32(g), expert: e, want: i})
			}
		}
		s.reqFirst[g+1] = int32(len(s.req))
	}
	s.keys = s.keys[:0]
	for _, q := range s.req {
		s.keys = append(s.keys, q.expert)
	}
	s.reqBy.fill(s.keys)
}

// put has a slot hold an expert at the round's end, read from another slot or
// outsideRead, or none; request r, if any, is served by it. It says whether links
// and memory allow that. That what the slot held is not lost is the caller's care.
func (s *scheduler) put(slot, expert, from, r int32) bool {
	if h := s.reader(from); expert >= 0 && h != s.gpuOf[slot] && !s.open(h, s.gpuOf[slot]) {
		return false
	}
	stager, ok := s.stages(slot, expert, from)
	if ok {
		s.do(written{slot, expert, from, r, stager, 1})
	}
	return ok
}

// recall takes back the one put into a slot, and returns it; ok is false where
// others count on it.
func (s *scheduler) recall(slot int32) (w written, ok bool) {
	i := len(s.trail) - 1
	for s.trail[i].slot != slot || s.trail[i].n < 0 {
		i--
	}
	w = s.trail[i]
	if w.stager != slot && slices.Contains(s.stagers, slot) {
		return w, false
	}
	w.n = -1
	s.do(w)
	return w, true
}

// undo takes back all that was done but the first n steps.
func (s *scheduler) undo(n int) {
	for len(s.trail) > n {
		w := s.trail[len(s.trail)-1]
		w.n = -w.n
		s.do(w)
		s.trail = s.trail[:len(s.trail)-2]
	}
}

// do makes a step, and counts what it takes.
func (s *scheduler) do(w written) {
	s.trail = append(s.trail, w)
	g, was := s.gpuOf[w.slot], s.cur[s.layer][w.slot]
	if s.plan[w.slot], s.src[w.slot] = w.expert, w.from; w.n < 0 {
		s.plan[w.slot], s.src[w.slot] = was, untouched
	}
	if was >= 0 {
		s.live[was] -= w.n
	}
	if w.expert >= 0 {
		s.live[w.expert] += w.n
		if h := s.reader(w.from); h != g {
			s.book(h, g, w.n)
		}
	}
	if w.request >= 0 {
		s.req[w.request].done = w.n > 0
	}
	if w.stager >= 0 {
		s.staged[s.gpuOf[w.stager]] += w.n
		if w.n > 0 {
			s.stagers = append(s.stagers, w.stager)
		} else {
			i := slices.Index(s.stagers, w.stager)
			s.stagers = slices.Delete(s.stagers, i, i+1)
		}
	}
}

// reader is the GPU that a slot is filled from, -1 = outside.
func (s *scheduler) reader(from int32) int32 {
	if from < 0 {
		return outsideRead
	}
	return s.gpuOf[from]
}

// free says whether a slot can be given away: it is empty, or its expert has another
// copy at the round's end, on the same GPU if that is to have it.
func (s *scheduler) free(slot int32) bool {
	x := s.plan[slot]
	if s.src[slot] != untouched || x == s.fin[s.layer][slot] {
		return false
	}
	return x < 0 || s.live[x] > 1 && (!s.kept[slot] || s.twin(slot, x))
}

// twin says whether another slot of a slot's GPU holds an expert at the round's end.
func (s *scheduler) twin(slot, expert int32) bool {
	g := s.gpuOf[slot]
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if i != slot && s.plan[i] == expert {
			return true
		}
	}
	return false
}

// room picks a free slot of GPU g for an expert whose place is want: want itself,
// else an empty one, else the one whose expert has the most copies. -1 = none.
func (s *scheduler) room(g, want int32) int32 {
	best, score := int32(-1), int32(0)
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if !s.free(i) {
			continue
		}
		n := int32(noLimit)
		if x := s.plan[i]; i != want && x >= 0 {
			n = s.live[x]
		} else if i != want {
			n--
		}
		if n > score {
			best, score = i, n
		}
	}
	return best
}

// emit ends the part of the layer at hand.
func (s *scheduler) emit() {
	start := len(s.moves)
	for i, from := range s.src {
		if from != untouched {
			s.moves = append(s.moves, placement.Move{Layer: s.layer, Expert: int(s.plan[i]), From: int(from), To: i})
		}
	}
	s.begun[s.layer] = s.begun[s.layer] || len(s.moves) > start
	if s.inPlace {
		s.putInOrder(start)
	}
	copy(s.cur[s.layer], s.plan)
	s.survey(s.layer)
	s.parts[s.layer] = nil
	s.unused = append(s.unused, s.part)
}

// buckets are lists of ints, one after the other.
type buckets struct{ first, item []int32 }

func newBuckets(n int) buckets { return buckets{first: make([]int32, n+1)} }

func (b *buckets) of(i int32) []int32 { return b.item[b.first[i]:b.first[i+1]] }

// fill sorts the items 0..len(keys)-1 into buckets; key < 0 = leave out.
func (b *buckets) fill(keys []int32) {
	clear(b.first)
	for _, k := range keys {
		if k >= 0 {
			b.first[k]++
		}
	}
	total := int32(0)
	for i, n := range b.first {
		total += n
		b.first[i] = total // its end, which filling makes its start
	}
	b.item = slices.Grow(b.item[:0], int(total))[:total]
	for i := len(keys) - 1; i >= 0; i-- { // backwards, so that the lists rise
		if k := keys[i]; k >= 0 {
			b.first[k]--
			b.item[b.first[k]] = int32(i)
		}
	}
}
