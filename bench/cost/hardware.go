package cost

import (
	"fmt"
	"strings"
)

// GPU is a kind of GPU by its data sheet, and how nodes of it are joined.
type GPU struct {
	Name    string  `json:"name"`
	SMs     int     `json:"sms"`
	CommSMs int     `json:"comm_sms"`  // of them that prefill's kernels of communication take beside computing
	FP8     float64 `json:"fp8_flops"` // FLOP a second, dense
	BF16    float64 `json:"bf16_flops"`
	FP4     float64 `json:"fp4_flops"`        // 0 = FP4 weights are computed as FP8
	HBM     float64 `json:"memory_bandwidth"` // bytes a second
	Memory  float64 `json:"memory_bytes"`
	NVLink  float64 `json:"nvlink_bandwidth"` // bytes a second, GPU and direction
	RDMA    float64 `json:"rdma_bandwidth"`
	Node    int     `json:"gpus_per_node"`
	Domain  int     `json:"gpus_per_nvlink_domain"`
	USDHour float64 `json:"usd_per_hour"` // an assumption: prices differ by contract
	Source  string  `json:"source"`
	// Reach is what kernels reach of the data sheet against what H800's reach of
	// theirs.
	Reach Reach `json:"reach"`
	// Checked: the efficiency factors were measured on this kind. On others they
	// are scaled by the data sheet.
	Checked bool `json:"checked"`
}

// Reach is shares of H800's shares; 0 = 1, as on H800.
type Reach struct {
	GEMM    float64 `json:"gemm"`
	Prefill float64 `json:"prefill_attention"`
	Decode  float64 `json:"decode_attention"`
	Memory  float64 `json:"memory"`
	Weights float64 `json:"weights"` // reading weights, over Memory
	NVLink  float64 `json:"nvlink"`
	// Step is what all of a step reaches of what its parts do, in prefill and in decode.
	PrefillStep float64 `json:"prefill_step"`
	DecodeStep  float64 `json:"decode_step"`
	Source      string  `json:"source"`
	// Fitted names the published system that set them; "" = kernels did.
	Fitted string `json:"fitted"`
}

func orOne(x float64) float64 {
	if x == 0 {
		return 1
	}
	return x
}

// Kernel figures of other GPUs than H800, against what H800's kernels reach of its
// data sheet: GEMM 1310 of 1979 TFLOP/s, prefill attention 655 of 989, decode
// attention 580 of 989.
var (
	h20Reach = Reach{Weights: 1884e9 / (2.90e12 * 4.0 / 3.35), GEMM: .86 / (1310.0 / 1979), Prefill: 107.8 / 148 / (655.0 / 989), Decode: 127.0 / 148 / (580.0 / 989),
		Source: "FlashMLA issue 30 (125 to 130 of 148 TFLOP/s), FlashAttention issue 1310 (107.8, 128 wide, causal, 2,048 long); DeepGEMM pull request 116 (9 groups of 32 rows: 1,884 GB/s); GEMM computing as FlashMLA: a chip that is not short of power"}
	blackwellReach = Reach{PrefillStep: .854, DecodeStep: .780, Source: "H800's shares of the data sheet, and the share of a step that SGLang reached in BF16 and FP8 (2025-09-25)", Fitted: "SGLang on GB200, part II, BF16 and FP8: 18,471 and 9,087 tokens/s a GPU"}
	ascendReach    = Reach{GEMM: .80 / (1310.0 / 1979), Decode: .654 / (580.0 / 989), Memory: .841 / (3.0 / 3.35), NVLink: 1, PrefillStep: .810,
		Source: "operators of CloudMatrix-Infer, arXiv 2506.12708: INT8 GEMM 77 to 83%, MLA 65.4% of computing and 84.1% of bandwidth", Fitted: "CloudMatrix-Infer's prefill on even experts, 6,688 tokens/s an NPU"}
)

