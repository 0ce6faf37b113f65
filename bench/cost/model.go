package cost

import (
	"fmt"
	"strings"

	"github.com/moelb/moelb/placement"
)

// Model is the shape of a Mixture-of-Experts model, as far as its time and memory
// go. Its attention is latent (KVRank > 0) or grouped (KVHeads > 0).
type Model struct {
	placement.Model
	Heads             int
	QRank, KVRank     int // latent: ranks of the query's (0 = none) and of the KV latent
	Rope, Nope, Value int // latent: dimensions a head: rotary, without position, value
	KVHeads, HeadDim  int // grouped: heads of keys and values, and their dimension
	// Sparse attention: how many tokens a query attends to, picked by an indexer of
	// so many heads and dimensions; 0 = all.
	Attended, IndexHeads, IndexDim int
	// Window is how many tokens WindowLayers of the layers attend to; the others to
	// all.
	Window, WindowLayers int
	DenseIntermediate    int
	Vocabulary           int
	GroupsPerToken       int // groups that a token's experts may come from
	SharedExperts        int
	ExpertBits           int // of an expert's weights as published: 4, 8 or 16
	AttentionBits        int // of all other weights: 8 or 16
}

func latent(m placement.Model) Model {
	return Model{Model: m, Heads: 128, QRank: 1536, KVRank: 512, Rope: 64, Nope: 128, Value: 128, DenseIntermediate: 18432, Vocabulary: 129280, GroupsPerToken: 4, SharedExperts: 1, ExpertBits: 8, AttentionBits: 8}
}

// DeepSeekV3 is DeepSeek-V3 and R1 (config.json of the release).
func DeepSeekV3() Model { return latent(placement.DeepSeekV3()) }

// Models lists the presets, each by the config.json of its release.
func Models() []Model {
	v32 := DeepSeekV3()
	v32.Name, v32.Attended, v32.IndexHeads, v32.IndexDim = "deepseek-v3.2", 2048, 64, 128
	k2 := latent(placement.KimiK2())
	k2.Heads, k2.Vocabulary, k2.GroupsPerToken = 64, 163840, 1
	lite := Model{Model: placement.DeepSeekV2Lite(), Heads: 16, KVRank: 512, Rope: 64, Nope: 128, Value: 128, DenseIntermediate: 10944, Vocabulary: 102400, GroupsPerToken: 1, SharedExperts: 2, ExpertBits: 16, AttentionBits: 16}
	qwen := Model{Model: placement.Qwen3_235B(), Heads: 64, KVHeads: 4, HeadDim: 128, Vocabulary: 151936, GroupsPerToken: 1, ExpertBits: 16, AttentionBits: 16}
	glm := Model{Model: placement.Model{Name: "glm-4.5", Layers: 89, DenseLayers: 3, Experts: 160, TopK: 8, Groups: 1, Hidden: 5120, Intermediate: 1536, WeightBytes: 2},
		Heads: 96, KVHeads: 8, HeadDim: 128, DenseIntermediate: 12288, Vocabulary: 151552, GroupsPerToken: 1, SharedExperts: 1, ExpertBits: 16, AttentionBits: 16}
	oss := Model{Model: placement.Model{Name: "gpt-oss-120b", Layers: 36, Experts: 128, TopK: 4, Groups: 1, Hidden: 2880, Intermediate: 2880, WeightBytes: 1},
		Heads: 64, KVHeads: 8, HeadDim: 64, Window: 128, WindowLayers: 18, Vocabulary: 201088, GroupsPerToken: 1, ExpertBits: 4, AttentionBits: 16}
	return []Model{DeepSeekV3(), v32, k2, qwen, glm, lite, oss}
}

// FindModel returns a preset by its name; deepseek-r1 is deepseek-v3.
func FindModel(name string) (Model, error) {
	var names []string
	if strings.EqualFold(name, "deepseek-r1") {
		name = "deepseek-v3"
	}
	for _, m := range Models() {
		if strings.EqualFold(m.Name, name) {
			return m, nil
		}
		names = append(names, m.Name)
	}
	return Model{}, fmt.Errorf("model: %.40q is unknown: known are %s", name, strings.Join(names, ", "))
}

