package cost

import "github.com/moelb/moelb/placement"

// Model is the shape of a Mixture-of-Experts model with latent attention, as
// far as its time and memory go.
type Model struct {
	placement.Model
	QRank, KVRank     int // ranks of the query's and of the KV latent
	Rope, Nope, Value int // dimensions a head: rotary, without position, value
	Heads             int
	DenseIntermediate int
	Vocabulary        int
	GroupsPerToken    int // groups that a token's experts may come from
	SharedExperts     int
}

// DeepSeekV3 is DeepSeek-V3 and R1 (config.json of the release).
func DeepSeekV3() Model {
	return Model{
		Model: placement.DeepSeekV3(),
		QRank: 1536, KVRank: 512, Rope: 64, Nope: 128, Value: 128, Heads: 128,
		DenseIntermediate: 18432, Vocabulary: 129280, GroupsPerToken: 4, SharedExperts: 1,
	}
}

// AllLayers counts the layers with and without experts.
func (m *Model) AllLayers() int { return m.Layers + m.DenseLayers }

// KVBytes is what one token keeps in the cache: its BF16 latent in every layer.
func (m *Model) KVBytes() int64 {
	return int64(m.AllLayers()) * int64(m.KVRank+m.Rope) * 2
}

// WeightBytes is the memory of the weights of a GPU with so many expert slots a
// layer; all else is on every GPU.
func (m *Model) WeightBytes(slots int) int64 {
	h := int64(m.Hidden)
	attention := h*int64(m.QRank+m.KVRank+m.Rope) + int64(m.QRank)*int64(m.Heads*(m.Nope+m.Rope)) +
		int64(m.KVRank)*int64(m.Heads*(m.Nope+m.Value)) + h*int64(m.Heads*m.Value)
	moe := m.ExpertBytes()*int64(slots+m.SharedExperts) + h*int64(m.Experts)*2
	dense := 3 * h * int64(m.DenseIntermediate)
	ends := 2 * h * int64(m.Vocabulary) * 2 // embedding and head
	return int64(m.AllLayers())*attention + int64(m.Layers)*moe + int64(m.DenseLayers)*dense + ends
}

// pairFLOP is core attention of one query-key pair in prefill, over all heads.
func (m *Model) pairFLOP() float64 { return float64(2 * m.Heads * (m.Nope + m.Rope + m.Value)) }

// latentFLOP is the same in decode, where queries meet the latents themselves.
func (m *Model) latentFLOP() float64 { return float64(2 * m.Heads * (2*m.KVRank + m.Rope)) }

// latentBytes is what decode reads of a KV token in one layer.
func (m *Model) latentBytes() float64 { return float64(2 * (m.KVRank + m.Rope)) }

// dispatchBytes is one copy of a token on its way to an expert: FP8 with a scale
// for each 128 values. combineBytes is one on its way back: BF16.
func (m *Model) dispatchBytes() float64 { return float64(m.Hidden) + float64(m.Hidden/128*4) }
func (m *Model) combineBytes() float64  { return float64(2 * m.Hidden) }

// remoteNodes is on how many other nodes the experts of a token sit, on average,
// where traffic is even and each node holds as many groups as any other: what
// prefill sends over RDMA, one copy a node.
func (m *Model) remoteNodes(nodes int) float64 {
	if nodes <= 1 {
		return 0
	}
	groups, chosen := max(m.Groups, 1), max(min(m.GroupsPerToken, m.Groups), 1)
	miss := 0.0 // chance that a given node holds none of them
	if groups%nodes == 0 {
		here, each := groups/nodes, m.Experts/groups
		for j := max(0, chosen-(groups-here)); j <= min(here, chosen); j++ {
			miss += choose(here, j) * choose(groups-here, chosen-j) / choose(groups, chosen) * noneOf(chosen*each, j*each, m.TopK)
		}
	} else {
		miss = noneOf(m.Experts, m.Experts/nodes, m.TopK)
	}
	return float64(nodes-1) * (1 - miss)
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
