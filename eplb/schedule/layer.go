package schedule

import (
	"slices"

	"github.com/moelb/moelb/placement"
)

// layer is how far a layer is, and what the round at hand does in it: it writes slots.
// A write keeps count of copies, links and memory, and can be undone.
type layer struct {
	*scheduler
	number       int
	cur, fin     []int     // what slots hold, and are to hold
	plan         []int     // what they hold at the round's end
	src          []int     // the slot that each is read from as it was, itself where it stays; or -1
	log          []write   // in the order made
	requests     []request // in the order of GPUs
	lacks        [][]request
	urgency      int // the largest of any request
	experts      []expert
	moved, ended bool // anything has been moved; slots hold what they are to hold
}

// expert is what is known of an expert of a layer.
type expert struct {
	hold  []int      // slots that hold it at the round's start
	asked []*request // by GPUs that lack it
	live  int        // its copies at the round's end
}

// request is an expert that a GPU lacks.
type request struct {
	gpu, expert int
	from        int // the slot that it is, or might be, read from; -1 = outside
	done        bool
	urgency     int // 2 = the expert is nowhere, 1 = it is on leaving GPUs alone
}

// write is what a slot was to hold before it was written, and the request that this
// served, if any.
type write struct {
	slot, expert, from int
	served             *request
}

// load is at a round's start, without a part in it.
func (y *layer) load() {
	copy(y.plan, y.cur)
	y.log, y.requests, y.urgency = y.log[:0], y.requests[:0], 0
	y.ended = slices.Equal(y.cur, y.fin)
	for e := range y.experts {
		x := &y.experts[e]
		x.hold, x.asked, x.live = x.hold[:0], x.asked[:0], 0
	}
	for i, e := range y.cur {
		if y.src[i] = i; e >= 0 {
			x := &y.experts[e]
			x.hold, x.live = append(x.hold, i), x.live+1
		}
	}
	for g := range y.lacks {
		have, want := y.on(g, y.cur), y.on(g, y.fin)
		n := len(y.requests)
		for i, e := range want {
			if e < 0 || slices.Contains(have, e) || slices.Contains(want[:i], e) {
				continue
			}
			x, q := &y.experts[e], request{gpu: g, expert: e}
			if !slices.ContainsFunc(x.hold, func(slot int) bool { return !slices.Contains(y.made.Leaving, y.gpuOf[slot]) }) {
				q.urgency = 2 - min(1, len(x.hold))
			}
			y.urgency = max(y.urgency, q.urgency)
			y.requests = append(y.requests, q)
			x.asked = append(x.asked, &y.requests[len(y.requests)-1])
		}
		y.lacks[g] = y.requests[n:]
	}
}

// begun says whether anything has been moved.
func (y *layer) begun() bool { return y.moved || len(y.log) > 0 }

// serve does what the links allow.
func (y *layer) serve() {
	if y.idle() {
		for range y.PerGPU {
			if !y.match() {
				break
			}
		}
		y.serveRequests(0)
	}
	y.settle()
	y.emit()
}

// emit lists the writes of the round, in the order of slots. In place a copy must run
// after those that read its slot: the last of them brings it along. What is left then is
// cycles, of which one copy is staged: read first, written last. A cycle whose GPU has no
// room for it is taken back: what it moves stays where it is.
func (y *layer) emit() {
	clear(y.readers)
	for i, from := range y.src {
		if from >= 0 && from != i && y.InPlace {
			y.readers[from]++
		}
	}
	before := len(y.moves)
	for i := range y.src {
		y.list(i, i)
	}
	for i := range y.src {
		if g := y.gpuOf[i]; y.touched(i) && y.in[staged][g] < y.limit[staged] {
			y.in[staged][g]++
			y.inMemory = append(y.inMemory, len(y.moves))
			y.readers[i] = 0
			y.list(i, len(y.src))
		}
		for from := 0; y.touched(i); i = from {
			from = y.src[i]
			y.write(i, y.cur[i], i, nil)
		}
	}
	y.moved = y.moved || len(y.moves) > before
	copy(y.cur, y.plan)
	y.load()
}

// list lists what is written into a slot, if no copy is yet to read that, and what this
// was the last to keep from being listed, up to a slot.
func (y *layer) list(slot, last int) {
	for slot >= 0 && slot <= last && y.touched(slot) && y.readers[slot] <= 0 {
		from := y.src[slot]
		y.moves = append(y.moves, placement.Move{Layer: y.number, Expert: y.plan[slot], From: from, To: slot})
		if y.src[slot] = slot; from >= 0 {
			y.readers[from]--
		}
		slot = from
	}
}

