package formats

import (
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// moelbFields are the keys of this project's own placement, of which SGLang
// knows the map alone.
type moelbFields struct {
	version, experts, gpus int
	gpuSlots, layerExperts []int
	maps, count            [][]int
	log2phy                [][][]int
}

func (f *moelbFields) read(s *scanner, key string) (known bool, err error) {
	switch key {
	case "version":
		f.version, err = s.integer(key, -1, -1)
	case "num_experts":
		f.experts, err = s.integer(key, -1, -1)
	case "num_gpus":
		f.gpus, err = s.integer(key, -1, -1)
	case "gpu_slots":
		f.gpuSlots, err = s.integers(key, -1, s.lim.GPUs)
	case "layer_experts":
		f.layerExperts, err = s.integers(key, -1, placement.MaxLayers)
	case "physical_to_logical_map":
		f.maps, err = s.integerRows(key, s.lim.Slots)
	case "logical_to_physical_map":
		f.log2phy, err = s.integerCube(key, s.lim.Experts, s.lim.Slots)
	case "logical_count":
		f.count, err = s.integerRows(key, s.lim.Experts)
	default:
		return false, nil
	}
	return true, err
}

// placement reads what Placement.MarshalJSON writes and what `moelb plan`
// prints, which says more about the plan than the placement: other keys than
// the placement's are passed over, since later versions may add some.
func (f *moelbFields) placement(gpus int, unknown []string) (placement.Placement, error) {
	p := placement.Placement{Experts: f.experts, GPUs: f.gpus, GPUSlots: f.gpuSlots, LayerExperts: f.layerExperts, PhysicalToLogical: f.maps}
	switch {
	case f.version == 0 && len(unknown) > 0:
		return p, guard.Errorf(placement.ErrValue, guard.Quote(unknown[0]), -1, -1, "beside physical_to_logical_map, without version: SGLang's file has no other key, and this project's has a version")
	case f.version != 1:
		return p, guard.Errorf(placement.ErrValue, "version", -1, -1, "%d: this is version 1", f.version)
	case f.gpus == 0 && f.gpuSlots != nil:
		p.GPUs = len(f.gpuSlots)
	case f.gpus == 0:
		if p.GPUs = gpus; gpus == 0 {
			return p, guard.Errorf(placement.ErrValue, "num_gpus", -1, -1, "the file does not say how many GPUs there are: give the number")
		}
	}
	if f.experts == 0 {
		p.Experts = expertsOf(f.maps)
		if len(f.count) > 0 {
			p.Experts = len(f.count[0])
		}
	}
	if err := p.Validate(); err != nil {
		return p, err
	}
	if f.experts == 0 && f.count == nil {
		if err := p.CheckComplete(); err != nil {
			return p, err
		}
	}
	if f.count != nil {
		if err := p.CheckLogicalCount(f.count); err != nil {
			return p, err
		}
	}
	if f.log2phy != nil {
		return p, p.SetLogicalToPhysical(f.log2phy)
	}
	return p, nil
}

func encodeMoelb(p *placement.Placement) ([]byte, error) {
	text, err := p.MarshalJSON()
	return append(text, '\n'), err
}
