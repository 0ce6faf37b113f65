package cost

import "math"

// Kernels are the laws of single kernels on one kind of GPU.
type Kernels struct {
	Model
	GPU
	Factors
	bytes      float64 // scale of memory bandwidth against H800
	share      float64 // of the SMs that compute
	beside     float64 // how much longer communication takes beside computing
	visits     float64 // Unit.NodesPerToken
	gpus       float64 // Unit.GPUsPerToken
	off        float64 // Unit.CopiesOffNode
	expertBits int
	kvBits     int
	tp         float64 // GPUs that share attention
	slices     float64 // that experts and dense layers are cut into, one a GPU
}

// The data sheet of the GPU that the factors were measured on.
const h800FP8, h800BF16, h800HBM, h800NVLink, h800RDMA = 1979e12, 989e12, 3.35e12, 200e9, 50e9

// newKernels scales the factors to a unit's GPU.
func newKernels(u *Unit) Kernels {
	k := Kernels{Model: u.Model, GPU: u.GPU, Factors: u.Factors, bytes: u.GPU.HBM / h800HBM * orOne(u.GPU.Reach.Memory), share: 1, beside: 1, visits: u.NodesPerToken, gpus: u.GPUsPerToken, off: u.CopiesOffNode, expertBits: u.expertBits(), kvBits: u.kvBits(), tp: float64(u.tp()), slices: 1}
	if u.Sliced {
		k.slices = k.tp
	}
	if u.Phase == PrefillPhase && u.Overlap == TwoBatch {
		k.share = 1 - float64(u.GPU.CommSMs)/float64(u.GPU.SMs)
		k.beside = u.Factors.Overlap
	}
	return k
}

// rate is the FLOP a second that GEMMs of operands of so many bits reach.
func (k *Kernels) rate(bits int) float64 {
	reach := orOne(k.Reach.GEMM)
	switch {
	case bits == 16:
		return k.Factors.BF16 * k.GPU.BF16 / h800BF16 * reach
	case bits == 4 && k.GPU.FP4 > 0:
		return k.Factors.GEMM * k.GPU.FP4 / h800FP8 * reach
	}
	return k.Factors.GEMM * k.GPU.FP8 / h800FP8 * reach
}

// gemm is the time of g products of m x k by k x n, operands of the precision of
// all weights but experts'.
func (k *Kernels) gemm(g, m, n, depth float64) float64 {
	return k.product(g, m, n, depth, k.AttentionBits)
}

// bmm is the time of g BF16 products of m x k by k x n.
func (k *Kernels) bmm(g, m, n, depth float64) float64 {
	return k.product(g, m, n, depth, 16)
}

// product is the law of the published GEMM tables: computing and reading overlap
// but for what the exponent 2.5 costs where both take as long; then the result
// is written.
func (k *Kernels) product(g, m, n, depth float64, bits int) float64 {
	if m <= 0 {
		return 0
	}
	memory := k.GEMMMemory * k.bytes * orOne(k.Reach.Weights)
	width := float64(bits) / 8
	compute := 2 * g * m * n * depth / (k.rate(bits) * k.share)
	read := width * g * (float64(n*depth) + float64(m*depth)) / memory
	write := 2 * g * m * n / (k.GEMMMemory * k.bytes)
	return k.GEMMStart + write + both(compute, read)
}

// both is (a^2.5 + b^2.5)^(1/2.5), by operations that round alike everywhere.
func both(a, b float64) float64 {
	a, b = max(a, b), min(a, b)
	if b <= 0 {
		return a
	}
	r := b / a
	u := 1 + float64(r*r)*math.Sqrt(r)
	z := 1 + (u-1)/5 // the fifth root of u, in [1, 2], by Newton's method
	for range 5 {
		z4 := float64(z*z) * float64(z*z)
		z = (float64(4*z) + u/z4) / 5
	}
	return a * float64(z*z)
}

// nvlink is the bytes a second that kernels reach over NVLink, given what they
// reach on H800.
func (k *Kernels) nvlink(onH800 float64) float64 {
	return onH800 * k.NVLink / h800NVLink * orOne(k.Reach.NVLink)
}

// lowLatency is the time of decode's dispatch or combine: every token goes to
// each of its experts on its own. copies are those of the busiest GPU a
// micro-batch.
func (k *Kernels) lowLatency(copies, bytes, start float64, ranks int) float64 {
	if ranks <= 1 || copies <= 0 {
		return 0
	}
	domain := min(k.Domain, ranks)
	far := float64(ranks-domain) / float64(ranks)
	near := float64(domain-1) / float64(ranks)
	if k.off > 0 && domain < ranks {
		far = k.off / float64(k.TopK)
		near = (1 - far) * float64(domain-1) / float64(domain) // its own GPU needs none
	}
	rdma := k.LowRDMA * k.GPU.RDMA / h800RDMA
	return k.DecodeComm * (start + max(copies*bytes*far/rdma, copies*bytes*near/k.nvlink(k.LowNVLink)))
}

// normal is the time of prefill's dispatch or combine: one copy of a token to
// each node over RDMA, from there over NVLink. tokens are those of the busiest
// sender, received is the busiest receiver against the mean, which slows the NVLink
// leg, and node the busiest node, which slows that over RDMA.
func (k *Kernels) normal(tokens, mean, received, node, bytes float64, ranks int) float64 {
	if ranks <= 1 {
		return 0
	}
	domains := (ranks + k.Domain - 1) / k.Domain
	if domains <= 1 {
		copies := k.gpusVisited(ranks) * float64(ranks-1) / float64(ranks)
		return k.beside * copies * bytes * max(tokens, mean*received) / k.nvlink(k.Factors.NVLinkNormal)
	}
	remote := k.remoteNodes(domains)
	if k.visits > 0 {
		remote = k.visits * float64(domains-1) / float64(domains) // a token is anywhere
	}
	rdma := remote * bytes / (k.Wire * k.GPU.RDMA / h800RDMA)
	leg := k.NVLinkLeg * h800NVLink / (k.NVLink * orOne(k.Reach.NVLink)) * k.GPU.RDMA / h800RDMA
	return k.beside * rdma * max(tokens, mean*node, leg*mean*received)
}

// gpusVisited is the GPUs of one NVLink domain that a token's experts are on.
func (k *Kernels) gpusVisited(ranks int) float64 {
	if k.gpus > 0 {
		return k.gpus
	}
	among := float64(ranks)
	if k.visits > 0 {
		among = min(among, k.visits*float64(k.Node))
	}
	return k.gpusPerToken(ranks, among)
}

// reduce is the time in which GPUs that share attention add up their parts of the
// result for so many tokens each, and hand it on.
func (k *Kernels) reduce(tokens float64) float64 {
	if k.tp <= 1 {
		return 0
	}
	return k.ReduceStart + 2*(k.tp-1)*tokens*k.combineBytes()/k.nvlink(k.Factors.NVLinkNormal)
}
