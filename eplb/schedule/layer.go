package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// scheduler builds the rounds of a schedule. Several layers share a round, each
// with a part of its own from load to emit. Whatever a round does is a write of
// some slot: it keeps count of copies, links and memory, and can be taken back.
type scheduler struct {
	*frame
	most   int // layers that a round may leave half-moved
	stage  int // experts that a GPU may stage; noLimit = any number
	layers []layer

	links       // of the round at hand
	moves       []placement.Move
	stagedMoves []int // in place: indices of moves
	*layer            // at hand
	match       matching
	chain       chain
	keys        []int
	seen        []int // of each slot
}

// layer is how far a layer is, and what the round at hand does in it.
type layer struct {
	number   int
	cur, fin []int // what slots hold, and are to hold
	left     int   // slots that differ
	begun    bool  // it is under way
	urgent   bool  // it has experts that are on no GPU which stays
	copies   int   // requests at the start
	least    int   // rounds that it takes at least

	doing bool    // it has a part in the round at hand
	plan  []int   // what slots hold at the round's end
	src   []int   // the slot that each is read from as it was, itself where it stays; or outsideRead
	live  []int   // copies of each expert at the round's end
	kept  []bool  // the slot's expert is one that its GPU is to have
	hold  buckets // slots that hold each expert at the round's start
	// Experts that GPUs lack, in the order of GPUs: of each, and for each expert.
	req      []request
	reqFirst []int
	reqBy    buckets
	puts     []int // requests that are served, in that order
	settled  bool  // nothing more is done
	stagers  []int // in place, the slots that are staged: one of each cycle
}

const outsideRead = -1

// request is an expert that a GPU lacks.
type request struct {
	gpu, expert int
	want        int // a slot that is to hold it
	from        int // the slot that it is, or might be, read from; outsideRead
	slot        int // where it arrives, if it is done
	done        bool
}

// newScheduler is at the start of a schedule that leaves so many layers half-moved at
// most.
func newScheduler(f *frame, most int) *scheduler {
	gpus := len(f.node)
	s := &scheduler{
		frame: f, most: most, stage: noLimit, links: newLinks(gpus), layers: make([]layer, len(f.start)),
		moves: slices.Clone(f.lost), seen: make([]int, len(f.gpuOf)),
	}
	if s.StagedBytes > 0 {
		s.stage = int(min(s.StagedBytes/s.ExpertBytes, noLimit))
	}
	s.match.init(gpus)
	s.chain.init(gpus)
	for l := range s.layers {
		slots := len(f.gpuOf)
		s.layers[l] = layer{
			number: l, cur: slices.Clone(f.start[l]), fin: f.end[l],
			plan: make([]int, slots), src: make([]int, slots), kept: make([]bool, slots), live: make([]int, f.experts),
			hold: newBuckets(f.experts), reqBy: newBuckets(f.experts), reqFirst: make([]int, gpus+1),
		}
		s.load(&s.layers[l])
	}
	return s
}

// noLimit is more than any round has of anything.
const noLimit = 1 << 30

// turnTo makes y the layer at hand, with a part in the round.
func (s *scheduler) turnTo(y *layer) { s.layer, y.doing = y, true }

// load makes y the layer at hand as it is at a round's start, without a part in it.
func (s *scheduler) load(y *layer) {
	s.layer = y
	cur, fin := s.cur, s.fin
	copy(s.plan, cur)
	clear(s.live)
	s.left = 0
	for i, e := range cur {
		if s.src[i] = i; e >= 0 {
			s.live[e]++
		}
		if e != fin[i] {
			s.left++
		}
	}
	s.hold.fill(cur)
	s.urgent = false
	for e := range s.expertsOf[s.number] {
		s.urgent = s.urgent || !s.stays(e)
	}
	s.req, s.puts, s.stagers, s.doing, s.settled = s.req[:0], s.puts[:0], s.stagers[:0], false, false
	for g := range s.node {
		a, b := s.first[g], s.first[g+1]
		for i := a; i < b; i++ {
			s.kept[i] = cur[i] >= 0 && slices.Contains(fin[a:b], cur[i])
			if e := fin[i]; e >= 0 && !slices.Contains(cur[a:b], e) && !slices.Contains(fin[a:i], e) {
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

// put serves request r by a copy from another GPU's slot, or from outside, into a slot.
// It says whether links and memory allow that. That what the slot held is not lost is
// the caller's care.
func (s *scheduler) put(slot, r int) bool {
	q := &s.req[r]
	if !s.open(s.reader(q.from), q.gpu) {
		return false
	}
	s.write(slot, q.expert, q.from)
	q.slot, q.done = slot, true
	s.puts = append(s.puts, r)
	return true
}

// undo takes back all that was put but the first n.
func (s *scheduler) undo(n int) {
	for _, r := range s.puts[n:] {
		q := &s.req[r]
		q.done = false
		s.write(q.slot, s.cur[q.slot], q.slot)
	}
	s.puts = s.puts[:n]
}

// stays says whether a GPU that stays holds an expert at the round's start.
func (s *scheduler) stays(e int) bool {
	return slices.ContainsFunc(s.hold.of(e), func(slot int) bool { return !s.leaving[s.gpuOf[slot]] })
}

// drop takes back the part of the layer at hand.
func (s *scheduler) drop() {
	for i, e := range s.cur {
		s.write(i, e, i)
	}
	for _, i := range s.stagers {
		s.staged[s.gpuOf[i]]--
	}
	s.load(s.layer)
}

// write has a slot hold an expert at the round's end, read from a slot as it is at the
// start, its own too, or outsideRead, or none.
func (s *scheduler) write(slot, expert, from int) {
	s.count(slot, -1)
	s.plan[slot], s.src[slot] = expert, from
	s.count(slot, 1)
}

// touched says whether something is written into a slot.
func (s *scheduler) touched(slot int) bool { return s.src[slot] != slot }

// count counts n times what is written into a slot.
func (s *scheduler) count(slot, n int) {
	if !s.touched(slot) {
		return
	}
	g, e, was := s.gpuOf[slot], s.plan[slot], s.cur[slot]
	if was >= 0 {
		s.live[was] -= n
	}
	if e < 0 {
		return
	}
	s.live[e] += n
	if h := s.reader(s.src[slot]); h != g {
		s.book(h, g, n)
	}
	if !s.InPlace {
		s.staged[g] += n
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
	if s.touched(slot) || x == s.fin[slot] {
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

// room picks a free slot of the GPU of a request: the one that is to hold it, else an
// empty one, else the one whose expert has the most copies. -1 = none.
func (s *scheduler) room(q *request) int {
	g := q.gpu
	best, score := -1, 0
	for i := s.first[g]; i < s.first[g+1]; i++ {
		if !s.free(i) {
			continue
		}
		n := noLimit
		switch x := s.plan[i]; {
		case i == q.want:
		case x < 0:
			n--
		default:
			n = 1
		}
		if n > score {
			best, score = i, n
		}
	}
	return best
}

// emit ends the part of the layer at hand.
func (s *scheduler) emit() {
	s.settleAll()
	start := len(s.moves)
	for i, from := range s.src {
		if from != i {
			s.moves = append(s.moves, placement.Move{Layer: s.number, Expert: s.plan[i], From: from, To: i})
		}
	}
	s.begun = s.begun || len(s.moves) > start
	if s.InPlace {
		s.putInOrder(start)
	}
	copy(s.cur, s.plan)
	s.load(s.layer)
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
