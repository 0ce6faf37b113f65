package cost

import (
	"fmt"
	"math"
)

// Batch is what each GPU of a unit has in one step, on average.
type Batch struct {
	// Prefill: new tokens a GPU and step, of prompts of Prompt tokens of which
	// the fraction Hit is cached.
	Tokens, Prompt, Hit float64
	// PairsPerToken is query-key pairs a new token where prompts differ in length;
	// 0 = as Prompt and Hit have it.
	PairsPerToken float64
	// Decode: requests a GPU, each with KV tokens, Queries tokens verified a step
	// of which those beyond the first are accepted with chance Acceptance.
	Requests, KV, Queries, Acceptance float64
	// How uneven it is: the busiest GPU against the mean, ≥ 1. Attention is that
	// of query-key pairs in prefill and of KV tokens in decode, Tokens that of
	// new tokens in prefill and of requests in decode. The busiest GPUs are three
	// different ones.
	Attention, Senders, Experts float64
	// ExpertNodes is the busiest node's experts against the mean, in prefill over
	// several nodes; 0 = 1.
	ExpertNodes float64
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
	USDPerMillion               float64 // dollars a million tokens of TokensPerNode
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
	for _, x := range []struct {
		name  string
		value float64
	}{{"attention", b.Attention}, {"tokens", b.Senders}, {"experts", b.Experts}} {
		if !(x.value >= 1) || x.value > float64(u.Ranks()) {
			return Estimate{}, fmt.Errorf("imbalance %s: %v is not between 1 and %d", x.name, x.value, u.Ranks())
		}
	}
	if !(b.ExpertNodes >= 0) || b.ExpertNodes > max(1, b.Experts) {
		return Estimate{}, fmt.Errorf("imbalance of experts by node: %v is not between 1 and that by GPU, %v", b.ExpertNodes, b.Experts)
	}
	estimate := u.estimateDecode
	if u.Phase == PrefillPhase {
		estimate = u.estimatePrefill
	}
	e, err := estimate(b)
	if err == nil && e.KVNeed > e.KVRoom && !u.Offload {
		return Estimate{}, &MemoryError{e.KVNeed, e.KVRoom}
	}
	if err == nil {
		e.USDPerMillion = u.GPU.USDHour * float64(u.GPU.Node) / 3600 / e.TokensPerNode * 1e6
	}
	return e, err
}

// MemoryError says that a batch's KV does not fit a GPU beside the weights.
type MemoryError struct{ Need, Room int64 }

func (e *MemoryError) Error() string {
	return fmt.Sprintf("memory: the batch keeps %d tokens of KV on a GPU, beside the weights there is room for %d", e.Need, e.Room)
}

// Spread returns the query-key pairs a new token where prompts of mean length are
// lognormal, of which the fraction hit is cached.
func Spread(mean, sigma, hit float64) float64 {
	return float64(mean*(1+hit)/2)*math.Exp(float64(sigma*sigma)) + .5
}

// spread returns the value of each of the hotRanks where rank hot has factor
// times the mean and the others share the rest.
func (u *Unit) spread(mean, factor float64, hot int) [hotRanks]float64 {
	n := float64(u.Ranks())
	var out [hotRanks]float64
	for r := range out {
		out[r] = mean
		if n > 1 {
			out[r] = mean * (n - factor) / (n - 1)
		}
	}
	out[hot] = mean * factor
	return out
}

