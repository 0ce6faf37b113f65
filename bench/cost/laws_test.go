package cost

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

// TestLaws changes one thing at a time and demands how the estimate answers: the
// direction, and within which bounds.
func TestLaws(t *testing.T) {
	decode := func() (Unit, Batch) {
		return *unit("h800", DecodePhase, 18, Calibrated()), even(Batch{Requests: 88, KV: 4989, Acceptance: .85})
	}
	prefill := func() (Unit, Batch) {
		return *unit("h800", PrefillPhase, 4, Calibrated()), even(Batch{Tokens: 16384, Prompt: 4096})
	}
	type change func(u *Unit, b *Batch)
	both := func(c ...change) change {
		return func(u *Unit, b *Batch) {
			for _, f := range c {
				f(u, b)
			}
		}
	}
	model := func(name string) change { return func(u *Unit, _ *Batch) { u.Model, _ = FindModel(name) } }
	gpu := func(f func(*GPU)) change { return func(u *Unit, _ *Batch) { f(&u.GPU) } }
	half := func(x *float64) { *x /= 2 }
	twice := func(x *float64) { *x *= 2 }
	roomy := gpu(func(g *GPU) { g.Memory = 400e9 })
	for _, c := range []struct {
		name      string
		base      func() (Unit, Batch)
		first     change // of both
		then      change
		low, high float64 // tokens a second after the change / before
	}{
		{"decode: half the memory bandwidth", decode, nil, gpu(func(g *GPU) { half(&g.HBM) }), .55, .97},
		{"decode: twice the memory bandwidth", decode, nil, gpu(func(g *GPU) { twice(&g.HBM) }), 1.01, 1.6},
		{"decode: half the computing", decode, nil, gpu(func(g *GPU) { half(&g.FP8); half(&g.BF16) }), .5, .9},
		{"decode: half the RDMA", decode, nil, gpu(func(g *GPU) { half(&g.RDMA) }), .5, .95},
		{"decode: twice the RDMA", decode, nil, gpu(func(g *GPU) { twice(&g.RDMA) }), 1, 1.5},
		{"decode: all in one NVLink domain", decode, nil, gpu(func(g *GPU) { g.Domain = 144; g.NVLink = 900e9 }), 1, 1.5},
		{"decode: half the requests", decode, nil, func(_ *Unit, b *Batch) { half(&b.Requests) }, .5, .8},
		{"decode: twice the requests", decode, roomy, func(_ *Unit, b *Batch) { twice(&b.Requests) }, 1.05, 1.6},
		{"decode: half the KV", decode, nil, func(_ *Unit, b *Batch) { half(&b.KV) }, 1.02, 1.6},
		{"decode: twice the KV", decode, roomy, func(_ *Unit, b *Batch) { twice(&b.KV) }, .5, .9},
		{"decode: the same KV in half the requests", decode, nil, func(_ *Unit, b *Batch) { half(&b.Requests); twice(&b.KV) }, .5, .75},
		{"decode: FP8 KV", decode, nil, func(u *Unit, _ *Batch) { u.KVBits = 8 }, 1.02, 1.5},
		{"decode: FP4 experts where FP4 computes", decode, gpu(func(g *GPU) { g.FP4 = 4 * g.BF16 }), func(u *Unit, _ *Batch) { u.ExpertBits = 4 }, 1, 1.3},
		{"decode: BF16 experts", decode, gpu(func(g *GPU) { g.Memory = 200e9 }), func(u *Unit, _ *Batch) { u.ExpertBits = 16 }, .6, .99},
		{"decode: no overlap", decode, nil, func(u *Unit, _ *Batch) { u.Overlap = NoOverlap }, .6, 1.05},
		{"decode: single-batch overlap against none", decode, func(u *Unit, _ *Batch) { u.Overlap = NoOverlap }, func(u *Unit, _ *Batch) { u.Overlap = SingleBatch }, 1, 1.3},
		{"decode: two tokens that are never accepted", decode, func(_ *Unit, b *Batch) { b.Acceptance = 0 }, func(_ *Unit, b *Batch) { b.Queries = 2 }, .4, .95},
		{"decode: two tokens that always are", decode, func(_ *Unit, b *Batch) { b.Acceptance = 1 }, func(_ *Unit, b *Batch) { b.Queries = 2 }, 1.05, 2},
		{"decode: KV uneven by a tenth", decode, nil, func(_ *Unit, b *Batch) { b.Attention = 1.1 }, .9, .999},
		{"decode: requests uneven by a tenth", decode, nil, func(_ *Unit, b *Batch) { b.Senders = 1.1 }, .9, .999},
		{"decode: experts uneven by a tenth", decode, nil, func(_ *Unit, b *Batch) { b.Experts = 1.1 }, .9, .999},
		{"decode: experts uneven by three tenths against a tenth", decode, func(_ *Unit, b *Batch) { b.Experts = 1.1 }, func(_ *Unit, b *Batch) { b.Experts = 1.3 }, .8, .98},
		{"decode: an expert more a GPU", decode, nil, func(u *Unit, _ *Batch) { u.Slots = 3 }, .9, 1.0001},
		{"decode: sparse attention on short requests", decode, func(_ *Unit, b *Batch) { b.KV = 1500 }, model("deepseek-v3.2"), .8, 1},
		{"decode: sparse attention on long ones", decode, both(roomy, func(_ *Unit, b *Batch) { b.KV = 32768 }), model("deepseek-v3.2"), 1.5, 10},
		{"prefill: half the RDMA", prefill, nil, gpu(func(g *GPU) { half(&g.RDMA) }), .5, .95},
		{"prefill: half the computing", prefill, nil, gpu(func(g *GPU) { half(&g.FP8); half(&g.BF16) }), .5, .8},
		{"prefill: twice the prompt", prefill, nil, func(_ *Unit, b *Batch) { twice(&b.Prompt) }, .7, .99},
		{"prefill: half the prompt", prefill, nil, func(_ *Unit, b *Batch) { half(&b.Prompt) }, 1.005, 1.2},
		{"prefill: lengths spread by .9", prefill, nil, func(_ *Unit, b *Batch) { b.PairsPerToken = Spread(b.Prompt, .9, 0) }, .7, .99},
		{"prefill: lengths spread by 1.25 against .9", prefill, func(_ *Unit, b *Batch) { b.PairsPerToken = Spread(b.Prompt, .9, 0) }, func(_ *Unit, b *Batch) { b.PairsPerToken = Spread(b.Prompt, 1.25, 0) }, .5, .95},
		{"prefill: half cached, new tokens a second", prefill, nil, func(_ *Unit, b *Batch) { b.Hit = .5 }, .7, .999},
		{"prefill: half the tokens a step", prefill, nil, func(_ *Unit, b *Batch) { half(&b.Tokens) }, .85, 1},
		{"prefill: no overlap", prefill, nil, func(u *Unit, _ *Batch) { u.Overlap = NoOverlap }, .6, .95},
		{"prefill: fewer nodes a token", prefill, nil, func(u *Unit, _ *Batch) { u.NodesPerToken = 2 }, 1, 1.4},
		{"prefill: attention uneven by three tenths", prefill, nil, func(_ *Unit, b *Batch) { b.Attention = 1.3 }, .9, .999},
		{"prefill: tokens uneven by three tenths", prefill, nil, func(_ *Unit, b *Batch) { b.Senders = 1.3 }, .75, .95},
		{"prefill: nodes uneven too", prefill, func(_ *Unit, b *Batch) { b.Experts = 1.3 }, func(_ *Unit, b *Batch) { b.ExpertNodes = 1.3 }, .75, .99},
		{"prefill: sparse attention on long prompts", prefill, func(_ *Unit, b *Batch) { b.Prompt = 65536 }, model("deepseek-v3.2"), 1.5, 20},
	} {
		at := func(changes ...change) float64 {
			u, b := c.base()
			for _, f := range changes {
				if f != nil {
					f(&u, &b)
				}
			}
			e, err := u.Estimate(b)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			return e.TokensPerNode
		}
		if x := at(c.first, c.then) / at(c.first); !(x >= c.low && x <= c.high) {
			t.Errorf("%s: %.3f times the tokens a second, want %v to %v", c.name, x, c.low, c.high)
		}
	}
}

