package cost

// Factors are the numbers between the data sheets and what kernels reach, on
// H800; other GPUs scale them by their data sheets. Rates are a second.
type Factors struct {
	GEMM       float64 // FLOP of an FP8 GEMM
	BF16       float64 // FLOP of a BF16 GEMM
	GEMMMemory float64 // bytes that a GEMM reads or writes
	GEMMStart  float64 // seconds a GEMM takes, however small
	Prefill    float64 // FLOP of core attention in prefill
	Decode     float64 // FLOP of core attention in decode
	KVRead     float64 // bytes of KV read in decode

	Wire         float64 // bytes over RDMA, normal kernels
	Overlap      float64 // how much longer they take beside computation
	NVLinkNormal float64 // bytes over NVLink, normal kernels
	ReduceStart  float64 // seconds it takes to add up parts over NVLink, however small
	FP8Attention float64 // how much faster attention is in FP8
	NVLinkLeg    float64 // share of the RDMA leg that the NVLink leg takes, all even
	LowRDMA      float64 // bytes over RDMA, low-latency kernels
	LowNVLink    float64 // bytes over NVLink, low-latency kernels
	LowStartD    float64 // seconds a dispatch takes, however small
	LowStartK    float64 // seconds a combine takes, however small
	AttnToken    float64 // seconds of element-wise work in prefill: attention, a token
	SharedTok    float64 // the same, shared expert
	MLPToken     float64 // the same, routed experts
	DecodeA0     float64 // seconds of small kernels in decode: before core attention,
	DecodeCore   float64 // of core attention,
	DecodeA1     float64 // after it,
	DecodeMLP    float64 // of the routed experts,
	DecodeS      float64 // of the shared expert

	Host          float64 // seconds between the steps of decode
	DecodeExperts float64 // how much longer decode's grouped GEMMs take
	DecodeComm    float64 // how much longer decode's communication takes
	PrefillShare  float64 // share of the modelled throughput that prefill reaches
}

// Factor is one of them with where it comes from.
type Factor struct {
	Name   string
	Value  float64
	Unit   string
	Source string
	// Fitted names the figure that the factor was chosen to reproduce; "" = it
	// was measured or published apart from any throughput.
	Fitted string
	// Phases: "prefill", "decode", or both as "".
	Phase string
	at    func(*Factors) *float64
}

const (
	deepGEMM = "law through the 28 rows of DeepGEMM's published table (rms 9%)"
	deepEP   = "law through DeepEP's published table (within 7%)"
	trace    = "DeepSeek's published training trace"
	kernels  = "third-party kernel table of DeepSeek's decode profile"
)

