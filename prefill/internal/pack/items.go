package pack

import (
	"math"
	"slices"
)

// Item is a prompt that may run in the step that is being formed.
type Item struct {
	Slot    int32
	Rank    int32 // where it has started; -1 = nowhere yet
	Left    int64
	Pos     int64   // tokens before; of the best cache, if each rank has its own
	Pairs   int64   // of all that is left in one chunk
	Seconds float64 // of that
	Urgency float64
	Waited  float64 // seconds since it came
	Seq     int64   // the order in which they came
	First   bool    // before all that are not: of a higher priority, or critical
	Where   *Where  // nil = it is the same everywhere
}

// Where says on which ranks a prompt may start, and what they have of it.
type Where struct {
	Local    bool    // each rank caches its own
	CachedAt []int64 // if Local; 0 beyond its end
	Pinned   bool    // only Among may take it
	Among    []int32 // rising
}

// On is what the cache of a rank has, if each rank has its own.
func (w *Where) On(g int) int64 {
	if g < len(w.CachedAt) {
		return w.CachedAt[g]
	}
	return 0
}

// May reports whether the prompt may run on a rank.
func (w *Where) May(g int) bool {
	if !w.Pinned {
		return true
	}
	_, ok := slices.BinarySearch(w.Among, int32(g))
	return ok
}

// tokens are all of the prompt.
func (it *Item) tokens() int64 { return it.Pos + it.Left }

func (it *Item) local() bool { return it.Where != nil && it.Where.Local }

// at is what is there of a prompt if it starts on a rank.
func (it *Item) at(g int) int64 {
	if it.Rank < 0 && it.local() {
		return it.Where.On(g)
	}
	return it.Pos
}

// Piece is a chunk in the making.
type Piece struct {
	Item int32
	Rank int32
	N    int64 // tokens of the chunk
	Pos  int64 // tokens of the request before it
	Left int64 // tokens that the request needs from Pos on
	Half int8
}

// Rank is what a rank is before the step, and may take in it.
type Rank struct {
	Open     bool // prompts may start there
	Speed    float64
	Tokens   int64
	Seconds  float64 // of tokens and pairs together
	KV, Room int64   // tokens of all its prompts, and how many it holds
	Owed     float64 // see Former.Owed
}

// load is what a rank has in the step that is being formed.
type load struct {
	tokens     int64
	pairs      int64   // with what prefixes cost to re-expand
	kv         int64   // tokens of its prompts in full
	room       int64   // of KV
	tail       int64   // tokens that its unfinished prompts need after this step
	stock      int64   // pairs that they need from this step on
	rest       float64 // seconds
	unfinished int32   // how many they are
	claimed    float64 // seconds of those that wait for the rank: see goal
	claims     int32   // and how many those are
	least      float64 // seconds of the shortest unfinished one; infinite = there is none
	due        float64 // seconds that the oldest are to have yet; what they are owed, before the step
	lead       int32   // the oldest unfinished one, an item; -1 = none
	closed     bool    // takes nothing from the queue: not in service, or its room is kept

	speed      float64
	mostTokens int64 // what the rank may take at all
	capTokens  int64 // what it may take within the caps that are tried
	capPairs   int64
	seconds    float64 // of tokens and pairs together that it may take
}

// Clear begins a step of so many ranks, without ranks or prompts yet.
func (f *Former) Clear(ranks int) {
	f.Items, f.Open, f.Old, f.Pieces, f.order, f.placed = f.Items[:0], f.Open[:0], f.Old[:0], f.Pieces[:0], f.order[:0], f.placed[:0]
	f.Tokens, f.plain = 0, true
	if len(f.load) != ranks {
		f.fresh, f.load = make([]load, ranks), make([]load, ranks)
		f.weight, f.ill = make([]float64, ranks), make([]float64, ranks)
		f.at = make([]int32, ranks+1)
	}
}

// SetRank says what a rank may take. The one whose turn it is comes first.
func (f *Former) SetRank(g int, r Rank) {
	f.fresh[g] = load{kv: r.KV, room: r.Room, least: math.Inf(1), lead: -1, closed: !r.Open, speed: r.Speed, mostTokens: r.Tokens, seconds: r.Seconds, due: r.Owed}
	f.plain = f.plain && r.Speed == 1
	if r.Open && r.Tokens > 0 {
		f.Open = append(f.Open, int32(g))
	}
	if r.Open {
		f.Tokens = max(f.Tokens, r.Tokens)
	}
}

// GoesOn enters a prompt that has started on its rank.
func (f *Former) GoesOn(it Item) {
	l := &f.fresh[it.Rank]
	l.rest += it.Seconds
	l.unfinished++
	l.stock += it.Pairs
	l.least = min(l.least, it.Seconds)
	l.tail += it.Left
	if l.lead < 0 || it.Seq < f.Items[l.lead].Seq {
		l.lead = int32(len(f.Items))
	}
	f.Tokens = max(f.Tokens, l.mostTokens)
	f.Items = append(f.Items, it)
}

// Close keeps a rank's room: nothing starts there.
func (f *Former) Close(g int) { f.fresh[g].closed = true }
