package cost

import "math"

// Kernels are the laws of single kernels on one kind of GPU.
type Kernels struct {
	Model
	GPU
	Factors
	flop, bytes float64 // scale of computing and memory against H800
	flopBF16    float64
	share       float64 // of the SMs that compute
	visits      float64 // Unit.NodesPerToken
}

// newKernels scales the factors to a GPU. share is the share of SMs that
// compute.
func newKernels(m Model, g GPU, f Factors, share float64) Kernels {
	const h800FP8, h800BF16, h800HBM = 1979e12, 989e12, 3.35e12
	return Kernels{Model: m, GPU: g, Factors: f, flop: g.FP8 / h800FP8, flopBF16: g.BF16 / h800BF16, bytes: g.HBM / h800HBM, share: share}
}

// gemm is the time of g FP8 products of m x k by k x n.
func (k *Kernels) gemm(g, m, n, depth float64) float64 {
	return k.product(g, m, n, depth, 1, k.Factors.GEMM*k.flop)
}

// bmm is the time of g BF16 products of m x k by k x n.
func (k *Kernels) bmm(g, m, n, depth float64) float64 {
	return k.product(g, m, n, depth, 2, k.Factors.BF16*k.flopBF16)
}

// product is the law of the published GEMM tables: computing and reading overlap
// but for what the exponent 2.5 costs where both take as long; then the result
// is written.
func (k *Kernels) product(g, m, n, depth, width, rate float64) float64 {
	if m <= 0 {
		return 0
	}
	memory := k.GEMMMemory * k.bytes
	compute := 2 * g * m * n * depth / (rate * k.share)
	read := width * g * (float64(n*depth) + float64(m*depth)) / memory
	write := 2 * g * m * n / memory
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

// lowLatency is the time of decode's dispatch or combine: every token goes to
// each of its experts on its own. send and receive are copies of the busiest GPU
// a micro-batch.
func (k *Kernels) lowLatency(copies, bytes, start float64, ranks int) float64 {
	if ranks <= 1 || copies <= 0 {
		return 0
	}
	domain := min(k.Domain, ranks)
	far := float64(ranks-domain) / float64(ranks)
	near := float64(domain-1) / float64(ranks)
	rdma := k.LowRDMA * k.GPU.RDMA / 50e9
	nvlink := k.LowNVLink * max(1, k.NVLink/200e9)
	return k.DecodeComm * (start + max(copies*bytes*far/rdma, copies*bytes*near/nvlink))
}

// normal is the time of prefill's dispatch or combine: one copy of a token to
// each node over RDMA, from there over NVLink. tokens are those of the busiest
// sender, received is the busiest receiver against the mean: it slows the NVLink
// leg alone.
func (k *Kernels) normal(tokens, mean, received, bytes float64, nodes int) float64 {
	domains := (nodes*k.Node + k.Domain - 1) / k.Domain
	if domains <= 1 {
		// All over NVLink: about one copy to each GPU of a token's experts.
		return k.Overlap * float64(k.TopK) * bytes * max(tokens, mean*received) / (k.LowNVLink * max(1, k.NVLink/200e9))
	}
	remote := k.remoteNodes(domains)
	if k.visits > 0 {
		remote = k.visits * float64(domains-1) / float64(domains) // a token is anywhere
	}
	rdma := remote * bytes / (k.Wire * k.GPU.RDMA / 50e9)
	leg := k.NVLinkLeg * 200e9 / k.NVLink
	return k.Overlap * rdma * max(tokens, leg*mean*received)
}
