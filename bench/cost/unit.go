package cost

import (
	"fmt"
	"math"
)

// Phase is prefill or decode.
type Phase int

const (
	PrefillPhase Phase = iota
	DecodePhase
)

// String returns the phase's name on the wire.
func (p Phase) String() string { return [...]string{"prefill", "decode"}[p] }

// Unit is GPUs that run one copy of the model in lockstep.
type Unit struct {
	Model   Model
	GPU     GPU
	Factors Factors
	Phase   Phase
	Nodes   int
	// Slots a GPU and layer; 0 = as many as experts and 32 redundant ones need.
	Slots int
	// NodesPerToken, in prefill over several NVLink domains, is the domains that a
	// token's experts are on, its own among them: one copy goes to each. 0 = those of
	// group-limited routing to experts anywhere in their groups, 2.93 of 4.
	NodesPerToken float64
}

// MaxNodes bounds the nodes of a unit.
const MaxNodes = 1 << 12

// Ranks is the number of GPUs.
func (u *Unit) Ranks() int { return u.Nodes * u.GPU.Node }

// SlotsEach is Slots with its default applied.
func (u *Unit) SlotsEach() int {
	if u.Slots > 0 {
		return u.Slots
	}
	return (u.Model.Experts + 32 + u.Ranks() - 1) / u.Ranks()
}

// KVRoom is how many tokens of KV fit a GPU beside its weights: 0.9 of the
// memory is used, 3 GB of it for buffers.
func (u *Unit) KVRoom() int64 {
	return max(0, int64(0.9*u.GPU.Memory)-u.Model.WeightBytes(u.SlotsEach())-3e9) / u.Model.KVBytes()
}

// Validate returns an error for a unit that cannot be.
func (u *Unit) Validate() error {
	switch {
	case u.Nodes < 1 || u.Nodes > MaxNodes:
		return fmt.Errorf("nodes: %d is not between 1 and %d", u.Nodes, MaxNodes)
	case u.Slots < 0 || u.SlotsEach()*u.Ranks() < u.Model.Experts:
		return fmt.Errorf("slots: %d a GPU on %d GPUs are fewer than %d experts", u.Slots, u.Ranks(), u.Model.Experts)
	case u.KVRoom() == 0:
		return fmt.Errorf("nodes: the weights on %d GPUs, %d experts each, do not fit %.0f GB", u.Ranks(), u.SlotsEach(), u.GPU.Memory/1e9)
	case u.NodesPerToken != 0 && u.Phase != PrefillPhase:
		return fmt.Errorf("nodes per token: decode sends a copy to every expert, wherever it is")
	case u.NodesPerToken != 0 && u.domains() < 2:
		return fmt.Errorf("nodes per token: all %d GPUs share NVLink", u.Ranks())
	case u.NodesPerToken != 0 && !(u.NodesPerToken >= 1 && u.NodesPerToken <= float64(min(u.domains(), u.Model.TopK))):
		return fmt.Errorf("nodes per token: %v is not between 1 and %d", u.NodesPerToken, min(u.domains(), u.Model.TopK))
	}
	return nil
}

// domains is how many NVLink domains the unit's nodes are.
func (u *Unit) domains() int { return (u.Ranks() + u.GPU.Domain - 1) / u.GPU.Domain }

// Kernels are the unit's laws of single kernels.
func (u *Unit) Kernels() Kernels {
	share := 1.0
	if u.Phase == PrefillPhase {
		share = 1 - u.Factors.CommSMs/float64(u.GPU.SMs)
	}
	k := newKernels(u.Model, u.GPU, u.Factors, share)
	k.visits = u.NodesPerToken
	return k
}

// PrefillRank is what one rank computes in one micro-batch of prefill.
type PrefillRank struct {
	Tokens float64 // new tokens
	Cached float64 // tokens of their prefixes, whose latents are expanded again
	Pairs  float64 // query-key pairs
}

// PrefillAttention is the seconds of one layer's attention, and of its core.
func (k *Kernels) PrefillAttention(r PrefillRank) (all, core float64) {
	if r.Tokens <= 0 {
		return 0, 0
	}
	m := &k.Model
	core = r.Pairs * m.pairFLOP() / (k.Factors.Prefill * k.flopBF16 * k.share)
	all = k.gemm(1, r.Tokens, float64(m.QRank+m.KVRank+m.Rope), float64(m.Hidden)) +
		k.gemm(1, r.Tokens, float64(m.Heads*(m.Nope+m.Rope)), float64(m.QRank)) +
		k.gemm(1, r.Tokens+r.Cached, float64(m.Heads*(m.Nope+m.Value)), float64(m.KVRank)) +
		core + k.gemm(1, r.Tokens, float64(m.Hidden), float64(m.Heads*m.Value)) +
		float64(k.AttnToken*r.Tokens)/k.bytes
	return all, core
}