func (u *Unit) estimatePrefill(b Batch) (Estimate, error) {
	pairsPer, cachedPer := b.PairsPerToken, 0.0
	switch {
	case !(b.Tokens >= 1) || b.Tokens > 1<<24:
		return Estimate{}, fmt.Errorf("tokens: %v is not between 1 and 2^24", b.Tokens)
	case !(b.Prompt >= 1) || b.Prompt > 1<<24:
		return Estimate{}, fmt.Errorf("prompt: %v is not between 1 and 2^24", b.Prompt)
	case !(b.Hit >= 0 && b.Hit < 1):
		return Estimate{}, fmt.Errorf("hit: %v is not a fraction below 1", b.Hit)
	case !(pairsPer >= 0 && pairsPer <= 1<<24):
		return Estimate{}, fmt.Errorf("pairs per token: %v is not between 0 and 2^24", pairsPer)
	}
	k, slots := u.Kernels(), u.SlotsEach()
	batches := u.batches()
	n := b.Tokens / batches // of a micro-batch
	cached := b.Prompt * b.Hit
	fresh := b.Prompt - cached
	cachedPer = cached / fresh
	if pairsPer == 0 {
		pairsPer = cached + (fresh+1)/2
	}
	even := PrefillRank{n, n * cachedPer, n * pairsPer}
	pairs, tokens := u.spread(even.Pairs, b.Attention, 0), u.spread(n, b.Senders, 1)
	rows := u.spread(n*float64(k.TopK), b.Experts, 2)
	p := Prefill{Overlap: u.Overlap}
	dense, core := 0.0, 0.0
	for r := range hotRanks {
		x := even
		x.Pairs, x.Tokens = pairs[r], tokens[r]
		a, c := k.PrefillAttention(x)
		p.Attention = append(p.Attention, a)
		p.Shared = append(p.Shared, k.PrefillShared(tokens[r]))
		p.Experts = append(p.Experts, k.PrefillExperts(rows[r], slots))
		dense, core = max(dense, batches*k.PrefillDense(a, tokens[r])), max(core, c)
	}
	p.Dispatch, p.Combine = k.PrefillNetwork(tokens[1], n, b.Experts, max(1, b.ExpertNodes), u.Ranks())
	a, c := k.PrefillAttention(even)
	d, cmb := k.PrefillNetwork(n, n, 1, 1, u.Ranks())
	layer := p.Layer()
	e := Estimate{Prefill: &p, LayerSeconds: layer / u.stepShare(), KVRoom: u.KVRoom(), KVNeed: int64(b.Tokens * (1 + cachedPer))}
	each := int(batches)
	layers := each * k.Layers
	e.Stages = []Stage{
		{"attention", most(p.Attention), a, each * k.AllLayers()},
		{"core_attention", core, c, each * k.AllLayers()},
		{"shared", most(p.Shared), k.PrefillShared(n), layers},
		{"experts", most(p.Experts), k.PrefillExperts(n*float64(k.TopK), slots), layers},
		{"dispatch", p.Dispatch, d, layers},
		{"combine", p.Combine, cmb, layers},
		{"dense_layer", dense / batches, k.PrefillDense(a, n), each * k.DenseLayers},
		{"layer", layer, 0, k.Layers},
	}
	compute, network := 0.0, batches*(p.Dispatch+p.Combine)
	for r := range hotRanks {
		compute = max(compute, batches*(p.Attention[r]+p.Shared[r]+p.Experts[r]))
	}
	e.Bound = bound(layer, compute, network)
	e.StepSeconds = (float64(float64(k.Layers)*layer) + float64(float64(k.DenseLayers)*dense)) / u.stepShare()
	e.TokensPerNode = b.Tokens * float64(u.GPU.Node) / e.StepSeconds
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
	batches := u.batches()
	n := b.Requests / batches // of a micro-batch
	kv, requests := u.spread(n*b.KV, b.Attention, 0), u.spread(n, b.Senders, 1)
	rows := u.spread(n*b.Queries*float64(k.TopK), b.Experts, 2)
	s := Decode{Overlap: u.Overlap}
	dense, core := 0.0, 0.0
	for r := range hotRanks {
		x := DecodeRank{requests[r], kv[r], b.Queries}
		t, c := requests[r]*b.Queries, k.DecodeCore(x)
		s.Shared = append(s.Shared, k.DecodeShared(t))
		s.Before = append(s.Before, k.DecodeBefore(t))
		s.After = append(s.After, c+k.DecodeProjection(t))
		s.Experts = append(s.Experts, k.DecodeExperts(rows[r], slots))
		dense, core = max(dense, c+k.DecodeDense(t)), max(core, c)
	}
	s.Dispatch, s.Combine = k.DecodeNetwork(max(requests[1]*b.Queries*float64(k.TopK), rows[2]), u.Ranks())
	half := s.HalfLayer()
	head := k.Head(batches * requests[1] * b.Queries)
	t := n * b.Queries
	c := k.DecodeCore(DecodeRank{n, n * b.KV, b.Queries})
	d, cmb := k.DecodeNetwork(t*float64(k.TopK), u.Ranks())
	each := int(batches)
	layers := each * k.Layers
	e := Estimate{Decode: &s, LayerSeconds: batches * half / u.stepShare(), KVRoom: u.KVRoom(), KVNeed: int64(b.Requests * b.KV)}
	// The draft of each token beyond the first is a layer more, and a head.
	draft := (b.Queries - 1) * (e.LayerSeconds + head) / b.Queries
	e.Stages = []Stage{
		{"before_core", most(s.Before), k.DecodeBefore(t), layers},
		{"core_attention", core, c, each * k.AllLayers()},
		{"core_and_after", most(s.After), c + k.DecodeProjection(t), layers},
		{"experts", most(s.Experts), k.DecodeExperts(t*float64(k.TopK), slots), layers},
		{"dispatch", s.Dispatch, d, layers},
		{"combine", s.Combine, cmb, layers},
		{"half_layer", half, 0, layers},
		{"dense_layer", dense, c + k.DecodeDense(t), each * k.DenseLayers},
		{"head", head, k.Head(batches * t), 1},
		{"draft", draft, draft, 1},
		{"host", u.Factors.Host, u.Factors.Host, 1},
	}
	compute, network := 0.0, s.Dispatch+s.Combine
	for r := range hotRanks {
		compute = max(compute, s.Before[r]+s.Experts[r]+s.After[r])
	}
	e.Bound = bound(half, compute, network)
	e.StepSeconds = (float64(batches*float64(k.Layers)*half)+float64(batches*float64(k.DenseLayers)*dense)+head)/u.stepShare() + draft + u.Factors.Host
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
