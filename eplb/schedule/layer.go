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
	most   int // layers that a round may leave half-moved
	stage  int // experts that a GPU may stage; noLimit = any number
	layers []layer

	links         // of the round at hand
	moves         []placement.Move
	stagedMoves   []int   // in place: indices of moves
	unused        []*part // memory
	*part                 // of the layer at hand
	match         matching
	chain         chain
	stamp, wanted []int // of each expert
	keys          []int
}

// layer is how far a layer is.
type layer struct {
	number   int
	cur, fin []int // what slots hold, and are to hold
	left     int   // slots that differ
	begun    bool  // it is under way
	urgent   bool  // it has experts that are on no GPU which stays
	copies   int   // requests at the start
	least    int   // rounds that it takes at least
	doing    *part // in the round at hand; nil = it is untouched
}

// part is what a round does in a layer.
type part struct {
	*layer
	plan []int   // what slots hold at the round's end
	src  []int   // where a slot's new expert is read; outsideRead, or untouched
	live []int   // copies of each expert at the round's end
	kept []bool  // the slot's expert is one that its GPU is to have
	hold buckets // slots that hold each expert at the round's start
	// Experts that GPUs lack, in the order of GPUs: of each, and for each expert.
	req      []request
	reqFirst []int
	reqBy    buckets
	stagers  []int // slots that are staged, in place one of each cycle
	trail    []written
}

const (
	outsideRead = -1
	untouched   = -2
)

// request is an expert that a GPU lacks.
type request struct {
	gpu, expert int
	want        int // a slot that is to hold it
	done        bool
}

// written is a step: a slot gets an expert from another slot, or n = -1, it does not
// after all.
type written struct {
	slot, expert, from int
	request            int // that it serves, -1 = none
	stager             int // slot that is staged for it, -1 = none
	n                  int
}

// newScheduler is at the start of a schedule that leaves so many layers half-moved at
// most.
func newScheduler(f *frame, most int) *scheduler {
	gpus := len(f.node)
	s := &scheduler{
		frame: f, most: most, stage: noLimit, links: newLinks(gpus), layers: make([]layer, len(f.start)),
		moves: slices.Clone(f.lost), stamp: make([]int, f.experts), wanted: make([]int, f.experts),
	}
	if s.StagedBytes > 0 {
		s.stage = int(min(s.StagedBytes/s.ExpertBytes, noLimit))
	}
	s.match.init(gpus, f.experts)
	s.chain.init(gpus)
	for l := range s.layers {
		s.layers[l] = layer{number: l, cur: slices.Clone(f.start[l]), fin: f.end[l]}
		s.survey(&s.layers[l])
	}
	return s
}

// noLimit is more than any round has of anything.
const noLimit = 1 << 30

// survey sees what is left to do in a layer.
func (s *scheduler) survey(y *layer) {
	y.left = 0
	clear(s.stamp)
	stay := 0
	for i, e := range y.cur {
		if e != y.fin[i] {
			y.left++
		}
		if e >= 0 && s.stamp[e] == 0 && !s.leaving[s.gpuOf[i]] {
			s.stamp[e] = 1
			stay++
		}
	}
	y.urgent = stay < s.expertsOf[y.number]
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
		plan: make([]int, slots), src: make([]int, slots), kept: make([]bool, slots), live: make([]int, s.experts),
		hold: newBuckets(s.experts), reqBy: newBuckets(s.experts), reqFirst: make([]int, len(s.node)+1),
	}
}

// turnTo makes y the layer at hand, where it stands in this round.
func (s *scheduler) turnTo(y *layer) {
	if y.doing == nil {
		y.doing = s.newPart()
		s.part = y.doing
		s.load(y)
	}
	s.part = y.doing
}

// load fills in the part at hand for a layer as it is at the round's start.
func (s *scheduler) load(y *layer) {
	s.layer = y
	cur, fin := s.cur, s.fin
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
				s.stamp[cur[i]] = g + 1
			}
			if fin[i] >= 0 {
				s.wanted[fin[i]] = g + 1
			}
		}
		for i := a; i < b; i++ {
			s.kept[i] = cur[i] >= 0 && s.wanted[cur[i]] == g+1
			if e := fin[i]; e >= 0 && s.stamp[e] != g+1 {
				s.stamp[e] = g + 1
				s.req = append(s.req, request{gpu: g, expert: e, want: i})
			}
		}
		s.reqFirst[g+1] = len(s.req)
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
func (s *scheduler) put(slot, expert, from, r int) bool {
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
func (s *scheduler) recall(slot int) (w written, ok bool) {
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
	g, was := s.gpuOf[w.slot], s.cur[w.slot]
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
func (s *scheduler) reader(from int) int {
	if from < 0 {
		return outsideRead
	}
	return s.gpuOf[from]
}

// free says whether a slot can be given away: it is empty, or its expert has another
// copy at the round's end, on the same GPU if that is to have it.
func (s *scheduler) free(slot int) bool {
	x := s.plan[slot]
	if s.src[slot] != untouched || x == s.fin[slot] {
		return false
	}
	return x < 0 || s.live[x] > 1 && (!s.kept[slot] || s.twin(slot, x))
}

// twin says whether another slot of a slot's GPU holds an expert at the round's end.
func (s *scheduler) twin(slot, expert int) bool {
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
func (s *scheduler) room(g, want int) int {
	best, score := -1, 0
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if !s.free(i) {
			continue
		}
		n := noLimit
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
			s.moves = append(s.moves, placement.Move{Layer: s.number, Expert: s.plan[i], From: from, To: i})
		}
	}
	s.begun = s.begun || len(s.moves) > start
	if s.InPlace {
		s.putInOrder(start)
	}
	copy(s.cur, s.plan)
	s.survey(s.layer)
	s.doing = nil
	s.unused = append(s.unused, s.part)
}

// buckets are lists of ints, one after the other.
type buckets struct{ first, item []int }

func newBuckets(n int) buckets { return buckets{first: make([]int, n+1)} }

func (b *buckets) of(i int) []int { return b.item[b.first[i]:b.first[i+1]] }

// fill sorts the items 0..len(keys)-1 into buckets; key < 0 = leave out.
func (b *buckets) fill(keys []int) {
	clear(b.first)
	for _, k := range keys {
		if k >= 0 {
			b.first[k]++
		}
	}
	total := 0
	for i, n := range b.first {
		total += n
		b.first[i] = total // its end, which filling makes its start
	}
	b.item = slices.Grow(b.item[:0], total)[:total]
	for i := len(keys) - 1; i >= 0; i-- { // backwards, so that the lists rise
		if k := keys[i]; k >= 0 {
			b.first[k]--
			b.item[b.first[k]] = i
		}
	}
}