// GPUs lists the presets.
func GPUs() []GPU {
	const g, t = 1e9, 1e12
	return []GPU{
		{"h800", 132, 24, 1979 * t, 989 * t, 0, 3.35 * t, 80 * g, 200 * g, 50 * g, 8, 8, 2, "data sheet; 8 x 400 Gb/s a node", Reach{}, true},
		{"h100", 132, 24, 1979 * t, 989 * t, 0, 3.35 * t, 80 * g, 450 * g, 50 * g, 8, 8, 2.5, "data sheet; kernels as on H800", Reach{}, true},
		{"h200", 132, 24, 1979 * t, 989 * t, 0, 4.8 * t, 141 * g, 450 * g, 50 * g, 8, 8, 3, "data sheet", Reach{}, false},
		{"h20", 78, 24, 296 * t, 148 * t, 0, 4.0 * t, 102 * g, 450 * g, 25 * g, 8, 8, 1.3, "Ant Group's report of 2025-09-26; 4 x 400 Gb/s a node", h20Reach, false},
		{"b200", 148, 24, 4500 * t, 2250 * t, 9000 * t, 8 * t, 180 * g, 900 * g, 50 * g, 8, 8, 4.5, "data sheet", blackwellReach, false},
		{"gb200", 148, 24, 5000 * t, 2500 * t, 10000 * t, 8 * t, 186 * g, 900 * g, 50 * g, 4, 72, 5, "data sheet; 18 nodes in one NVLink domain", blackwellReach, false},
		{"gb300", 148, 24, 5000 * t, 2500 * t, 15000 * t, 8 * t, 288 * g, 900 * g, 100 * g, 4, 72, 6, "data sheet; 18 nodes in one NVLink domain", blackwellReach, false},
		{"mi300x", 304, 48, 2615 * t, 1307 * t, 0, 5.3 * t, 192 * g, 448 * g, 50 * g, 8, 8, 2.2, "data sheet; 8 x 400 Gb/s a node", Reach{}, false},
		{"ascend910c", 24, 0, 752 * t, 376 * t, 0, 1.6 * t, 64 * g, 196 * g, 25 * g, 16, 768, 1, "arXiv 2506.12708, a die; INT8 as FP8; one unified bus", ascendReach, false},
	}
}

// FindGPU returns a preset by its name.
func FindGPU(name string) (GPU, error) {
	var names []string
	for _, g := range GPUs() {
		if strings.EqualFold(g.Name, name) {
			return g, nil
		}
		names = append(names, g.Name)
	}
	return GPU{}, fmt.Errorf("gpu: %.40q is unknown: known are %s", name, strings.Join(names, ", "))
}

// Validate returns an error that names the field of a GPU that cannot be.
func (g *GPU) Validate() error {
	for _, x := range []struct {
		name      string
		value     float64
		low, high float64
	}{
		{"sms", float64(g.SMs), 1, 1 << 16}, {"comm_sms", float64(g.CommSMs), 0, float64(g.SMs) - 1}, {"fp8_flops", g.FP8, 1e9, 1e20}, {"bf16_flops", g.BF16, 1e9, 1e20}, {"fp4_flops", g.FP4, 0, 1e20},
		{"memory_bandwidth", g.HBM, 1e6, 1e18}, {"memory_bytes", g.Memory, 1e6, 1e18}, {"nvlink_bandwidth", g.NVLink, 1e6, 1e18}, {"rdma_bandwidth", g.RDMA, 1e6, 1e18},
		{"gpus_per_node", float64(g.Node), 1, 1 << 10}, {"gpus_per_nvlink_domain", float64(g.Domain), 1, 1 << 16}, {"usd_per_hour", g.USDHour, 0, 1e6},
		{"reach.gemm", g.Reach.GEMM, 0, 10}, {"reach.prefill_attention", g.Reach.Prefill, 0, 10}, {"reach.decode_attention", g.Reach.Decode, 0, 10}, {"reach.memory", g.Reach.Memory, 0, 10}, {"reach.prefill_step", g.Reach.PrefillStep, 0, 10}, {"reach.decode_step", g.Reach.DecodeStep, 0, 10}, {"reach.weights", g.Reach.Weights, 0, 10}, {"reach.nvlink", g.Reach.NVLink, 0, 10},
	} {
		if !(x.value >= x.low && x.value <= x.high) {
			return fmt.Errorf("gpu: %s: %v is not between %g and %g", x.name, x.value, x.low, x.high)
		}
	}
	if g.Domain%g.Node != 0 {
		return fmt.Errorf("gpu: gpus_per_nvlink_domain: %d is no multiple of %d GPUs a node", g.Domain, g.Node)
	}
	return nil
}
