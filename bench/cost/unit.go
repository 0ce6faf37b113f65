package cost

import "fmt"

// Phase is prefill or decode.
type Phase int

const (
	PrefillPhase Phase = iota
	DecodePhase
)

// String returns the phase's name on the wire.
func (p Phase) String() string { return [...]string{"prefill", "decode"}[p] }

// Overlap is how computing and communication share time.
type Overlap int

const (
	// TwoBatch: two micro-batches by turns, as DeepSeek published.
	TwoBatch Overlap = iota
	// NoOverlap: one after the other.
	NoOverlap
	// SingleBatch: the shared expert runs beside the dispatch, and the combine beside
	// the experts' second product.
	SingleBatch
)

var overlapNames = [...]string{"two-batch", "none", "single-batch"}

// String returns the overlap's name on the wire.
func (o Overlap) String() string { return overlapNames[o] }

// FindOverlap returns an overlap by its name.
func FindOverlap(name string) (Overlap, error) {
	for i, n := range overlapNames {
		if n == name {
			return Overlap(i), nil
		}
	}
	return 0, fmt.Errorf("overlap: %.40q is unknown: known are two-batch, none, single-batch", name)
}

// Unit is GPUs that run one copy of the model in lockstep.
type Unit struct {
	Model   Model
	GPU     GPU
	Factors Factors
	Phase   Phase
	Nodes   int
	Overlap Overlap
	// GPUs is how many of the nodes' GPUs the unit has; 0 = all.
	GPUs int
	// Slots a GPU and layer; 0 = as many as experts and 32 redundant ones need, of
	// which sliced experts have none.
	Slots int
	// ExpertBits of experts' weights; 0 = the model's. KVBits of the cache: 16 or 8;
	// 0 = 16.
	ExpertBits, KVBits int
	// TP is how many GPUs share the attention of their requests; 0 = 1.
	TP int
	// Sliced, in decode, cuts experts and dense layers too into slices, one for each of
	// the TP GPUs, which are all: tokens are sent nowhere, results are added up.
	Sliced bool
	// Offload keeps weights that do not fit in the host's memory, and brings them in
	// time: nothing is checked against the GPU's memory.
	Offload bool
	// NodesPerToken, in prefill, is the nodes that a token's experts are on, its own
	// among them. Over several NVLink domains nodes are these domains, and one copy goes
	// to each over RDMA; within one a copy goes to each GPU, so that fewer nodes are
	// fewer GPUs. 0 = those of group-limited routing to experts anywhere in their
	// groups, 2.93 of 4.
	NodesPerToken float64
	// GPUsPerToken, in prefill within one NVLink domain, is the GPUs that a token's
	// experts are on; 0 = those of experts anywhere, on NodesPerToken nodes if it is set.
	GPUsPerToken float64
	// CopiesOffNode, in decode, is how many of a token's copies, one an expert, leave
	// its NVLink domain; 0 = those of experts anywhere.
	CopiesOffNode float64
}

// MaxNodes bounds the nodes of a unit.
const MaxNodes = 1 << 12

// Ranks is the number of GPUs.
func (u *Unit) Ranks() int {
	if u.GPUs > 0 {
		return u.GPUs
	}
	return u.Nodes * u.GPU.Node
}

// Groups is the number of ranks that requests are balanced over: GPUs that share
// attention are one.
func (u *Unit) Groups() int { return u.Ranks() / u.tp() }

// batches is how many micro-batches a step has.
func (u *Unit) batches() float64 {
	if u.Overlap == TwoBatch {
		return 2
	}
	return 1
}

// Batches is how many micro-batches a step has.
func (u *Unit) Batches() float64 { return u.batches() }

func (u *Unit) expertBits() int {
	if u.ExpertBits > 0 {
		return u.ExpertBits
	}
	return u.Model.ExpertBits
}

func (u *Unit) kvBits() int {
	if u.KVBits > 0 {
		return u.KVBits
	}
	return 16
}

func (u *Unit) tp() int { return max(u.TP, 1) }

// stepShare is the share of the speed of its parts that a step of the unit reaches.
func (u *Unit) stepShare() float64 {
	if u.Phase == PrefillPhase {
		return u.Factors.PrefillShare * orOne(u.GPU.Reach.PrefillStep)
	}
	return orOne(u.GPU.Reach.DecodeStep)
}

// StepShare is the share of the speed of its parts that a step of the unit reaches.
func (u *Unit) StepShare() float64 { return u.stepShare() }

// KVBytes is what one token keeps on all GPUs together.
func (u *Unit) KVBytes() int64 { return u.Model.KVBytes(u.kvBits()) }

// SlotsEach is Slots with its default applied.
func (u *Unit) SlotsEach() int {
	if u.Slots > 0 {
		return u.Slots
	}
	redundant := 32
	if u.Sliced {
		redundant = 0
	}
	return (u.Model.Experts + redundant + u.Ranks() - 1) / u.Ranks()
}

