package placement

import (
	"errors"
	"testing"
)

// TestModels holds the presets against the config.json of each release. The
// layers there are all transformer layers; the first dense ones have no experts.
func TestModels(t *testing.T) {
	for i, want := range []struct {
		name                              string
		hiddenLayers, dense               int // num_hidden_layers, first_k_dense_replace
		routed, perToken, group           int // n_routed_experts (num_experts), num_experts_per_tok, n_group
		hidden, intermediate, weightBytes int // hidden_size, moe_intermediate_size, FP8 or BF16
		routedParameters                  float64
	}{
		// All experts' parameters, in billions, from the sizes the releases state:
		// 671 B, 15.7 B, 235 B and 1,040 B are the whole models, mostly experts.
		{"deepseek-v2-lite", 27, 1, 64, 6, 1, 2048, 1408, 2, 14.4},
		{"deepseek-v3", 61, 3, 256, 8, 8, 7168, 2048, 1, 653.9},
		{"qwen3-235b", 94, 0, 128, 8, 1, 4096, 1536, 2, 227.1},
		{"kimi-k2", 61, 1, 384, 8, 1, 7168, 2048, 1, 1014.7},
	} {
		m := Models()[i]
		got := want
		got.name, got.hiddenLayers, got.dense = m.Name, m.Layers+m.DenseLayers, m.DenseLayers
		got.routed, got.perToken, got.group = m.Experts, m.TopK, m.Groups
		got.hidden, got.intermediate, got.weightBytes = m.Hidden, m.Intermediate, m.WeightBytes
		if got != want {
			t.Errorf("preset %d is %+v, want %+v", i, got, want)
		}
		if err := m.Validate(); err != nil {
			t.Errorf("%s: %v", m.Name, err)
		}
		billions := float64(m.ExpertBytes()) / float64(m.WeightBytes) * float64(m.Experts) * float64(m.Layers) / 1e9
		if d := billions - want.routedParameters; d < -.1 || d > .1 {
			t.Errorf("%s: %.1f billion parameters in its experts, want %.1f", m.Name, billions, want.routedParameters)
		}
	}
}

func TestExpertBytes(t *testing.T) {
	v3, lite := DeepSeekV3(), DeepSeekV2Lite()
	if got := v3.ExpertBytes(); got != 44_040_192 { // the 44.04 MB of the published kernel shapes
		t.Errorf("an expert of DeepSeek-V3 has %d bytes", got)
	}
	if got := lite.ExpertBytes(); got != 17_301_504 {
		t.Errorf("an expert of DeepSeek-V2-Lite has %d bytes", got)
	}
}

func TestModelValidate(t *testing.T) {
	for _, x := range []struct {
		spoil func(*Model)
		kind  error
		want  string
	}{
		{func(m *Model) { m.Layers = 0 }, ErrValue, "layers: 0: at least 1 is needed"},
		{func(m *Model) { m.DenseLayers = -1 }, ErrValue, "dense_layers: -1: at least 0 is needed"},
		{func(m *Model) { m.TopK = -3 }, ErrValue, "top_k: -3: at least 1 is needed"},
		{func(m *Model) { m.Groups = 7 }, ErrShape, "groups: 256 experts cannot be shared evenly by 7 groups"},
		{func(m *Model) { m.WeightBytes = 0 }, ErrValue, "weight_bytes: 0: at least 1 is needed"},
	} {
		m := DeepSeekV3()
		x.spoil(&m)
		if err := m.Validate(); !errors.Is(err, x.kind) || err.Error() != x.want {
			t.Errorf("got %v, want %s", err, x.want)
		}
	}
}

// TestUnits holds the two published units of DeepSeek-V3/R1 against their
// description: 4 nodes of 8 H800 with 9 slots a GPU, 18 nodes with 2.
func TestUnits(t *testing.T) {
	for _, x := range []struct {
		unit               Topology
		nodes, gpus, slots int
	}{{PrefillUnit(), 4, 32, 9}, {DecodeUnit(), 18, 144, 2}} {
		if err := x.unit.Validate(); err != nil {
			t.Error(err)
		}
		if x.unit.NodeCount() != x.nodes || x.unit.GPUs != x.gpus || x.unit.InService() != x.gpus || x.gpus*x.slots != 256+32 {
			t.Errorf("%d nodes, %d GPUs: want %d and %d, with 288 slots", x.unit.NodeCount(), x.unit.GPUs, x.nodes, x.gpus)
		}
		if a, b := x.unit.Node(7), x.unit.Node(8); a != 0 || b != 1 {
			t.Errorf("GPUs 7 and 8 are on nodes %d and %d: want 8 GPUs a node", a, b)
		}
		// Usable bandwidths lie below the links' own 200 and 50 GB/s a GPU.
		if u := x.unit; !(u.NVLink > u.RDMA && u.NVLink < 200e9 && u.RDMA > 40e9 && u.RDMA < 50e9 && u.HBM == 80e9) {
			t.Errorf("NVLink %v, RDMA %v, HBM %v", u.NVLink, u.RDMA, u.HBM)
		}
	}
}