// Validate returns an error that names the field of a model that cannot be.
func (m *Model) Validate() error {
	if err := m.Model.Validate(); err != nil {
		return fmt.Errorf("model: %w", err)
	}
	const most = 1 << 20
	for _, x := range []struct {
		name      string
		value     int
		low, high int
	}{
		{"layers", m.Layers, 1, 1 << 12}, {"dense_layers", m.DenseLayers, 0, 1 << 12}, {"experts", m.Experts, 1, 1 << 16}, {"hidden", m.Hidden, 1, most}, {"intermediate", m.Intermediate, 1, most},
		{"top_k", m.TopK, 1, m.Experts}, {"heads", m.Heads, 1, 1 << 16}, {"q_rank", m.QRank, 0, most}, {"kv_rank", m.KVRank, 0, most}, {"rope", m.Rope, 0, most}, {"nope", m.Nope, 0, most}, {"value", m.Value, 0, most},
		{"kv_heads", m.KVHeads, 0, m.Heads}, {"head_dim", m.HeadDim, 0, most}, {"attended", m.Attended, 0, 1 << 30}, {"index_heads", m.IndexHeads, 0, most}, {"index_dim", m.IndexDim, 0, most},
		{"window", m.Window, 0, 1 << 30}, {"window_layers", m.WindowLayers, 0, m.AllLayers()}, {"dense_intermediate", m.DenseIntermediate, 0, most}, {"vocabulary", m.Vocabulary, 1, 1 << 26},
		{"groups_per_token", m.GroupsPerToken, 0, m.Groups}, {"shared_experts", m.SharedExperts, 0, 1 << 10},
	} {
		if x.value < x.low || x.value > x.high {
			return fmt.Errorf("model: %s: %d is not between %d and %d", x.name, x.value, x.low, x.high)
		}
	}
	switch {
	case (m.KVRank > 0) == (m.KVHeads > 0):
		return fmt.Errorf("model: kv_rank %d and kv_heads %d: attention is latent or grouped, one of them is above 0", m.KVRank, m.KVHeads)
	case m.KVRank > 0 && (m.Value == 0 || m.Nope+m.Rope == 0):
		return fmt.Errorf("model: rope %d, nope %d, value %d: latent attention needs dimensions", m.Rope, m.Nope, m.Value)
	case m.KVHeads > 0 && m.HeadDim == 0:
		return fmt.Errorf("model: head_dim: 0")
	case m.ExpertBits != 4 && m.ExpertBits != 8 && m.ExpertBits != 16:
		return fmt.Errorf("model: expert_bits: %d is none of 4, 8 and 16", m.ExpertBits)
	case m.AttentionBits != 8 && m.AttentionBits != 16:
		return fmt.Errorf("model: attention_bits: %d is neither 8 nor 16", m.AttentionBits)
	}
	return nil
}

// AllLayers counts the layers with and without experts.
func (m *Model) AllLayers() int { return m.Layers + m.DenseLayers }

// kvDims is the values that one token keeps in one layer.
func (m *Model) kvDims() int {
	if m.KVHeads > 0 {
		return 2 * m.KVHeads * m.HeadDim
	}
	return m.KVRank + m.Rope
}

// KVBytes is what one token keeps in the cache: its values in every layer that
// attends to all, of so many bits, and the indexer's key. Latents in FP8 keep a
// scale for each 128 values, and the rotary part in BF16.
func (m *Model) KVBytes(bits int) int64 {
	each := m.kvDims() * bits / 8
	if bits == 8 && m.KVRank > 0 {
		each = m.KVRank + m.KVRank/128*4 + 2*m.Rope
	}
	if m.IndexDim > 0 {
		each += m.IndexDim + 4
	}
	return int64(m.AllLayers()-m.WindowLayers) * int64(each)
}

// attentionParameters is one layer's weights but for the experts.
func (m *Model) attentionParameters() int64 {
	h, heads := int64(m.Hidden), int64(m.Heads)
	if m.KVHeads > 0 {
		return h*(heads+2*int64(m.KVHeads))*int64(m.HeadDim) + h*heads*int64(m.HeadDim)
	}
	q := h * heads * int64(m.Nope+m.Rope)
	if m.QRank > 0 {
		q = h*int64(m.QRank) + int64(m.QRank)*heads*int64(m.Nope+m.Rope)
	}
	return q + h*int64(m.KVRank+m.Rope) + int64(m.KVRank)*heads*int64(m.Nope+m.Value) + h*heads*int64(m.Value) + int64(m.IndexHeads*m.IndexDim)*int64(max(m.QRank, 1)) + h*int64(m.IndexDim)
}