// KVRoom is how many tokens of KV fit a GPU beside its weights, counted once where
// several GPUs share attention: 0.9 of the memory is used, 3 GB of it for buffers.
func (u *Unit) KVRoom() int64 {
	each := u.KVBytes()
	if u.Model.KVHeads > 0 {
		each /= int64(min(u.tp(), u.Model.KVHeads)) // split, not copied
	}
	each *= int64(u.tp())
	return max(0, int64(0.9*u.GPU.Memory)-u.Model.WeightBytes(u.SlotsEach(), u.expertBits(), u.tp())-3e9) / max(each, 1)
}

// Validate returns an error for a unit that cannot be.
func (u *Unit) Validate() error {
	if err := u.Model.Validate(); err != nil {
		return err
	}
	if err := u.GPU.Validate(); err != nil {
		return err
	}
	switch {
	case u.Nodes < 1 || u.Nodes > MaxNodes:
		return fmt.Errorf("nodes: %d is not between 1 and %d", u.Nodes, MaxNodes)
	case u.Overlap < TwoBatch || u.Overlap > SingleBatch:
		return fmt.Errorf("overlap: %d", u.Overlap)
	case u.GPUs < 0 || u.GPUs > u.Nodes*u.GPU.Node:
		return fmt.Errorf("gpus: %d is not between 0 and the %d of %d nodes of %d", u.GPUs, u.Nodes*u.GPU.Node, u.Nodes, u.GPU.Node)
	case u.ExpertBits != 0 && u.ExpertBits != 4 && u.ExpertBits != 8 && u.ExpertBits != 16:
		return fmt.Errorf("expert bits: %d is none of 4, 8 and 16", u.ExpertBits)
	case u.KVBits != 0 && u.KVBits != 8 && u.KVBits != 16:
		return fmt.Errorf("kv bits: %d is neither 8 nor 16", u.KVBits)
	case u.TP < 0 || u.TP > u.GPU.Domain || u.Ranks()%u.tp() != 0 || u.Model.Heads%u.tp() != 0:
		return fmt.Errorf("tp: %d does not divide %d GPUs and %d heads, or is more than share NVLink", u.TP, u.Ranks(), u.Model.Heads)
	case u.Slots < 0 || u.SlotsEach()*u.Ranks() < u.Model.Experts:
		return fmt.Errorf("slots: %d a GPU on %d GPUs are fewer than %d experts", u.Slots, u.Ranks(), u.Model.Experts)
	case u.Sliced && (u.Phase != DecodePhase || u.tp() != u.Ranks() || u.Slots != 0):
		return fmt.Errorf("slice experts: they are cut over the GPUs that share attention, all %d of a decode unit, and none is redundant", u.Ranks())
	case u.KVRoom() == 0 && !u.Offload:
		return fmt.Errorf("nodes: the weights on %d GPUs, %d experts each, do not fit %.0f GB", u.Ranks(), u.SlotsEach(), u.GPU.Memory/1e9)
	}
	return u.validateVisits()
}

// validateVisits checks what is said of where tokens go.
func (u *Unit) validateVisits() error {
	k := float64(u.Model.TopK)
	switch {
	case u.NodesPerToken != 0 && u.Phase != PrefillPhase:
		return fmt.Errorf("nodes per token: decode sends a copy to every expert, wherever it is: say how many leave their node")
	case u.NodesPerToken != 0 && !(u.NodesPerToken >= 1 && u.NodesPerToken <= min(float64(u.Blocks()), k)):
		return fmt.Errorf("nodes per token: %v is not between 1 and %v", u.NodesPerToken, min(float64(u.Blocks()), k))
	case u.GPUsPerToken != 0 && (u.Phase != PrefillPhase || u.domains() > 1):
		return fmt.Errorf("gpus per token: only prefill within one NVLink domain sends a copy to each GPU")
	case u.GPUsPerToken != 0 && !(u.GPUsPerToken >= max(1, u.NodesPerToken) && u.GPUsPerToken <= min(float64(u.Ranks()), k)):
		return fmt.Errorf("gpus per token: %v is not between %v and %v", u.GPUsPerToken, max(1, u.NodesPerToken), min(float64(u.Ranks()), k))
	case u.CopiesOffNode != 0 && u.Phase != DecodePhase:
		return fmt.Errorf("copies off node: only decode sends a copy to every expert")
	case !(u.CopiesOffNode >= 0 && u.CopiesOffNode <= k):
		return fmt.Errorf("copies off node: %v is not between 0 and %v", u.CopiesOffNode, k)
	}
	return nil
}

// domains is how many NVLink domains the unit's nodes are.
func (u *Unit) domains() int { return (u.Ranks() + u.GPU.Domain - 1) / u.GPU.Domain }

// Blocks is how many nodes a token may visit: NVLink domains, where there are
// several, else the nodes of the only one.
func (u *Unit) Blocks() int {
	if n := u.domains(); n > 1 {
		return n
	}
	return (u.Ranks() + u.GPU.Node - 1) / u.GPU.Node
}

// Kernels are the unit's laws of single kernels.
func (u *Unit) Kernels() Kernels { return newKernels(u) }
