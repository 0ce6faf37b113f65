package cost

import (
	"errors"
	"fmt"
)

// Batch is what each GPU of a unit has in one step, on average.
type Batch struct {
	// Prefill: new tokens a GPU and step, of prompts of Prompt tokens of which
	// the fraction Hit is cached.
	Tokens, Prompt, Hit float64
	// Decode: requests a GPU, each with KV tokens, Queries tokens verified a step
	// of which those beyond the first are accepted with chance Acceptance.
	Requests, KV, Queries, Acceptance float64
	// How uneven it is: the busiest GPU against the mean, ≥ 1. Attention is that
	// of query-key pairs in prefill and of KV tokens in decode, Tokens that of
	// new tokens in prefill and of requests in decode. The busiest GPUs are three
	// different ones.
	Attention, Senders, Experts float64
}

// Stage is one stage's seconds for one layer and micro-batch.
type Stage struct {
	Name    string
	Seconds float64 // of the busiest rank
	Even    float64 // of a rank with the mean of all
	Count   int     // how often a step runs it
}

// Estimate is how long a step takes and what that yields.
type Estimate struct {
	StepSeconds float64
	// TokensPerNode are new tokens a second and node: computed in prefill,
	// generated in decode. InputPerNode counts the cached ones too.
	TokensPerNode, InputPerNode float64
	TokensPerRequest            float64
	Stages                      []Stage
	LayerSeconds                float64 // of one layer with experts, both micro-batches
	Bound                       string  // what sets the pace of a layer
	KVRoom                      int64   // tokens that fit a GPU
	KVNeed                      int64
	// The stages of the layer by rank: the busiest in attention, in tokens, in
	// experts, and any other. One of the two is set.
	Prefill *Prefill
	Decode  *Decode
}

// hotRanks is the ranks that an estimate tells apart: the busiest in attention,
// in tokens and in experts, and any other.
const hotRanks = 4

// Estimate is one step of a unit.
func (u *Unit) Estimate(b Batch) (Estimate, error) {
	if err := u.Validate(); err != nil {
		return Estimate{}, err
	}
	if u.Ranks() < hotRanks {
		return Estimate{}, errors.New("nodes: at least 4 GPUs are estimated")
	}
	for _, x := range []struct {
		name  string
		value float64
	}{{"attention", b.Attention}, {"tokens", b.Senders}, {"experts", b.Experts}} {
		if !(x.value >= 1) || x.value > float64(u.Ranks()) {
			return Estimate{}, fmt.Errorf("imbalance of %s: %v is not between 1 and %d", x.name, x.value, u.Ranks())
		}
	}
	if u.Phase == PrefillPhase {
		return u.estimatePrefill(b)
	}
	return u.estimateDecode(b)
}

// spread returns the value of each of the hotRanks where rank hot has factor
// times the mean and the others share the rest.
func (u *Unit) spread(mean, factor float64, hot int) [hotRanks]float64 {
	n := float64(u.Ranks())
	var out [hotRanks]float64
	for r := range out {
		out[r] = mean * (n - factor) / (n - 1)
	}
	out[hot] = mean * factor
	return out
}

func (u *Unit) estimatePrefill(b Batch) (Estimate, error) {
	switch {
	case !(b.Tokens >= 1) || b.Tokens > 1<<24:
		return Estimate{}, fmt.Errorf("tokens: %v is not between 1 and 2^24", b.Tokens)
	case !(b.Prompt >= 1) || b.Prompt > 1<<24:
		return Estimate{}, fmt.Errorf("prompt: %v is not between 1 and 2^24", b.Prompt)
	case !(b.Hit >= 0 && b.Hit < 1):
		return Estimate{}, fmt.Errorf("hit: %v is not a fraction below 1", b.Hit)
	}
	k, slots, ranks := u.Kernels(), u.SlotsEach(), float64(u.Ranks())
	n := b.Tokens / 2 // a micro-batch
	cached := b.Prompt * b.Hit
	fresh := b.Prompt - cached
	prompts := n / fresh
	even := PrefillRank{n, prompts * cached, prompts * (fresh*cached + fresh*(fresh+1)/2)}
	pairs, tokens := u.spread(even.Pairs, b.Attention, 0), u.spread(n, b.Senders, 1)
	rows := u.spread(n*float64(k.TopK), b.Experts, 2)
	var p Prefill
	dense, core := 0.0, 0.0
	for r := range hotRanks {
		x := even
		x.Pairs, x.Tokens = pairs[r], tokens[r]
		a, c := k.PrefillAttention(x)
		p.Attention = append(p.Attention, a)
		p.Shared = append(p.Shared, k.PrefillShared(tokens[r]))
		p.Experts = append(p.Experts, k.PrefillExperts(rows[r], slots))
		dense, core = max(dense, 2*k.PrefillDense(a, tokens[r])), max(core, c)
	}
	p.Dispatch, p.Combine = k.PrefillNetwork(tokens[1], n, b.Experts, u.Nodes)
	a, c := k.PrefillAttention(even)
	d, cmb := k.PrefillNetwork(n, n, 1, u.Nodes)
	layer := p.Layer()
	e := Estimate{Prefill: &p, LayerSeconds: layer / u.Factors.PrefillShare, KVRoom: u.KVRoom(), KVNeed: int64(2 * prompts * b.Prompt)}
	layers := 2 * k.Layers
	e.Stages = []Stage{
		{"attention", most(p.Attention), a, 2 * k.AllLayers()},
		{"core_attention", core, c, 2 * k.AllLayers()},
		{"shared", most(p.Shared), k.PrefillShared(n), layers},
		{"experts", most(p.Experts), k.PrefillExperts(n*float64(k.TopK), slots), layers},
		{"dispatch", p.Dispatch, d, layers},
		{"combine", p.Combine, cmb, layers},
		{"dense_layer", dense / 2, k.PrefillDense(a, n), 2 * k.DenseLayers},
		{"layer", layer, 0, k.Layers},
	}
	compute, network := 0.0, 2*(p.Dispatch+p.Combine)
	for r := range hotRanks {
		compute = max(compute, 2*(p.Attention[r]+p.Shared[r]+p.Experts[r]))
	}
	e.Bound = bound(layer, compute, network)
	e.StepSeconds = (float64(float64(k.Layers)*layer) + float64(float64(k.DenseLayers)*dense)) / u.Factors.PrefillShare
	e.TokensPerNode = b.Tokens * ranks / float64(u.Nodes) / e.StepSeconds
	e.InputPerNode = e.TokensPerNode / (1 - b.Hit)
	e.TokensPerRequest = min(fresh, b.Tokens) / e.StepSeconds
	return e, nil
}

