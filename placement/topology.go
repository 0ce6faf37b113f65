package placement

import (
	"math"
	"slices"
)

// Limits on sizes, checked before anything is allocated. They are far above
// any deployed system and keep a hostile input from exhausting memory.
const (
	MaxLayers  = 1 << 12 // layers of a model
	MaxExperts = 1 << 16 // experts a layer
	MaxGPUs    = 1 << 16 // GPUs of a unit
	MaxSlots   = 1 << 18 // slots a layer, over all GPUs
	MaxCells   = 1 << 26 // layers times experts, layers times slots
)

// Topology describes the GPUs of one unit: how many, how they are joined, what
// fails together, how fast each is. Node and Domain say where a GPU belongs. The
// zero value of an optional field is its default.
type Topology struct {
	GPUs  int // GPUs in all, in and out of service
	Nodes int // nodes of equally many GPUs, in order; 0 = 1, or as many as NodeGPUs
	// NodeGPUs is the number of GPUs of each node, in order, where nodes differ,
	// e.g. 8, 8, 4; nil = shared evenly. Links go by nodes alone: NVLink within
	// one, RDMA between them.
	NodeGPUs []int
	// DomainGPUs is the number of GPUs of each fault domain, in order: what fails
	// together, such as a tray of an NVL72; nil = the nodes.
	DomainGPUs []int
	// Speed is each GPU's relative speed, [GPUs]; nil = all equal. 0 = out of
	// service: its slots stay empty.
	Speed []float64
	// Bandwidths a GPU and direction in bytes a second, and its memory in
	// bytes; 0 = unknown. They price moves; imbalance does not depend on them.
	NVLink, RDMA, HBM float64
}

// H800 returns nodes of 8 H800 GPUs. Bandwidths are the usable ones: NVLink
// 160 GB/s and RDMA 45 GB/s a GPU and direction (DeepEP's published
// measurements on 400 Gb/s InfiniBand), 80 GB of memory.
func H800(nodes int) Topology {
	return Topology{GPUs: 8 * nodes, Nodes: nodes, NVLink: 160e9, RDMA: 45e9, HBM: 80e9}
}

// PrefillUnit is the published prefill unit of DeepSeek-V3/R1: 4 nodes of 8
// H800 GPUs, EP32.
func PrefillUnit() Topology { return H800(4) }

// DecodeUnit is the published decode unit of DeepSeek-V3/R1: 18 nodes of 8
// H800 GPUs, EP144.
func DecodeUnit() Topology { return H800(18) }

// NodeCount is the number of nodes.
func (t *Topology) NodeCount() int {
	if t.NodeGPUs != nil {
		return len(t.NodeGPUs)
	}
	return max(t.Nodes, 1)
}

// Node returns the node of a GPU. Cost: with NodeGPUs one step a node.
func (t *Topology) Node(gpu int) int {
	if t.NodeGPUs == nil {
		return gpu / (t.GPUs / t.NodeCount())
	}
	return blockOf(t.NodeGPUs, gpu)
}

// FirstGPUs returns the first GPU of each node and, at the end, the number of
// GPUs: node n has the GPUs [first[n], first[n+1]).
func (t *Topology) FirstGPUs() []int {
	first := make([]int, t.NodeCount()+1)
	for n := range t.NodeCount() {
		k := t.GPUs / t.NodeCount()
		if t.NodeGPUs != nil {
			k = t.NodeGPUs[n]
		}
		first[n+1] = first[n] + k
	}
	return first
}

// EvenNodes says whether all nodes have as many GPUs.
func (t *Topology) EvenNodes() bool {
	for _, n := range t.NodeGPUs {
		if n != t.NodeGPUs[0] {
			return false
		}
	}
	return true
}

// DomainCount is the number of fault domains.
func (t *Topology) DomainCount() int {
	if t.DomainGPUs == nil {
		return t.NodeCount()
	}
	return len(t.DomainGPUs)
}

// Domain returns the fault domain of a GPU: its node, without DomainGPUs.
func (t *Topology) Domain(gpu int) int {
	if t.DomainGPUs == nil {
		return t.Node(gpu)
	}
	return blockOf(t.DomainGPUs, gpu)
}

// blockOf is the block that item i belongs to, of blocks of such sizes in order.
func blockOf(sizes []int, i int) int {
	b := 0
	for ; b < len(sizes)-1 && i >= sizes[b]; b++ {
		i -= sizes[b]
	}
	return b
}

