package cost

import "math"

// PrefillRank is what one rank computes in one micro-batch of prefill.
type PrefillRank struct {
	Tokens float64 // new tokens
	Cached float64 // tokens of their prefixes, whose latents are expanded again
	Pairs  float64 // query-key pairs
}

// PrefillAttention is the seconds of one layer's attention, and of its core.
func (k *Kernels) PrefillAttention(r PrefillRank) (all, core float64) {
	if r.Tokens <= 0 {
		return 0, 0
	}
	m := &k.Model
	rate := k.Factors.Prefill * k.GPU.BF16 / h800BF16 * orOne(k.Reach.Prefill) * k.share
	if k.kvBits == 8 {
		rate *= k.Factors.FP8Attention
	}
	pairs := r.Pairs
	if m.Attended > 0 {
		core = pairs * m.indexFLOP() / (k.rate(8) * k.share)
		pairs = min(pairs, r.Tokens*float64(m.Attended))
	}
	core += k.windowed(pairs, r.Tokens) * m.pairFLOP() / rate
	t := k.tp
	n := r.Tokens * t
	all = core + float64(k.AttnToken*r.Tokens)/k.bytes + k.reduce(r.Tokens)
	heads := float64(m.Heads) / t
	if m.KVHeads > 0 {
		all += k.gemm(1, n, (heads+2*math.Max(1, float64(m.KVHeads)/t))*float64(m.HeadDim), float64(m.Hidden)) + k.gemm(1, n, float64(m.Hidden), heads*float64(m.HeadDim))
		return all, core
	}
	all += k.query(n, heads) + k.gemm(1, n+float64(r.Cached*t), heads*float64(m.Nope+m.Value), float64(m.KVRank)) + k.gemm(1, n, float64(m.Hidden), heads*float64(m.Value))
	return all, core
}

// windowed is the pairs of a layer, on average over those with a window and those
// without.
func (k *Kernels) windowed(pairs, tokens float64) float64 {
	if k.WindowLayers == 0 {
		return pairs
	}
	some := float64(k.WindowLayers) / float64(k.AllLayers())
	return float64((1-some)*pairs) + float64(some*min(pairs, tokens*float64(k.Window)))
}

// query is the products that make the latents and the queries of tokens.
func (k *Kernels) query(tokens, heads float64) float64 {
	m := &k.Model
	if m.QRank == 0 {
		return k.gemm(1, tokens, heads*float64(m.Nope+m.Rope)+float64(m.KVRank+m.Rope), float64(m.Hidden))
	}
	t := k.gemm(1, tokens, float64(m.QRank+m.KVRank+m.Rope), float64(m.Hidden)) + k.gemm(1, tokens, heads*float64(m.Nope+m.Rope), float64(m.QRank))
	if m.IndexHeads > 0 {
		t += k.gemm(1, tokens, float64(m.IndexHeads*m.IndexDim), float64(m.QRank))
	}
	return t
}

// PrefillShared is the seconds of one layer's shared expert on tokens.
func (k *Kernels) PrefillShared(tokens float64) float64 {
	return k.shared(tokens) + float64(k.SharedTok*tokens)/k.bytes
}

// PrefillExperts is the seconds of one layer's experts on a GPU that got rows
// tokens over its slots.
func (k *Kernels) PrefillExperts(rows float64, slots int) float64 {
	return k.experts(rows, slots) + float64(k.MLPToken*rows/float64(k.TopK))/k.bytes
}

// PrefillNetwork is the seconds of a dispatch and a combine: tokens of the
// busiest sender, mean of all, and the busiest receiver and the busiest node
// against the mean.
func (k *Kernels) PrefillNetwork(tokens, mean, received, node float64, ranks int) (dispatch, combine float64) {
	return k.normal(tokens, mean, received, node, k.dispatchBytes(k.expertBits), ranks), k.normal(tokens, mean, received, node, k.combineBytes(), ranks)
}

// PrefillDense is the seconds of one layer without experts on one micro-batch.
func (k *Kernels) PrefillDense(attention, tokens float64) float64 { return attention + k.dense(tokens) }

// DecodeRank is what one rank holds in one micro-batch of decode.
type DecodeRank struct {
	Requests float64
	KV       float64 // tokens of KV in all
	Queries  float64 // tokens verified a request and step
}

// small is how long decode's small kernels take on tokens: what starting them
// costs, or what they read and write, of which they have a share.
func (k *Kernels) small(start, all, token, tokens float64) float64 {
	return max(start, token*tokens*start/(all*k.bytes))
}

func (k *Kernels) smallAttention(start, tokens float64) float64 {
	return k.small(start, k.DecodeA0+k.Factors.DecodeCore+k.DecodeA1, k.AttnToken, tokens)
}

func (k *Kernels) smallMLP(start, tokens float64) float64 {
	return k.small(start, k.DecodeMLP+k.DecodeS, k.MLPToken, tokens)
}

// DecodeBefore is the seconds of one layer's shared expert and its attention up
// to the core, on tokens.
func (k *Kernels) DecodeBefore(tokens float64) float64 {
	return k.DecodeShared(tokens) + k.DecodeQuery(tokens)
}

// DecodeShared is the seconds of one layer's shared expert.
func (k *Kernels) DecodeShared(tokens float64) float64 {
	if tokens <= 0 {
		return 0
	}
	return k.shared(tokens) + k.smallMLP(k.DecodeS, tokens)
}