// write has a slot hold an expert at the round's end, read from a slot as it is at the
// start, its own too, or from outside, or none.
func (y *layer) write(slot, expert, from int, served *request) {
	y.log = append(y.log, write{slot, y.plan[slot], y.src[slot], served})
	y.set(slot, expert, from)
}

// undo takes back all writes but the first so many.
func (y *layer) undo(keep int) {
	for ; len(y.log) > keep; y.log = y.log[:len(y.log)-1] {
		w := y.log[len(y.log)-1]
		if y.set(w.slot, w.expert, w.from); w.served != nil {
			w.served.done = false
		}
	}
}

func (y *layer) set(slot, expert, from int) {
	y.count(slot, -1)
	y.plan[slot], y.src[slot] = expert, from
	y.count(slot, 1)
}

// count counts n times what is written into a slot.
func (y *layer) count(slot, n int) {
	if !y.touched(slot) {
		return
	}
	g, e := y.gpuOf[slot], y.plan[slot]
	if was := y.cur[slot]; was >= 0 {
		y.experts[was].live -= n
	}
	if e < 0 {
		return
	}
	y.experts[e].live += n
	if !y.InPlace {
		y.in[staged][g] += n
	}
	if h := y.reader(y.src[slot]); h != g {
		y.book(h, g, n)
	}
}

// touched says whether something is written into a slot.
func (y *layer) touched(slot int) bool { return y.src[slot] != slot }

// reader is the GPU that a slot is filled from, -1 = outside.
func (y *layer) reader(from int) int {
	if from < 0 {
		return -1
	}
	return y.gpuOf[from]
}

// free says whether a slot can be given away: it is empty, or its expert has another
// copy at the round's end, on the same GPU if that is to have it.
func (y *layer) free(slot int) bool {
	x, on := y.plan[slot], y.on(y.gpuOf[slot], y.plan)
	switch {
	case y.touched(slot) || x == y.fin[slot]:
		return false
	case x < 0:
		return true
	case y.kept(slot):
		return slices.Contains(on[slices.Index(on, x)+1:], x)
	}
	return y.experts[x].live > 1
}

// kept says whether a slot's expert is one that its GPU is to have.
func (y *layer) kept(slot int) bool {
	return slices.Contains(y.on(y.gpuOf[slot], y.fin), y.cur[slot])
}

// room picks a free slot of a request's GPU: one that is to hold its expert, else the
// first. -1 = none.
func (y *layer) room(q *request) int {
	best := -1
	for i := y.first[q.gpu]; i < y.first[q.gpu+1]; i++ {
		if (best < 0 || y.fin[i] == q.expert) && y.free(i) {
			best = i
		}
	}
	return best
}

// settle has experts go to where they are to be within their GPU, and what is
// superfluous go. What a slot had goes, or changes places with what it is to have.
func (y *layer) settle() {
	for slot, e := range y.fin {
		g, other := y.gpuOf[slot], -1
		for i := y.first[g]; i < y.first[g+1]; i++ {
			if y.plan[i] == e && (other < 0 || y.fin[i] != e) {
				other = i
			}
		}
		if e < 0 || e == y.plan[slot] || other < 0 {
			continue
		}
		x, from, at, mark := y.plan[slot], y.src[slot], y.src[other], len(y.log)
		switch moves, spare := y.fin[other] != e, y.spare(slot); {
		case spare && moves:
			y.write(slot, e, at, nil)
			y.write(other, y.cur[other], other, nil)
		case moves && (y.touched(slot) || y.kept(slot)):
			y.write(slot, e, at, nil)
			y.write(other, x, from, nil)
		case spare && y.reader(at) == g:
			y.write(slot, e, at, nil)
		}
		if !y.InPlace && y.in[staged][g] > y.limit[staged] {
			y.undo(mark)
		}
	}
	for slot, e := range y.fin {
		if x := y.plan[slot]; e < 0 && x >= 0 && y.spare(slot) {
			y.write(slot, -1, -1, nil)
		}
	}
}

// spare says whether what a slot held may go, and nobody asks for it any more.
func (y *layer) spare(slot int) bool {
	x := y.plan[slot]
	return y.free(slot) && (x < 0 || !slices.ContainsFunc(y.experts[x].asked, func(q *request) bool { return !q.done }))
}
