package search

// Task is a layer that is to be placed on a unit.
type Task struct {
	Experts int
	// First says where slots are: GPU g has the slots [First[g], First[g+1]).
	First []int
	// Speed of each GPU, of mean 1.
	Speed []float64
	// Load of each expert in each window, [experts][windows], scaled so that the
	// mean of load/speed over GPUs is 1 in every window, and the share of each
	// window in the time of all, which adds up to 1.
	Load  []float64
	Share []float64
	// Nearest has every GPU send all its tokens of an expert to one replica: its own,
	// else the first on its node, else evenly to all of them; tokens come evenly from
	// all GPUs. It is SGLang's static dispatch. Without it replicas share evenly. Node is
	// needed then, and levels are right once a change was made: searches that look ahead,
	// which are all of this package, do not know of it.
	Nearest bool

	// Prev is the expert in each slot of the placement in force, -1 = none; nil =
	// there is none, and nothing costs a move. Had is the set of experts of every
	// GPU there, [GPUs][words]; it may hold more than Prev shows.
	Prev []int32
	Had  []uint64

	// Home is the node of each expert, -1 = any, and Node that of each GPU; at most
	// MostOff replicas live elsewhere. nil = anywhere.
	Home    []int32
	Node    []int
	MostOff int
	// Domain of each GPU, where every expert must be in two; nil = need not.
	Domain []int
}

// Words is how many words a GPU's set of experts has.
func (t *Task) Words() int { return (t.Experts + 63) / 64 }

// GPUs is how many GPUs there are.
func (t *Task) GPUs() int { return len(t.Speed) }

// Slots is how many slots there are.
func (t *Task) Slots() int { return t.First[len(t.First)-1] }