// factors is the one table of the model's numbers.
var factors = []Factor{
	{"gemm", 1310e12, "FLOP/s", deepGEMM, "", "", func(f *Factors) *float64 { return &f.GEMM }},
	{"gemm_bf16", 655e12, "FLOP/s", "half of gemm", "", "decode", func(f *Factors) *float64 { return &f.BF16 }},
	{"gemm_memory", 2.90e12, "B/s", deepGEMM, "", "", func(f *Factors) *float64 { return &f.GEMMMemory }},
	{"gemm_start", 2.5e-6, "s", deepGEMM, "", "", func(f *Factors) *float64 { return &f.GEMMStart }},
	{"prefill_attention", 655e12, "FLOP/s", trace + ", per 132 SMs", "", "prefill", func(f *Factors) *float64 { return &f.Prefill }},
	{"decode_attention", 580e12, "FLOP/s", "FlashMLA, published February 2025", "", "decode", func(f *Factors) *float64 { return &f.Decode }},
	{"kv_read", 3.0e12, "B/s", "FlashMLA, published February 2025", "", "decode", func(f *Factors) *float64 { return &f.KVRead }},
	{"wire", 43.8e9, "B/s", "DeepEP's published table, less the own node", "", "prefill", func(f *Factors) *float64 { return &f.Wire }},
	{"overlap", 1.5, "x", trace + " against DeepEP's table", "", "prefill", func(f *Factors) *float64 { return &f.Overlap }},
	{"nvlink_leg", 0.72, "x", "DeepEP's bandwidths at even traffic", "", "prefill", func(f *Factors) *float64 { return &f.NVLinkLeg }},
	{"nvlink_normal", 155e9, "B/s", "DeepEP's published table, 8 GPUs", "", "prefill", func(f *Factors) *float64 { return &f.NVLinkNormal }},
	{"reduce_start", 10e-6, "s", "FlashInfer pull request 2696, one-shot all-reduce of 64 tokens on 4 GPUs, 11 µs, less their bytes (10 µs on 2 H100, vLLM pull request 22086)", "", "", func(f *Factors) *float64 { return &f.ReduceStart }},
	{"fp8_attention", 1.7, "x", "FlashMLA pull request 82: FP8 against BF16 (1.8 in SGLang's GB200 report)", "", "", func(f *Factors) *float64 { return &f.FP8Attention }},
	{"low_latency_rdma", 42.25e9, "B/s", deepEP, "", "decode", func(f *Factors) *float64 { return &f.LowRDMA }},
	{"low_latency_nvlink", 130e9, "B/s", deepEP, "", "decode", func(f *Factors) *float64 { return &f.LowNVLink }},
	{"dispatch_start", 25e-6, "s", deepEP, "", "decode", func(f *Factors) *float64 { return &f.LowStartD }},
	{"combine_start", 18e-6, "s", deepEP, "", "decode", func(f *Factors) *float64 { return &f.LowStartK }},
	{"attention_token", 0.219e-6, "s", trace + ", element-wise kernels", "", "prefill", func(f *Factors) *float64 { return &f.AttnToken }},
	{"shared_token", 0.0159e-6, "s", trace + ", a tenth of mlp_token: one expert, nothing to permute", "", "prefill", func(f *Factors) *float64 { return &f.SharedTok }},
	{"mlp_token", 0.159e-6, "s", trace + ", element-wise kernels", "", "prefill", func(f *Factors) *float64 { return &f.MLPToken }},
	{"small_a0", 15e-6, "s", kernels, "", "decode", func(f *Factors) *float64 { return &f.DecodeA0 }},
	{"small_core", 5e-6, "s", kernels, "", "decode", func(f *Factors) *float64 { return &f.DecodeCore }},
	{"small_a1", 24e-6, "s", kernels, "", "decode", func(f *Factors) *float64 { return &f.DecodeA1 }},
	{"small_mlp", 8e-6, "s", kernels, "", "decode", func(f *Factors) *float64 { return &f.DecodeMLP }},
	{"small_shared", 6e-6, "s", kernels, "", "decode", func(f *Factors) *float64 { return &f.DecodeS }},
	{"host", 2e-3, "s", "RTP-LLM's report: its host takes 2 ms less than the decode profile's, so at least that", "", "decode", func(f *Factors) *float64 { return &f.Host }},
	{"decode_experts", 1.30, "x", kernels, "the decode profile (after the rows without it were seen)", "decode", func(f *Factors) *float64 { return &f.DecodeExperts }},
	{"decode_comm", 1.07, "x", kernels, "the decode profile (after the rows without it were seen)", "decode", func(f *Factors) *float64 { return &f.DecodeComm }},
	{"prefill_share", 0.94, "x", "62,713 tokens a second and node of DeepSeek's prefill profile", "the prefill profile's 62,713 tokens/s a node", "prefill", func(f *Factors) *float64 { return &f.PrefillShare }},
}

// Calibrated are all the factors; Tables are those that were measured or
// published apart from any throughput, with the fitted ones neutral.
func Calibrated() Factors { return build(true) }
func Tables() Factors     { return build(false) }

func build(fitted bool) Factors {
	var f Factors
	for _, x := range factors {
		switch {
		case fitted || x.Fitted == "":
			*x.at(&f) = x.Value
		case x.Unit == "x":
			*x.at(&f) = 1
		}
	}
	return f
}

// List names the factors of a phase with the values that they have in f.
func (f *Factors) List(phase Phase) []Factor {
	var out []Factor
	for _, x := range factors {
		if x.Phase == "" || x.Phase == phase.String() {
			x.Value = *x.at(f)
			out = append(out, x)
		}
	}
	return out
}
