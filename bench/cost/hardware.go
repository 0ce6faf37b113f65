package cost

import (
	"fmt"
	"strings"
)

// GPU is a kind of GPU by its data sheet, and how nodes of it are joined.
type GPU struct {
	Name         string
	SMs          int
	FP8, BF16    float64 // FLOP a second, dense
	HBM          float64 // bytes a second
	Memory       float64 // bytes
	NVLink, RDMA float64 // bytes a second, GPU and direction
	Node         int     // GPUs a node
	Domain       int     // GPUs joined by NVLink
	Source       string
	// Checked: the efficiency factors were measured on this kind. On others they
	// are scaled by the data sheet.
	Checked bool
}

// GPUs lists the presets.
func GPUs() []GPU {
	const g, t = 1e9, 1e12
	return []GPU{
		{"h800", 132, 1979 * t, 989 * t, 3.35 * t, 80 * g, 200 * g, 50 * g, 8, 8, "data sheet; 8 x 400 Gb/s a node", true},
		{"h100", 132, 1979 * t, 989 * t, 3.35 * t, 80 * g, 450 * g, 50 * g, 8, 8, "data sheet; kernels as on H800", true},
		{"h200", 132, 1979 * t, 989 * t, 4.8 * t, 141 * g, 450 * g, 50 * g, 8, 8, "data sheet", false},
		{"h20", 78, 296 * t, 148 * t, 4.0 * t, 96 * g, 450 * g, 50 * g, 8, 8, "third parties", false},
		{"gb200", 148, 5000 * t, 2500 * t, 8 * t, 186 * g, 900 * g, 50 * g, 4, 72, "third parties; 18 nodes in one NVLink domain", false},
	}
}

// FindGPU returns a preset by its name.
func FindGPU(name string) (GPU, error) {
	var names []string
	for _, g := range GPUs() {
		if strings.EqualFold(g.Name, name) {
			return g, nil
		}
		names = append(names, g.Name)
	}
	return GPU{}, fmt.Errorf("gpu %.40q: known are %s", name, strings.Join(names, ", "))
}