// expertBytes is one expert's weights of so many bits; those of 4 bits have a scale
// for each 16.
func (m *Model) expertBytes(bits int) float64 {
	parameters := 3 * float64(m.Hidden) * float64(m.Intermediate)
	if bits == 4 {
		return parameters * 9 / 16
	}
	return parameters * float64(bits) / 8
}

// WeightBytes is the memory of the weights of a GPU with so many expert slots a
// layer, of so many bits, where all but the experts is split over tp GPUs; with 1 it
// is on every GPU.
func (m *Model) WeightBytes(slots, bits, tp int) int64 {
	h := int64(m.Hidden)
	wide := int64(m.AttentionBits / 8)
	attention := m.attentionParameters() * wide / int64(max(tp, 1))
	moe := int64(m.expertBytes(bits)*float64(slots)) + 3*h*int64(m.Intermediate*m.SharedExperts)*wide/int64(max(tp, 1)) + h*int64(m.Experts)*2
	dense := 3 * h * int64(m.DenseIntermediate) * wide / int64(max(tp, 1))
	ends := 2 * h * int64(m.Vocabulary) * 2 / int64(max(tp, 1)) // embedding and head
	return int64(m.AllLayers())*attention + int64(m.Layers)*moe + int64(m.DenseLayers)*dense + ends
}

// pairFLOP is core attention of one query-key pair in prefill, over all heads.
func (m *Model) pairFLOP() float64 {
	if m.KVHeads > 0 {
		return float64(4 * m.Heads * m.HeadDim)
	}
	return float64(2 * m.Heads * (m.Nope + m.Rope + m.Value))
}

// cachedFLOP is the same in decode, where queries meet latents themselves.
func (m *Model) cachedFLOP() float64 {
	if m.KVHeads > 0 {
		return float64(4 * m.Heads * m.HeadDim)
	}
	return float64(2 * m.Heads * (2*m.KVRank + m.Rope))
}

// indexFLOP is the indexer's work on one query-key pair.
func (m *Model) indexFLOP() float64 { return float64(2 * m.IndexHeads * m.IndexDim) }

// dispatchBytes is one copy of a token on its way to an expert, with a scale for
// each 128 values (FP8) or 16 (FP4). combineBytes is one on its way back: BF16.
func (m *Model) dispatchBytes(bits int) float64 {
	h := float64(m.Hidden)
	switch bits {
	case 4:
		return h/2 + h/16
	case 8:
		return h + float64(m.Hidden/128*4)
	}
	return 2 * h
}
func (m *Model) combineBytes() float64 { return float64(2 * m.Hidden) }

// remoteNodes is on how many other nodes the experts of a token sit, on average,
// where traffic is even and each node holds as many groups as any other: what
// prefill sends over RDMA, one copy a node.
func (m *Model) remoteNodes(nodes int) float64 {
	if nodes <= 1 {
		return 0
	}
	groups, chosen := max(m.Groups, 1), max(min(m.GroupsPerToken, m.Groups), 1)
	miss := 0.0 // chance that a given node holds none of them
	if groups%nodes == 0 && groups > 1 {
		here, each := groups/nodes, m.Experts/groups
		for j := max(0, chosen-(groups-here)); j <= min(here, chosen); j++ {
			miss += choose(here, j) * choose(groups-here, chosen-j) / choose(groups, chosen) * noneOf(chosen*each, j*each, m.TopK)
		}
	} else {
		miss = noneOf(m.Experts, m.Experts/nodes, m.TopK)
	}
	return float64(nodes-1) * (1 - miss)
}

// gpusPerToken is on how many of a unit's GPUs a token's experts sit, on average,
// where they may be on any of so many.
func (m *Model) gpusPerToken(gpus int, among float64) float64 {
	each := float64(max(1, m.Experts/gpus))
	miss, left := 1.0, float64(among*each) // chance that a given GPU holds none of them
	for range m.TopK {
		miss *= max(0, left-each) / max(left, 1)
		left = max(0, left-1)
	}
	return among * (1 - miss)
}

// choose is the number of ways to take k of n.
func choose(n, k int) float64 {
	x := 1.0
	for i := range k {
		x = x * float64(n-i) / float64(i+1)
	}
	return x
}

// noneOf is the chance that k of n, taken without putting back, miss all of
// marked ones.
func noneOf(n, marked, k int) float64 {
	x := 1.0
	for i := range k {
		x *= max(0, float64(n-marked-i)) / float64(n-i)
	}
	return x
}
