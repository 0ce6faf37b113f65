package cost

import (
	"fmt"
	"math"
	"slices"
)

// System is a published system: what it ran on and what it reached.
type System struct {
	Name       string
	Conditions string // in words, what Unit and Batch hold
	Source     string
	Unit       Unit
	Batch      Batch
	PerGPU     float64 // tokens a second and GPU, as published; computed ones in prefill, generated ones in decode
	// Sets names the factor that was set to reproduce it; Open what was not
	// published of its conditions. Both keep it out of the errors' median.
	Sets, Open string
}

// Counted says whether the system tells how good the model is.
func (s *System) Counted() bool { return s.Sets == "" && s.Open == "" }

// Compared is a system beside its estimate.
type Compared struct {
	System
	Estimate Estimate
	Got      float64 // tokens a second and GPU
	Error    float64 // Got / PerGPU - 1
}

// Published estimates every published system, with the median and the largest
// error of those that count, by size.
func Published() (all []Compared, median, worst float64, err error) {
	var errors []float64
	for _, s := range Systems() {
		e, err := s.Unit.Estimate(s.Batch)
		if err != nil {
			return nil, 0, 0, fmt.Errorf("%s: %w", s.Name, err)
		}
		c := Compared{System: s, Estimate: e, Got: e.TokensPerNode / float64(s.Unit.GPU.Node)}
		c.Error = c.Got/s.PerGPU - 1
		all = append(all, c)
		if s.Counted() {
			errors = append(errors, math.Abs(c.Error))
		}
	}
	slices.Sort(errors)
	n := len(errors)
	return all, (errors[(n-1)/2] + errors[n/2]) / 2, errors[n-1], nil
}

// What is left of experts' imbalance once they are balanced: TensorRT-LLM measured
// a busiest of 32 GPUs at 1.11 times the mean. It is taken to grow with the
// logarithm of the GPUs. Where groups of experts stay on their node, as DeepSeek's
// and SGLang's prefill keep them, nodes are uneven too: groupedExperts is what
// brings SGLang from its throughput on perfectly even experts to that on real ones.
const (
	measuredExperts, measuredGPUs = 1.11, 32
	groupedExperts                = 1.245
)

// balanced is the busiest GPU's experts against the mean where experts were
// balanced: what is left, and how a micro-batch scatters around it.
func balanced(gpus int, rows float64) float64 {
	left := 1 + (measuredExperts-1)*math.Log2(float64(gpus))/math.Log2(measuredGPUs)
	return left * (1 + math.Sqrt(2*math.Log(float64(gpus)))/math.Sqrt(rows))
}

// run is a system's unit and batch in few words.
type run struct {
	model, gpu string
	phase      Phase
	gpus       int
	overlap    Overlap
	set        func(*Unit)
	batch      Batch
	even       bool // experts made perfectly even
	grouped    bool // groups stay on their node
}

func (r run) build() (Unit, Batch) {
	m, err := FindModel(r.model)
	if err != nil {
		panic(err) // a preset
	}
	g, err := FindGPU(r.gpu)
	if err != nil {
		panic(err)
	}
	u := Unit{Model: m, GPU: g, Factors: Calibrated(), Phase: r.phase, Nodes: (r.gpus + g.Node - 1) / g.Node, GPUs: r.gpus, Overlap: r.overlap}
	if r.set != nil {
		r.set(&u)
	}
	b := r.batch
	b.Attention, b.Senders, b.Experts, b.ExpertNodes, b.Queries = 1, 1, 1, 1, max(b.Queries, 1)
	switch {
	case r.even:
	case r.grouped:
		b.Experts, b.ExpertNodes = groupedExperts, groupedExperts
	default:
		tokens := b.Tokens
		if r.phase == DecodePhase {
			tokens = b.Requests * b.Queries
		}
		b.Experts = balanced(r.gpus, tokens*float64(m.TopK)/u.batches())
	}
	return u, b
}

