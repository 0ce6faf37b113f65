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
	stagedMoves []int  // in place: indices of moves
	*layer             // at hand
	seen, busy  []bool // GPUs that a search for a chain has come by, and those on its way
	way         []int  // what it finds: requests that make room for each other
	readers     []int  // of each slot, copies that are to read it
	match       *matching
}

// layer is how far a layer is, and what the round at hand does in it.
type layer struct {
	number   int
	cur, fin []int // what slots hold, and are to hold
	ended    bool  // slots hold it
	begun    bool  // it is under way
	urgency  int   // the largest of its requests
	busiest  int   // the most requests of a GPU

	doing bool    // it has a part in the round at hand
	plan  []int   // what slots hold at the round's end
	src   []int   // the slot that each is read from as it was, itself where it stays; or outsideRead
	live  []int   // copies of each expert at the round's end
	hold  [][]int // slots that hold each expert at the round's start
	// Experts that GPUs lack, in the order of GPUs: of each, and for each expert.
	req      []request
	reqFirst []int
	reqBy    [][]int
	writes   []int // slots that are written, in order
	stagers  []int // in place, those of them that are staged: one of each cycle
}

const outsideRead = -1

// request is an expert that a GPU lacks.
type request struct {
	gpu, expert int
	from        int // the slot that it is, or might be, read from; outsideRead
	slot        int // where it arrives, if it is done
	done        bool
	urgency     int // 2 = the expert is nowhere, 1 = it is on leaving GPUs alone
}

// newScheduler is at the start of a schedule that leaves so many layers half-moved at
// most.
func newScheduler(f *frame, most int) *scheduler {
	gpus, slots := len(f.node), len(f.gpuOf)
	s := &scheduler{
		frame: f, most: most, stage: noLimit, layers: make([]layer, len(f.start)),
		moves: slices.Clone(f.lost), seen: make([]bool, gpus), busy: make([]bool, gpus), readers: make([]int, slots),
	}
	if s.StagedBytes > 0 {
		s.stage = int(min(s.StagedBytes/s.ExpertBytes, noLimit))
	}
	s.match = newMatching(s, gpus)
	for l := range s.layers {
		s.layers[l] = layer{
			number: l, cur: slices.Clone(f.start[l]), fin: f.end[l],
			plan: make([]int, slots), src: make([]int, slots), live: make([]int, f.experts),
			hold: make([][]int, f.experts), reqBy: make([][]int, f.experts), reqFirst: make([]int, gpus+1),
		}
		room := make([]int, 2*f.experts) // most experts are not in more slots
		for e := range f.experts {
			s.layers[l].hold[e] = room[2*e : 2*e : 2*e+2]
		}
		s.load(&s.layers[l])
	}
	return s
}

// noLimit is more than any round has of anything.
const noLimit = 1 << 30

// load makes y the layer at hand as it is at a round's start, without a part in it.
func (s *scheduler) load(y *layer) {
	s.layer = y
	cur, fin := s.cur, s.fin
	copy(s.plan, cur)
	s.ended, s.urgency, s.busiest, s.doing = slices.Equal(cur, fin), 0, 0, false
	for e := range s.hold {
		s.hold[e], s.reqBy[e] = s.hold[e][:0], s.reqBy[e][:0]
	}
	for i, e := range cur {
		if s.src[i] = i; e >= 0 {
			s.hold[e] = append(s.hold[e], i)
		}
	}
	for e, hold := range s.hold {
		s.live[e] = len(hold)
	}
	s.req, s.writes, s.stagers = s.req[:0], s.writes[:0], s.stagers[:0]
	for g := range s.node {
		have, want := s.on(g, cur), s.on(g, fin)
		for i, e := range want {
			if e >= 0 && !slices.Contains(have, e) && !slices.Contains(want[:i], e) {
				q := request{gpu: g, expert: e}
				if !slices.ContainsFunc(s.hold[e], func(slot int) bool { return !s.leaving[s.gpuOf[slot]] }) {
					q.urgency = 2 - min(1, len(s.hold[e]))
				}
				s.urgency = max(s.urgency, q.urgency)
				s.reqBy[e] = append(s.reqBy[e], len(s.req))
				s.req = append(s.req, q)
			}
		}
		s.reqFirst[g+1] = len(s.req)
		s.busiest = max(s.busiest, len(s.req)-s.reqFirst[g])
	}
}

// together serves requests that count on each other's copies, without those for which
// there is no room, and says whether there are any.
func (s *scheduler) together(requests []int) bool {
	for len(requests) > 0 {
		for _, r := range requests {
			s.live[s.req[r].expert]++
		}
		done := 0
		for done < len(requests) && s.put(&s.req[requests[done]]) {
			done++
		}
		if done == len(requests) {
			return true
		}
		for _, r := range requests[:done] {
			q := &s.req[r]
			q.done = false
			s.write(q.slot, s.cur[q.slot], q.slot)
		}
		for _, r := range requests[done+1:] {
			s.live[s.req[r].expert]--
		}
		requests = slices.Delete(requests, done, done+1)
	}
	return false
}

// put serves a request, which has been counted on, by a copy from another GPU's slot, or
// from outside, and says whether room, links and memory allow that.
func (s *scheduler) put(q *request) bool {
	s.live[q.expert]--
	slot := s.room(q)
	if slot < 0 || !s.open(s.reader(q.from), q.gpu) {
		return false
	}
	q.slot, q.done = slot, true
	s.write(slot, q.expert, q.from)
	return true
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
	return x < 0 || s.live[x] > 1 && (!s.kept(slot) || s.twin(slot))
}

// kept says whether a slot's expert is one that its GPU is to have.
func (s *scheduler) kept(slot int) bool {
	return slices.Contains(s.on(s.gpuOf[slot], s.fin), s.cur[slot])
}

// twin says whether another slot of a slot's GPU holds its expert at the round's end.
func (s *scheduler) twin(slot int) bool {
	n := 0
	for _, x := range s.on(s.gpuOf[slot], s.plan) {
		if x == s.plan[slot] {
			n++
		}
	}
	return n > 1
}

// room picks a free slot of the GPU of a request: one that is to hold it, else an
// empty one, else any. -1 = none.
func (s *scheduler) room(q *request) int {
	best, score := -1, 0
	for i := s.first[q.gpu]; i < s.first[q.gpu+1]; i++ {
		n := 1
		switch {
		case s.fin[i] == q.expert:
			n = 3
		case s.plan[i] < 0:
			n = 2
		}
		if n > score && s.free(i) {
			best, score = i, n
		}
	}
	return best
}

// emit ends the part of the layer at hand.
func (s *scheduler) emit() {
	for _, i := range s.writes {
		if slices.Contains(s.stagers, i) {
			s.stagedMoves = append(s.stagedMoves, len(s.moves))
		}
		s.moves = append(s.moves, placement.Move{Layer: s.number, Expert: s.plan[i], From: s.src[i], To: i})
	}
	s.begun = s.begun || len(s.writes) > 0
	copy(s.cur, s.plan)
	s.load(s.layer)
}