// DecodeQuery is the seconds of one layer's attention up to the core.
func (k *Kernels) DecodeQuery(tokens float64) float64 {
	if tokens <= 0 {
		return 0
	}
	m, n, heads := &k.Model, tokens*k.tp, float64(k.Heads)/k.tp
	start := k.smallAttention(k.DecodeA0, tokens)
	if m.KVHeads > 0 {
		return k.gemm(1, n, (heads+2*math.Max(1, float64(m.KVHeads)/k.tp))*float64(m.HeadDim), float64(m.Hidden)) + start
	}
	return k.query(n, heads) + k.bmm(heads, n, float64(m.KVRank), float64(m.Nope)) + start
}

// DecodeCore is the seconds of one layer's core attention.
func (k *Kernels) DecodeCore(r DecodeRank) float64 {
	if r.Requests <= 0 {
		return 0
	}
	m := &k.Model
	rate := k.Factors.Decode * k.GPU.BF16 / h800BF16 * orOne(k.Reach.Decode)
	memory := k.KVRead * k.bytes
	if k.kvBits == 8 {
		rate *= k.Factors.FP8Attention
	}
	kv, index := r.KV, 0.0
	if m.Attended > 0 {
		index = max(kv*r.Queries*m.indexFLOP()/k.rate(8), kv*float64(m.IndexDim+4)/memory)
		kv = min(kv, r.Requests*float64(m.Attended))
	}
	kv = k.windowed(kv, r.Requests)
	// Latents are on every GPU that shares attention, grouped keys and values are
	// split.
	copies := k.tp
	each := float64(m.kvDims()) * float64(k.kvBits) / 8
	if m.KVHeads > 0 {
		copies = math.Max(1, k.tp/float64(m.KVHeads))
	}
	return index + max(kv*r.Queries*m.cachedFLOP()/rate, kv*each*copies/memory) + k.smallAttention(k.Factors.DecodeCore, r.Requests*r.Queries)
}

// DecodeProjection is the seconds of one layer's attention after the core.
func (k *Kernels) DecodeProjection(tokens float64) float64 {
	m, n, heads := &k.Model, tokens*k.tp, float64(k.Heads)/k.tp
	if tokens <= 0 {
		return 0
	}
	t := k.smallAttention(k.DecodeA1, tokens) + k.reduce(tokens)
	if m.KVHeads > 0 {
		return t + k.gemm(1, n, float64(m.Hidden), heads*float64(m.HeadDim))
	}
	return t + k.bmm(heads, n, float64(m.Value), float64(m.KVRank)) + k.gemm(1, n, float64(m.Hidden), heads*float64(m.Value))
}

// DecodeExperts is the seconds of one layer's experts on a GPU that got rows
// tokens over its slots.
func (k *Kernels) DecodeExperts(rows float64, slots int) float64 {
	return k.Factors.DecodeExperts*k.experts(rows, slots) + k.smallMLP(k.DecodeMLP, rows/float64(k.TopK))
}

// DecodeNetwork is the seconds of a dispatch and a combine whose busiest GPU
// sends or receives so many copies of tokens.
func (k *Kernels) DecodeNetwork(copies float64, ranks int) (dispatch, combine float64) {
	if k.slices > 1 { // every GPU has all tokens, and their results are added up
		return 0, k.reduce(copies / float64(k.TopK))
	}
	return k.lowLatency(copies, k.dispatchBytes(k.expertBits), k.LowStartD, ranks), k.lowLatency(copies, k.combineBytes(), k.LowStartK, ranks)
}

// DecodeDense is the seconds of one layer without experts on tokens, less its
// core attention.
func (k *Kernels) DecodeDense(tokens float64) float64 {
	return k.DecodeQuery(tokens) + k.DecodeProjection(tokens) + k.dense(tokens)
}

// Head is the seconds of the product with the vocabulary.
func (k *Kernels) Head(tokens float64) float64 {
	return k.bmm(1, tokens*k.slices, float64(k.Vocabulary)/k.slices, float64(k.Hidden))
}

func (k *Kernels) shared(tokens float64) float64 {
	if k.SharedExperts == 0 {
		return 0
	}
	return k.mlp(tokens, k.Intermediate*k.SharedExperts)
}

func (k *Kernels) dense(tokens float64) float64 {
	if k.DenseIntermediate == 0 {
		return 0
	}
	return k.mlp(tokens, k.DenseIntermediate)
}

// mlp is the two products of a layer of so many neurons.
func (k *Kernels) mlp(tokens float64, width int) float64 {
	h, i, n := float64(k.Hidden), float64(width)/k.slices, tokens*k.slices
	return k.gemm(1, n, 2*i, h) + k.gemm(1, n, h, i)
}

// experts is the two grouped products of a GPU's slots, of which as many as there are
// rows are read in full. Where experts are sliced they are all here, an equal part of
// each, and so are all GPUs' rows: of those that get rows the part is read.
func (k *Kernels) experts(rows float64, slots int) float64 {
	if rows <= 0 {
		return 0
	}
	h, i := float64(k.Hidden), float64(k.Intermediate)/k.slices
	g := math.Min(float64(slots), rows)
	if k.slices > 1 {
		rows *= k.slices
		g = hit(rows, float64(slots)*k.slices)
	}
	return k.product(g, rows/g, 2*i, h, k.expertBits) + k.product(g, rows/g, h, i, k.expertBits)
}

// hit is how many of so many experts get at least one of the rows, each of which goes
// to any of them: s (1 - (1 - 1/s)^rows) on average. A part of a row goes there with
// that chance.
func hit(rows, s float64) float64 {
	miss, power := 1-(rows-math.Floor(rows))/s, 1-1/s
	for n := int64(min(rows, 1<<40)); n > 0; n >>= 1 {
		if n&1 == 1 {
			miss *= power
		}
		power *= power
	}
	return float64(s * (1 - miss))
}
