// Package pack forms one lockstep step of all ranks of a unit, of the prompts that it
// is given: which of them run, where, and how long a chunk. What waits, and since when,
// is the caller's; so is what a step does to it.
package pack

// Former forms steps, one after the other: Clear, SetRank for each rank, GoesOn for each
// prompt that has started, and Items for those that may start; then Form, and Least where
// that finds nothing.
type Former struct {
	Cost        Cost
	Expand      int64   // pairs that a chunk costs for each token of its prefix
	Page        int64   // chunks but the last are multiples of it
	StepSeconds float64 // a step takes no longer; 0 = as seems best

	Items  []Item
	From   int     // the first of the queue among the items
	Urgent int     // the end of the most urgent of the queue, in this order from there on
	Old    []int32 // the oldest of the queue
	Open   []int32 // ranks that take new prompts, the one whose turn it is first
	Tokens int64   // what any rank may take in a step
	Turn   int     // the rank whose turn it is
	Unlike bool    // not all ranks are of one speed
	Late   int64   // who is late: up to this Seq; -1 = nobody

	Deep    bool    // steps are to waste least
	Silent  bool    // nothing has come for unusually long
	Density float64 // pairs a token of all that is ahead
	Ahead   float64 // seconds that the unit takes for it
	Pairs   int64   // of it
	Base    float64 // seconds: an empty step and a usual one
	Waiting float64 // how many wait or run
	Power   float64 // the ranks' speeds together
	Busy    float64 // the share of the unit's time that is work
	Rate    float64 // prompts that come in a second

	Pieces []Piece // of the step
	Last   Trial   // its caps, where the search begins

	order   []int32 // items, the most urgent first
	running []int32 // of them, those that have started
	queue   []int32 // and the others
	largest []int32 // of the queue, the most work first; in a deep one the light, the longest first
	turnOf  []int32 // the place in queue of each of it
	some    []int32 // items at hand
	idlest  []int32 // open ranks, those first that end soonest what they have started
	densest int64   // pairs that the densest of the items would fill a rank with
	prefix  int64   // pairs that the longest prefix of theirs costs a chunk
	keys    []uint64
	plain   bool    // all ranks are of speed 1
	share   float64 // seconds that the oldest of each rank are due
	// shortShare is the seconds of each rank that short prompts have before long ones.
	shortShare float64

	fresh  []load // what the ranks have before the step is packed
	load   []load
	weight []float64 // seconds that each rank has in the step, at its speed
	ill    []float64 // how ill a rank suits any more
	gaps   []int32   // ranks at hand
	// calmest is the most seconds that the shortest unfinished prompt of any rank takes
	// that takes more.
	calmest float64
	placed  []int32 // the piece of each item; -1 = none
	waits   []goal  // what each item waits for that found no room
	caps    caps
	top     top // of the step
	kept    kept
	light   mix // of the short prompts that fill the caps
	worth   [TokenCaps][PairCaps]float64
	at      []int32 // where each rank's pieces begin in byRank
	byRank  []int32
}

// Form forms the step.
func (f *Former) Form() {
	f.arrange()
	if len(f.Items) > 0 {
		f.allow(f.fresh, caps{f.Tokens, mostPairs})
		f.plan()
	}
}

// Least puts the smallest chunk of the first of the items that can run into a step that
// holds nothing.
func (f *Former) Least() bool {
	copy(f.load, f.fresh)
	for _, i := range f.order {
		if f.leastOf(i) {
			return true
		}
	}
	return false
}

// LeastOf is the same of a prompt that is not among the items.
func (f *Former) LeastOf(it Item) bool {
	i := int32(len(f.Items))
	f.Items = append(f.Items, it)
	f.placed = append(f.placed, -1)
	if f.leastOf(i) {
		return true
	}
	f.Items, f.placed = f.Items[:i], f.placed[:i]
	return false
}