const (
	overview = "DeepSeek, open-infra-index, day 6 (2025-03-01)"
	profile  = "DeepSeek profile-data, as read by LMSYS (2025-05-05)"
	lmsys    = "LMSYS, DeepSeek on 96 H100 (2025-05-05)"
	gb200I   = "LMSYS, GB200 NVL72 part I (2025-06-16)"
	gb200II  = "LMSYS, GB200 NVL72 part II (2025-09-25)"
	kimi     = "LMSYS and Mooncake, Kimi K2 on 128 H200 (2025-07-20)"
	ant      = "LMSYS and Ant Group, DeepSeek-R1 on H20 (2025-09-26)"
	rtp      = "RTP-LLM, DeepSeek Replay Tech Report"
	matrix   = "Huawei, CloudMatrix384, arXiv 2506.12708"
	vllm     = "vLLM blog (2025-12-17)"
	vllmGB   = "vLLM blog, WideEP on Blackwell (2026-02-03)"
	trtllm   = "TensorRT-LLM, best practice on DeepSeek-R1"
	semi     = "SemiAnalysis, InferenceX, configurations 81 and 83 (2025-11-02, 2026-03-25), as inference-sim records them"
)

// fp8FP4 is FP8 attention and NVFP4 experts.
func fp8FP4(u *Unit) { u.KVBits, u.ExpertBits = 8, 4 }