func (u *Unit) estimateDecode(b Batch) (Estimate, error) {
	switch {
	case !(b.Requests > 0) || b.Requests > 1<<20:
		return Estimate{}, fmt.Errorf("batch: %v is not between 1 and 2^20", b.Requests)
	case !(b.KV >= 1) || b.KV > 1<<24:
		return Estimate{}, fmt.Errorf("kv: %v is not between 1 and 2^24", b.KV)
	case !(b.Queries >= 1) || b.Queries > 64:
		return Estimate{}, fmt.Errorf("mtp: %v is not between 1 and 64", b.Queries)
	case !(b.Acceptance >= 0 && b.Acceptance <= 1):
		return Estimate{}, fmt.Errorf("acceptance: %v is not a fraction", b.Acceptance)
	}
	k, slots := u.Kernels(), u.SlotsEach()
	n := b.Requests / 2 // a micro-batch
	kv, requests := u.spread(n*b.KV, b.Attention, 0), u.spread(n, b.Senders, 1)
	rows := u.spread(n*b.Queries*float64(k.TopK), b.Experts, 2)
	s := Decode{}
	dense, core := 0.0, 0.0
	for r := range hotRanks {
		x := DecodeRank{requests[r], kv[r], b.Queries}
		t, c := requests[r]*b.Queries, k.DecodeCore(x)
		s.Before = append(s.Before, k.DecodeBefore(t))
		s.After = append(s.After, c+k.DecodeProjection(t))
		s.Experts = append(s.Experts, k.DecodeExperts(rows[r], slots))
		dense, core = max(dense, c+k.DecodeDense(t)), max(core, c)
	}
	s.Dispatch, s.Combine = k.DecodeNetwork(max(requests[1]*b.Queries*float64(k.TopK), rows[2]), u.Ranks())
	half := s.HalfLayer()
	head := k.Head(2 * requests[1] * b.Queries)
	t := n * b.Queries
	c := k.DecodeCore(DecodeRank{n, n * b.KV, b.Queries})
	d, cmb := k.DecodeNetwork(t*float64(k.TopK), u.Ranks())
	layers := 2 * k.Layers
	e := Estimate{Decode: &s, LayerSeconds: 2 * half, KVRoom: u.KVRoom(), KVNeed: int64(b.Requests * b.KV)}
	e.Stages = []Stage{
		{"before_core", most(s.Before), k.DecodeBefore(t), layers},
		{"core_attention", core, c, 2 * k.AllLayers()},
		{"core_and_after", most(s.After), c + k.DecodeProjection(t), layers},
		{"experts", most(s.Experts), k.DecodeExperts(t*float64(k.TopK), slots), layers},
		{"dispatch", s.Dispatch, d, layers},
		{"combine", s.Combine, cmb, layers},
		{"half_layer", half, 0, layers},
		{"dense_layer", dense, c + k.DecodeDense(t), 2 * k.DenseLayers},
		{"head", head, k.Head(2 * t), 1},
		{"host", u.Factors.Host, u.Factors.Host, 1},
	}
	compute, network := 0.0, s.Dispatch+s.Combine
	for r := range hotRanks {
		compute = max(compute, s.Before[r]+s.Experts[r]+s.After[r])
	}
	e.Bound = bound(half, compute, network)
	e.StepSeconds = float64(2*float64(k.Layers)*half) + float64(2*float64(k.DenseLayers)*dense) + head + u.Factors.Host
	e.TokensPerRequest = (1 + b.Acceptance*(b.Queries-1)) / e.StepSeconds
	e.TokensPerNode = b.Requests * float64(u.GPU.Node) * e.TokensPerRequest
	e.InputPerNode = e.TokensPerNode
	return e, nil
}

func bound(layer, compute, network float64) string {
	switch {
	case layer <= compute*1.000001:
		return "computing"
	case layer <= network*1.000001:
		return "the network"
	}
	return "both, by turns"
}