// Extend returns t with so many GPUs, if that is more than it has: the new ones
// in service, on further nodes as large as the last. A schedule that leads to
// fewer GPUs is made on it.
func (t Topology) Extend(gpus int) Topology {
	if gpus <= t.GPUs {
		return t
	}
	first := t.FirstGPUs()
	per := t.GPUs - first[len(first)-2]
	sizes := make([]int, 0, len(first))
	for n := range first[1:] {
		sizes = append(sizes, first[n+1]-first[n])
	}
	if t.DomainGPUs != nil {
		t.DomainGPUs = append(slices.Clone(t.DomainGPUs), gpus-t.GPUs)
	}
	if t.Speed != nil {
		t.Speed = append(slices.Clone(t.Speed), slices.Repeat([]float64{1}, gpus-t.GPUs)...)
	}
	for ; t.GPUs < gpus; t.GPUs += sizes[len(sizes)-1] {
		sizes = append(sizes, min(per, gpus-t.GPUs))
	}
	t.Nodes, t.NodeGPUs = 0, sizes
	return t
}

// SpeedOf returns a GPU's relative speed, 1 where no speeds are given.
func (t *Topology) SpeedOf(gpu int) float64 {
	if t.Speed == nil {
		return 1
	}
	return t.Speed[gpu]
}

// InService counts the GPUs whose speed is above 0.
func (t *Topology) InService() int {
	if t.Speed == nil {
		return t.GPUs
	}
	n := 0
	for _, s := range t.Speed {
		if s > 0 {
			n++
		}
	}
	return n
}

// Validate returns an *Error for a topology that makes no sense: no GPUs, GPUs
// not divisible over nodes, nodes or domains that do not add up to the GPUs or
// have none, a speed that is negative or not finite, all GPUs out of service.
func (t *Topology) Validate() error {
	switch {
	case t.GPUs < 1:
		return errorf(ErrValue, "num_gpus", -1, -1, "%d: at least 1 is needed", t.GPUs)
	case t.GPUs > MaxGPUs:
		return errorf(ErrValue, "num_gpus", -1, -1, "%d: at most %d are supported", t.GPUs, MaxGPUs)
	case t.Nodes < 0:
		return errorf(ErrValue, "num_nodes", -1, -1, "%d is negative", t.Nodes)
	case t.NodeGPUs != nil && t.Nodes > 0 && t.Nodes != len(t.NodeGPUs):
		return errorf(ErrShape, "gpus_per_node", -1, -1, "%d entries for %d nodes", len(t.NodeGPUs), t.Nodes)
	case t.NodeGPUs == nil && t.GPUs%t.NodeCount() != 0:
		return errorf(ErrShape, "num_nodes", -1, -1, "%d GPUs cannot be shared evenly by %d nodes", t.GPUs, t.Nodes)
	case t.Speed != nil && len(t.Speed) != t.GPUs:
		return errorf(ErrShape, "gpu_speed", -1, -1, "%d speeds for %d GPUs", len(t.Speed), t.GPUs)
	}
	if err := checkBlocks("gpus_per_node", "node", t.NodeGPUs, t.GPUs); err != nil {
		return err
	}
	if err := checkBlocks("domains", "domain", t.DomainGPUs, t.GPUs); err != nil {
		return err
	}
	for g, s := range t.Speed {
		if !(s >= 0) || math.IsInf(s, 0) {
			return errorf(ErrValue, "gpu_speed", -1, g, "%v is not a finite number ≥ 0", s)
		}
		if s > 0 && (s < 1e-6 || s > 1e6) {
			return errorf(ErrValue, "gpu_speed", -1, g, "%v: speeds are relative, between 1e-6 and 1e6", s)
		}
	}
	if t.InService() == 0 {
		return errorf(ErrFit, "gpu_speed", -1, -1, "all %d GPUs are out of service", t.GPUs)
	}
	for _, b := range []struct {
		name string
		v    float64
	}{{"nvlink", t.NVLink}, {"rdma", t.RDMA}, {"hbm", t.HBM}} {
		if !(b.v >= 0) || math.IsInf(b.v, 0) {
			return errorf(ErrValue, b.name, -1, -1, "%v is not a finite number ≥ 0", b.v)
		}
	}
	return nil
}

// checkBlocks demands blocks of at least one GPU that add up to all GPUs; nil
// serves.
func checkBlocks(field, block string, sizes []int, gpus int) error {
	if sizes == nil {
		return nil
	}
	left := gpus
	for i, n := range sizes {
		if n < 1 {
			return errorf(ErrValue, field, -1, i, "%d: a %s has at least 1 GPU", n, block)
		}
		if n > left {
			return errorf(ErrShape, field, -1, i, "%d: the %ss add up to more than the %d GPUs", n, block, gpus)
		}
		left -= n
	}
	if left > 0 {
		return errorf(ErrShape, field, -1, -1, "they add up to %d GPUs, but there are %d", gpus-left, gpus)
	}
	return nil
}