// TestAnyModel estimates every model on every GPU, in the units that hold it: rates
// are positive and finite, and what does not fit is said to be memory.
func TestAnyModel(t *testing.T) {
	fit := 0
	for _, m := range Models() {
		for _, g := range GPUs() {
			for _, phase := range []Phase{PrefillPhase, DecodePhase} {
				u := Unit{Model: m, GPU: g, Factors: Calibrated(), Phase: phase, Nodes: max(1, 32/g.Node), Overlap: NoOverlap}
				e, err := u.Estimate(even(Batch{Tokens: 8192, Prompt: 4096, Requests: 16, KV: 4096}))
				if err != nil {
					if !strings.Contains(err.Error(), "fit") && !strings.Contains(err.Error(), "memory") {
						t.Errorf("%s on %s: %v", m.Name, g.Name, err)
					}
					continue
				}
				fit++
				if x := e.TokensPerNode; !(x > 1 && x < 1e7) || math.IsInf(e.StepSeconds, 0) {
					t.Errorf("%s on %s, %v: %v tokens/s a node", m.Name, g.Name, phase, x)
				}
			}
		}
	}
	if fit < 100 {
		t.Errorf("%d of %d fit", fit, 2*len(Models())*len(GPUs()))
	}
}

// TestParameters holds the presets to the sizes that their publishers state, in
// thousand millions of parameters.
func TestParameters(t *testing.T) {
	for name, want := range map[string]float64{"deepseek-v3": 671, "deepseek-v3.2": 672, "kimi-k2": 1026, "qwen3-235b": 235, "glm-4.5": 355, "deepseek-v2-lite": 15.7, "gpt-oss-120b": 117} {
		m, err := FindModel(name)
		if err != nil {
			t.Fatal(err)
		}
		h := float64(m.Hidden)
		all := float64(m.AllLayers())*float64(m.attentionParameters()) + 3*h*float64(m.Intermediate)*float64(m.Layers*(m.Experts+m.SharedExperts)) + 3*h*float64(m.DenseIntermediate*m.DenseLayers) + 2*h*float64(m.Vocabulary) + h*float64(m.Experts*m.Layers)
		if x := all / 1e9; math.Abs(x/want-1) > .02 {
			t.Errorf("%s has %.1f thousand million parameters, not %v", name, x, want)
		}
	}
}