// Systems lists the published systems.
func Systems() []System {
	const p, d = PrefillPhase, DecodePhase
	const v3, node = "deepseek-v3", 8
	prompt := func(tokens, prompt float64) Batch { return Batch{Tokens: tokens, Prompt: prompt} }
	hold := func(requests, kv float64) Batch { return Batch{Requests: requests, KV: kv} }
	mtp := func(requests, kv, queries, acceptance float64) Batch {
		return Batch{Requests: requests, KV: kv, Queries: queries, Acceptance: acceptance}
	}
	h20 := func(u *Unit) { u.KVBits = 8 }
	die := func(u *Unit) { u.Slots = 1 }
	offload := func(slots int, low bool) func(*Unit) {
		return func(u *Unit) {
			u.Slots, u.Offload = slots, true
			if low {
				fp8FP4(u)
			}
		}
	}
	var out []System
	add := func(name, conditions, source string, perGPU float64, r run, why ...string) {
		s := System{Name: name, Conditions: conditions, Source: source, PerGPU: perGPU}
		s.Unit, s.Batch = r.build()
		if len(why) > 0 {
			s.Sets = why[0]
		}
		if len(why) > 1 {
			s.Open = why[1]
		}
		out = append(out, s)
	}
	// DeepSeek.
	add("DeepSeek prefill profile", "EP32 H800, 16,384 tokens a GPU, prompts 4K, even experts", profile, 62713.0/node, run{v3, "h800", p, 32, TwoBatch, nil, prompt(16384, 4096), true, false}, "prefill_share")
	add("DeepSeek decode profile", "EP128 H800, 128 requests of 4K a GPU, 2 tokens verified, 0.6 accepted, even experts", profile, 18598.0/node, run{v3, "h800", d, 128, TwoBatch, nil, mtp(128, 4096, 2, .6), true, false}, "decode_experts, decode_comm")
	add("DeepSeek online decode", "EP144 H800, 88 requests of 4,989 a GPU", overview, 14800.0/node, run{v3, "h800", d, 144, TwoBatch, nil, hold(88, 4989), false, false})
	add("DeepSeek online prefill", "EP32 H800, 56.3% hits, 10,660 pairs a token as ServeGen's lengths have", overview, 32206.0/node, run{v3, "h800", p, 32, TwoBatch, nil, Batch{Tokens: 16384, Prompt: 4096, Hit: .563, PairsPerToken: 10660}, false, true})
	// SGLang on Hopper.
	for _, x := range []struct {
		length  string
		prompt  float64
		perNode float64
	}{{"1K", 1024, 57674}, {"2K", 2048, 54543}} {
		add("SGLang prefill "+x.length, "EP32 H100, 16,384 tokens a GPU", lmsys, x.perNode/node, run{v3, "h100", p, 32, TwoBatch, nil, prompt(16384, x.prompt), false, true})
	}
	add("SGLang prefill 4K", "EP32 H100, 16,384 tokens a GPU", lmsys, 50302.0/node, run{v3, "h100", p, 32, TwoBatch, nil, prompt(16384, 4096), false, true}, "imbalance of grouped experts")
	add("SGLang prefill 4K, even experts", "EP32 H100, 16,384 tokens a GPU", lmsys, 59337.0/node, run{v3, "h100", p, 32, TwoBatch, nil, prompt(16384, 4096), true, false})
	add("SGLang decode 2K", "EP72 H100, 256 requests a GPU", lmsys, 22282.0/node, run{v3, "h100", d, 72, TwoBatch, nil, hold(256, 2050), false, false})
	add("SGLang decode 2K, no overlap", "EP72 H100, 256 requests a GPU", lmsys, 22310/1.255/node, run{v3, "h100", d, 72, NoOverlap, nil, hold(256, 2050), false, false})
	add("SGLang decode 4K, two tokens", "EP72 H100, 128 requests a GPU, 0.6 accepted", lmsys, 17373.0/node, run{v3, "h100", d, 72, TwoBatch, nil, mtp(128, 4000, 2, .6), false, false})
	add("SGLang decode 4K, two tokens, no overlap", "EP72 H100, 128 requests a GPU, 0.6 accepted", lmsys, 12929.0/node, run{v3, "h100", d, 72, NoOverlap, nil, mtp(128, 4000, 2, .6), false, false})
	add("Kimi K2 prefill", "EP32 H200, prompts 2,000", kimi, 56000.0/node, run{"kimi-k2", "h200", p, 32, TwoBatch, nil, prompt(16384, 2000), false, false})
	add("Kimi K2 decode", "EP96 H200, 480 experts, 480 requests a GPU, prompts 2,000", kimi, 24000.0/node, run{"kimi-k2", "h200", d, 96, TwoBatch, func(u *Unit) { u.Slots = 5 }, hold(480, 2050), false, false})
	// SGLang and vLLM on Blackwell.
	add("GB200 decode, part I", "EP48, 768 requests of 2K a GPU, BF16 attention, FP8 experts", gb200I, 7583, run{v3, "gb200", d, 48, NoOverlap, nil, hold(768, 2050), false, false})
	add("GB200 decode, part II", "EP48, 768 requests of 2K a GPU, BF16 attention, FP8 experts", gb200II, 9087, run{v3, "gb200", d, 48, SingleBatch, nil, hold(768, 2050), false, false}, "decode on Blackwell")
	add("GB200 decode, part II, low precision", "EP48, 1,408 requests of 2K a GPU, FP8 attention, FP4 experts", gb200II, 13386, run{v3, "gb200", d, 48, SingleBatch, fp8FP4, hold(1408, 2050), false, false})
	add("GB200 prefill, part II", "EP4, prompts 2K, BF16 attention, FP8 experts", gb200II, 18471, run{v3, "gb200", p, 4, NoOverlap, offload(64, false), prompt(16384, 2048), false, false}, "prefill on Blackwell")
	add("GB200 prefill, part II, low precision", "EP2, prompts 2K, FP8 attention, FP4 experts", gb200II, 26156, run{v3, "gb200", p, 2, NoOverlap, offload(128, true), prompt(16384, 2048), false, false})
	add("vLLM GB200 prefill", "EP2, prompts 2K, FP8 attention, FP4 experts", vllmGB, 26200, run{v3, "gb200", p, 2, NoOverlap, offload(128, true), prompt(16384, 2048), false, false})
	add("vLLM H200 decode", "EP32, 256 requests of 3K a GPU", vllm, 2200, run{v3, "h200", d, 32, TwoBatch, nil, hold(256, 3072), false, false}, "", "requests a GPU and their length")
	add("TensorRT-LLM H200", "EP8, 128 requests of 1K to 3K a GPU", trtllm, 1436, run{v3, "h200", d, 8, NoOverlap, func(u *Unit) { u.Slots = 32 }, hold(128, 2048), false, false}, "", "prompts are computed in the same steps")
	// One node, all weights sliced: the time of a further token, as it was measured.
	for _, x := range []struct {
		engine string
		bits   int
		tpot   [5]float64 // ms
	}{{"SGLang", 16, [5]float64{10.26, 12.20, 15.86, 22.10, 30.61}}, {"TensorRT-LLM", 8, [5]float64{13.67, 15.87, 19.52, 25.36, 32.18}}} {
		for i, tpot := range x.tpot {
			requests := float64(int(4) << i)
			add(fmt.Sprintf("InferenceX %s, %g on 8", x.engine, requests), fmt.Sprintf("TP8 H200, prompts 1K, 8K generated, %d-bit KV, all weights sliced", x.bits), semi, requests/node/tpot*1e3, run{v3, "h200", d, 8, NoOverlap, func(u *Unit) { u.TP, u.Sliced, u.KVBits = 8, true, x.bits }, hold(requests/node, 4608), true, false})
		}
	}
	// H20.
	add("Ant prefill", "TP8 H20, prompts 4K, FP8 attention", ant, 16500.0/node, run{v3, "h20", p, 8, NoOverlap, func(u *Unit) { u.TP, u.Slots, u.KVBits = 8, 32, 8 }, prompt(2048, 4096), false, false})
	for _, x := range []struct {
		gpus                          int
		batch, queries, accepted, per float64
	}{{16, 48, 2, .85, 714}, {16, 32, 2, .85, 675}, {16, 12, 3, .775, 423}, {16, 8, 2, .85, 278}, {32, 8, 2, .85, 293}, {32, 32, 2, .85, 585}} {
		add(fmt.Sprintf("Ant decode, %g a GPU of %d", x.batch, x.gpus), fmt.Sprintf("EP%d H20, prompts 4K, %g tokens verified, FP8 attention", x.gpus, x.queries), ant, x.per, run{v3, "h20", d, x.gpus, SingleBatch, h20, mtp(x.batch, 4096+768, x.queries, x.accepted), false, false})
	}
	// RTP-LLM.
	add("RTP-LLM prefill", "EP32 H800 over RoCE, 8,192 tokens a GPU, prompts 4K", rtp, 42600.0/node, run{v3, "h800", p, 32, TwoBatch, nil, prompt(8192, 4096), false, true})
	add("RTP-LLM decode", "EP144 H800 over RoCE, 91.7 requests of 4K to 6K a GPU", rtp, 14700.0/node, run{v3, "h800", d, 144, TwoBatch, nil, hold(91.7, 5120), false, false})
	// CloudMatrix: two dies are one NPU.
	const dies = 2
	add("CloudMatrix prefill, even experts", "EP32 dies of Ascend 910C, 8,192 tokens a die, prompts 4K", matrix, 6688.0/dies, run{v3, "ascend910c", p, 32, TwoBatch, nil, prompt(8192, 4096), true, false}, "prefill on Ascend 910C")
	add("CloudMatrix prefill", "EP32 dies of Ascend 910C, 8,192 tokens a die, prompts 4K", matrix, 5655.0/dies, run{v3, "ascend910c", p, 32, TwoBatch, nil, prompt(8192, 4096), false, true})
	for _, x := range []struct {
		batch, per float64
		overlap    Overlap
	}{{96, 1943, TwoBatch}, {24, 974, NoOverlap}, {8, 538, NoOverlap}} {
		add(fmt.Sprintf("CloudMatrix decode, %g an NPU", x.batch), "EP320 dies of Ascend 910C, 4K, 2 tokens verified, 0.7 accepted", matrix, x.per/dies, run{v3, "ascend910c", d, 320, x.overlap, die, mtp(x.batch/dies, 4096, 2, .7), false, false})
	}
	return out
}
