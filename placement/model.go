package placement

// Model is the shape of a Mixture-of-Experts model, as far as placing experts
// needs it.
type Model struct {
	Name         string
	Layers       int // MoE layers
	DenseLayers  int // layers before them without experts; engines number layers over both
	Experts      int // routed experts a layer
	TopK         int // experts a token is routed to
	Groups       int // groups of group-limited routing; 1 = none
	Hidden       int // model dimension
	Intermediate int // an expert's inner dimension
	WeightBytes  int // bytes a parameter of an expert as served: 1 for FP8, 2 for BF16
}

// ExpertBytes is the size of one expert's weights in one layer: three matrices
// of Hidden x Intermediate. Quantisation scales (about 0.01% in FP8 blocks of
// 128 x 128) are left out.
func (m *Model) ExpertBytes() int64 {
	return 3 * int64(m.Hidden) * int64(m.Intermediate) * int64(m.WeightBytes)
}

// Validate returns an *Error for a shape with a count below 1.
func (m *Model) Validate() error {
	for _, f := range []struct {
		name string
		v    int
		min  int
	}{
		{"layers", m.Layers, 1}, {"dense_layers", m.DenseLayers, 0}, {"experts", m.Experts, 1}, {"top_k", m.TopK, 1},
		{"groups", m.Groups, 1}, {"hidden", m.Hidden, 1}, {"intermediate", m.Intermediate, 1}, {"weight_bytes", m.WeightBytes, 1},
	} {
		if f.v < f.min {
			return errorf(ErrValue, f.name, -1, -1, "%d: at least %d is needed", f.v, f.min)
		}
	}
	if m.Experts%m.Groups != 0 {
		return errorf(ErrShape, "groups", -1, -1, "%d experts cannot be shared evenly by %d groups", m.Experts, m.Groups)
	}
	return nil
}

// DeepSeekV3 is DeepSeek-V3 and R1, served in FP8 (config.json of the release).
func DeepSeekV3() Model {
	return Model{Name: "deepseek-v3", Layers: 58, DenseLayers: 3, Experts: 256, TopK: 8, Groups: 8, Hidden: 7168, Intermediate: 2048, WeightBytes: 1}
}

// DeepSeekV2Lite is DeepSeek-V2-Lite, served in BF16 (config.json of the release).
func DeepSeekV2Lite() Model {
	return Model{Name: "deepseek-v2-lite", Layers: 26, DenseLayers: 1, Experts: 64, TopK: 6, Groups: 1, Hidden: 2048, Intermediate: 1408, WeightBytes: 2}
}

// Qwen3_235B is Qwen3-235B-A22B, served in BF16 (config.json of the release).
func Qwen3_235B() Model {
	return Model{Name: "qwen3-235b", Layers: 94, Experts: 128, TopK: 8, Groups: 1, Hidden: 4096, Intermediate: 1536, WeightBytes: 2}
}

// KimiK2 is Kimi K2, served in FP8 (config.json of the release).
func KimiK2() Model {
	return Model{Name: "kimi-k2", Layers: 60, DenseLayers: 1, Experts: 384, TopK: 8, Groups: 1, Hidden: 7168, Intermediate: 2048, WeightBytes: 1}
}

// Models lists the presets, in the order of their release.
func Models() []Model { return []Model{DeepSeekV2Lite(), DeepSeekV3(), Qwen3_235B(), KimiK2()} }
