package placement

import "math"

// Limits on sizes, checked before anything is allocated. They are far above
// any deployed system and keep a hostile input from exhausting memory.
const (
	MaxLayers  = 1 << 12 // layers of a model
	MaxExperts = 1 << 16 // experts a layer
	MaxGPUs    = 1 << 16 // GPUs of a unit
	MaxSlots   = 1 << 18 // slots a layer, over all GPUs
	MaxCells   = 1 << 26 // layers times experts, layers times slots
)

// Topology describes the GPUs of one unit: how many, how they are joined, how
// fast each is. GPU g is on node g / (GPUs/Nodes). The zero value of an
// optional field is its default.
type Topology struct {
	GPUs  int // GPUs in all, in and out of service
	Nodes int // nodes of equally many GPUs; 0 = 1
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

// NodeCount is Nodes with its default applied.
func (t *Topology) NodeCount() int { return max(t.Nodes, 1) }

// Node returns the node of a GPU.
func (t *Topology) Node(gpu int) int { return gpu / (t.GPUs / t.NodeCount()) }

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
// not divisible over nodes, a speed that is negative or not finite, all GPUs
// out of service.
func (t *Topology) Validate() error {
	switch {
	case t.GPUs < 1:
		return errorf(ErrValue, "num_gpus", -1, -1, "%d: at least 1 is needed", t.GPUs)
	case t.GPUs > MaxGPUs:
		return errorf(ErrValue, "num_gpus", -1, -1, "%d: at most %d are supported", t.GPUs, MaxGPUs)
	case t.Nodes < 0:
		return errorf(ErrValue, "num_nodes", -1, -1, "%d is negative", t.Nodes)
	case t.GPUs%t.NodeCount() != 0:
		return errorf(ErrShape, "num_nodes", -1, -1, "%d GPUs cannot be shared evenly by %d nodes", t.GPUs, t.Nodes)
	case t.Speed != nil && len(t.Speed) != t.GPUs:
		return errorf(ErrShape, "gpu_speed", -1, -1, "%d speeds for %d GPUs", len(t.Speed), t.GPUs)
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