// PrefillShared is the seconds of one layer's shared expert on tokens.
func (k *Kernels) PrefillShared(tokens float64) float64 {
	return k.shared(tokens) + float64(k.SharedTok*tokens)/k.bytes
}

// PrefillExperts is the seconds of one layer's experts on a GPU that got rows
// tokens over its slots.
func (k *Kernels) PrefillExperts(rows float64, slots int) float64 {
	return k.experts(rows, slots) + float64(k.MLPToken*rows/float64(k.TopK))/k.bytes
}

// PrefillNetwork is the seconds of a dispatch and a combine: tokens of the
// busiest sender, mean of all, and the busiest receiver against the mean.
func (k *Kernels) PrefillNetwork(tokens, mean, received float64, nodes int) (dispatch, combine float64) {
	return k.normal(tokens, mean, received, k.dispatchBytes(), nodes), k.normal(tokens, mean, received, k.combineBytes(), nodes)
}

// PrefillDense is the seconds of one layer without experts on one micro-batch.
func (k *Kernels) PrefillDense(attention, tokens float64) float64 { return attention + k.dense(tokens) }

// DecodeRank is what one rank holds in one micro-batch of decode.
type DecodeRank struct {
	Requests float64
	KV       float64 // tokens of KV in all
	Queries  float64 // tokens verified a request and step
}

// DecodeBefore is the seconds of one layer's shared expert and its attention up
// to the core, on tokens.
func (k *Kernels) DecodeBefore(tokens float64) float64 {
	m := &k.Model
	if tokens <= 0 {
		return 0
	}
	return k.shared(tokens) + k.DecodeS + k.decodeA0(tokens, m)
}

func (k *Kernels) decodeA0(tokens float64, m *Model) float64 {
	return k.gemm(1, tokens, float64(m.QRank+m.KVRank+m.Rope), float64(m.Hidden)) +
		k.gemm(1, tokens, float64(m.Heads*(m.Nope+m.Rope)), float64(m.QRank)) +
		k.bmm(float64(m.Heads), tokens, float64(m.KVRank), float64(m.Nope)) + k.DecodeA0
}

// DecodeCore is the seconds of one layer's core attention.
func (k *Kernels) DecodeCore(r DecodeRank) float64 {
	if r.Requests <= 0 {
		return 0
	}
	compute := r.KV * r.Queries * k.latentFLOP() / (k.Factors.Decode * k.flopBF16)
	read := r.KV * k.latentBytes() / (k.KVRead * k.bytes)
	return max(compute, read) + k.Factors.DecodeCore
}

// DecodeProjection is the seconds of one layer's attention after the core.
func (k *Kernels) DecodeProjection(tokens float64) float64 {
	m := &k.Model
	if tokens <= 0 {
		return 0
	}
	return k.bmm(float64(m.Heads), tokens, float64(m.Value), float64(m.KVRank)) +
		k.gemm(1, tokens, float64(m.Hidden), float64(m.Heads*m.Value)) + k.DecodeA1
}

// DecodeExperts is the seconds of one layer's experts on a GPU that got rows
// tokens over its slots.
func (k *Kernels) DecodeExperts(rows float64, slots int) float64 {
	return k.Factors.DecodeExperts*k.experts(rows, slots) + k.DecodeMLP
}

// DecodeNetwork is the seconds of a dispatch and a combine whose busiest GPU
// sends or receives so many copies of tokens.
func (k *Kernels) DecodeNetwork(copies float64, ranks int) (dispatch, combine float64) {
	return k.lowLatency(copies, k.dispatchBytes(), k.LowStartD, ranks), k.lowLatency(copies, k.combineBytes(), k.LowStartK, ranks)
}

// DecodeDense is the seconds of one layer without experts on tokens, less its
// core attention.
func (k *Kernels) DecodeDense(tokens float64) float64 {
	return k.decodeA0(tokens, &k.Model) + k.DecodeProjection(tokens) + k.dense(tokens)
}

// Head is the seconds of the product with the vocabulary.
func (k *Kernels) Head(tokens float64) float64 {
	return k.bmm(1, tokens, float64(k.Vocabulary), float64(k.Hidden))
}

func (k *Kernels) shared(tokens float64) float64 {
	h, i := float64(k.Hidden), float64(k.Intermediate*k.SharedExperts)
	return k.gemm(1, tokens, 2*i, h) + k.gemm(1, tokens, h, i)
}

func (k *Kernels) dense(tokens float64) float64 {
	h, i := float64(k.Hidden), float64(k.DenseIntermediate)
	return k.gemm(1, tokens, 2*i, h) + k.gemm(1, tokens, h, i)
}

// experts is the two grouped products of a GPU's slots; weights are read in
// full, however few rows there are.
func (k *Kernels) experts(rows float64, slots int) float64 {
	if rows <= 0 {
		return 0
	}
	h, i := float64(k.Hidden), float64(k.Intermediate)
	g := math.Min(float64(slots), rows)
	return k.gemm(g, rows/g, 2*i, h) + k.gemm(g, rows/g, h, i)
}