// TestMemory: what does not fit is an error, of the type that says so.
func TestMemory(t *testing.T) {
	u := unit("h800", DecodePhase, 18, Calibrated())
	room := float64(u.KVRoom())
	if _, err := u.Estimate(even(Batch{Requests: 100, KV: room / 101})); err != nil {
		t.Error(err)
	}
	if _, err := u.Estimate(even(Batch{Requests: 100, KV: room / 99})); err == nil || !strings.Contains(err.Error(), "memory") {
		t.Errorf("more KV than there is room for: %v", err)
	}
	u.Nodes, u.Slots = 1, 32
	if err := u.Validate(); err == nil {
		t.Error("256 experts of 44 MB in 58 layers fit 8 GPUs of 80 GB")
	}
}

// TestFiles reads what it can and names the field of what it cannot.
func TestFiles(t *testing.T) {
	const model = `{"name":"mine","layers":10,"experts":64,"top_k":4,"hidden":2048,"intermediate":1024,"vocabulary":32000,"heads":16,"kv_heads":4,"head_dim":128}`
	m, err := ReadModel(strings.NewReader(model))
	if err != nil || m.ExpertBits != 8 || m.Groups != 1 {
		t.Errorf("%+v: %v", m, err)
	}
	const gpu = `{"name":"mine","sms":100,"fp8_flops":1e15,"bf16_flops":5e14,"memory_bandwidth":3e12,"memory_bytes":8e10,"nvlink_bandwidth":2e11,"rdma_bandwidth":5e10,"gpus_per_node":8}`
	g, err := ReadGPU(strings.NewReader(gpu))
	if err != nil || g.Domain != 8 {
		t.Errorf("%+v: %v", g, err)
	}
	u := Unit{Model: m, GPU: g, Factors: Calibrated(), Phase: DecodePhase, Nodes: 1}
	if e, err := u.Estimate(even(Batch{Requests: 10, KV: 1000})); err != nil || !(e.TokensPerNode > 0) {
		t.Errorf("%v tokens/s: %v", e.TokensPerNode, err)
	}
	for _, c := range []struct{ text, want string }{
		{strings.Replace(model, `"layers":10`, `"layers":0`, 1), "layers"}, {strings.Replace(model, `"heads":16`, `"heads":1e9`, 1), "heads"}, {strings.Replace(model, `"kv_heads":4`, `"kv_heads":0`, 1), "kv_rank"},
		{strings.Replace(model, "name", "title", 1), "title"}, {model + model, "more than one"}, {`{"name":"` + strings.Repeat("x", maxFile) + `"}`, "longer"}, {`[1]`, "model"}, {strings.Replace(model, `"mine"`, `""`, 1), "name"},
		{strings.Replace(model, `"top_k":4`, `"top_k":4,"heads":8`, 1), `"heads": given twice`}, {strings.Replace(model, `"top_k"`, `"Top_K"`, 1), `unknown field "Top_K"`}, {strings.Replace(model, `"top_k":4`, `"top_k":4e9`, 1), "top_k: not number 4e9"}, {"", "nothing"}, {"null", "name"},
		{strings.Replace(model, `"top_k":4`, `"top_k":65`, 1), "top_k"}, {model[:len(model)-1] + `,"expert_bits":5}`, "expert_bits"},
	} {
		if _, err := ReadModel(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %q", c.text, err, c.want)
		}
	}
	for _, c := range []struct{ text, want string }{
		{strings.Replace(gpu, `"sms":100`, `"sms":0`, 1), "sms"}, {strings.Replace(gpu, "8e10", "1e99", 1), "memory_bytes"}, {strings.Replace(gpu, `"gpus_per_node":8`, `"gpus_per_node":8,"gpus_per_nvlink_domain":9`, 1), "domain"}, {`{}`, "name"},
		{gpu[:len(gpu)-1] + `,"reach":{"gemm":1,"gemm":2}}`, `"gemm": given twice`}, {gpu[:len(gpu)-1] + `,"reach":{"gemm":11}}`, "reach.gemm"}, {gpu[:len(gpu)-1] + `,"reach":[{"gemm":1},{"gemm":1}]}`, "reach: not array"},
	} {
		if _, err := ReadGPU(strings.NewReader(c.text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.80s: %v, want %q", c.text, err, c.want)
		}
	}
}

// TestFilesSayAll: what a preset is a file can say, every field of it, so that reading
// it gives the preset again.
func TestFilesSayAll(t *testing.T) {
	for _, want := range GPUs() {
		b, err := json.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ReadGPU(bytes.NewReader(b)); err != nil || got != want {
			t.Errorf("%s: %+v is read as %+v: %v", b, want, got, err)
		}
	}
	for _, want := range Models() {
		f := modelFile{}
		from := []reflect.Value{reflect.ValueOf(want.Model), reflect.ValueOf(want)}
		for i, to := 0, reflect.ValueOf(&f).Elem(); i < to.NumField(); i++ {
			name := to.Type().Field(i).Name
			for _, x := range from {
				if y := x.FieldByName(name); y.IsValid() {
					to.Field(i).Set(y)
				}
			}
		}
		b, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ReadModel(bytes.NewReader(b))
		if err != nil || got != want {
			t.Errorf("%s: %+v is read as %+v: %v", b, want, got, err)
		}
	}
}

// TestAttentionShared: GPUs that share attention hold as much between them, and pay
// for adding up.
func TestAttentionShared(t *testing.T) {
	u := unit("h200", DecodePhase, 1, Calibrated())
	u.Slots, u.Overlap = 32, NoOverlap
	alone := *u
	u.TP = 8
	if a, b := alone.Model.WeightBytes(32, 8, 1), u.Model.WeightBytes(32, 8, 8); b >= a {
		t.Errorf("weights of %d bytes alone, %d shared", a, b)
	}
	if a, b := alone.KVRoom(), u.KVRoom(); b >= a || b < a/8 {
		t.Errorf("room for %d tokens alone, %d where 8 keep a copy each", a, b)
	}
	for _, tp := range []int{3, 16, -1} {
		u.TP = tp
		if u.Validate() == nil {
			t.Errorf("attention shared by %d of 8 GPUs accepted", tp)
		}
	}
}
