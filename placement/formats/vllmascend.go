package formats

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// ascendFields are the keys of vllm-ascend's expert_map.json.
type ascendFields struct {
	count  int
	counts bool
	layers [][][]int // [layers][devices][slots]
}

func (f *ascendFields) read(s *scanner, key string) (known bool, err error) {
	switch key {
	case "moe_layer_count":
		f.counts = true
		f.count, err = s.integer(key, -1, -1)
	case "layer_list":
		f.layers, err = readAscendLayers(s)
	default:
		return false, nil
	}
	return true, err
}

// readAscendLayers reads layer_list. Layers and devices stand in order; where
// layer_id, device_id or device_count are given they must say so.
func readAscendLayers(s *scanner) ([][][]int, error) {
	layers, cells := [][][]int{}, 0
	err := s.array("layer_list", -1, s.lim.Layers, func(l int) error {
		var devices [][]int
		count := -1
		err := s.object(func(key string) (err error) {
			switch key {
			case "layer_id":
				return s.inOrder(key, l, -1, l)
			case "device_count":
				count, err = s.integer(key, l, -1)
				return err
			case "device_list":
				return s.array(key, l, s.lim.GPUs, func(d int) error {
					var experts []int
					err := s.object(func(key string) (err error) {
						switch key {
						case "device_id":
							return s.inOrder(key, l, d, d)
						case "device_expert":
							experts, err = s.integers(key, l, s.lim.Slots)
							return err
						}
						return guard.Errorf(placement.ErrValue, guard.Quote(key), l, d, "not a field of device_list (device_id, device_expert)")
					})
					if err == nil && experts == nil {
						err = guard.Errorf(placement.ErrShape, "device_expert", l, d, "missing")
					}
					devices = append(devices, experts)
					cells += len(experts) + 8
					return tooMany(s.lim, key, cells, err)
				})
			}
			return guard.Errorf(placement.ErrValue, guard.Quote(key), l, -1, "not a field of layer_list (layer_id, device_count, device_list)")
		})
		switch {
		case err != nil:
		case len(devices) == 0:
			err = guard.Errorf(placement.ErrShape, "device_list", l, -1, "no devices")
		case count >= 0 && count != len(devices):
			err = guard.Errorf(placement.ErrShape, "device_count", l, -1, "%d, but device_list has %d", count, len(devices))
		}
		layers = append(layers, devices)
		return err
	})
	return layers, err
}

func (s *scanner) inOrder(key string, layer, index, want int) error {
	got, err := s.integer(key, layer, index)
	if err == nil && got != want {
		err = guard.Errorf(placement.ErrValue, key, layer, index, "%d stands where %d is expected", got, want)
	}
	return err
}

func (f *ascendFields) placement() (placement.Placement, error) {
	if f.counts && f.count != len(f.layers) {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, "moe_layer_count", -1, -1, "%d, but layer_list has %d", f.count, len(f.layers))
	}
	return fromDevices(f.layers, 0, "device_list", false)
}

// fromDevices joins [layers][devices][experts] into a placement. A device's
// slots are as many as it fills in any layer if fill is set, else every layer
// must fill as many. experts 0 = the largest id + 1.
func fromDevices(layers [][][]int, experts int, field string, fill bool) (placement.Placement, error) {
	if len(layers) == 0 {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, field, -1, -1, "no layers")
	}
	p := placement.Placement{GPUs: len(layers[0]), Experts: experts}
	slots := make([]int, p.GPUs)
	sum := 0
	for l, devices := range layers {
		if len(devices) != p.GPUs {
			return p, guard.Errorf(placement.ErrShape, field, l, -1, "%d devices, but layer 0 has %d", len(devices), p.GPUs)
		}
		for d, row := range devices {
			if !fill && len(row) != len(layers[0][d]) {
				return p, guard.Errorf(placement.ErrShape, field, l, d, "%d experts, but in layer 0 the device has %d", len(row), len(layers[0][d]))
			}
			sum -= slots[d]
			slots[d] = max(slots[d], len(row))
			sum += slots[d]
		}
	}
	if sum > placement.MaxSlots || sum*len(layers) > placement.MaxCells {
		return p, guard.Errorf(placement.ErrShape, field, -1, -1, "%d layers of %d slots: too many", len(layers), sum)
	}
	for d := range slots {
		if slots[d] != slots[0] {
			p.GPUSlots = slots
			break
		}
	}
	if sum == 0 {
		return p, guard.Errorf(placement.ErrShape, field, -1, -1, "no experts")
	}
	p.PhysicalToLogical = make([][]int, len(layers))
	for l, devices := range layers {
		row := make([]int, 0, sum)
		for d, held := range devices {
			row = append(row, held...)
			for range slots[d] - len(held) {
				row = append(row, -1)
			}
		}
		p.PhysicalToLogical[l] = row
	}
	if p.Experts == 0 {
		p.Experts = expertsOf(p.PhysicalToLogical)
	}
	if err := complete(&p); err != nil {
		return p, renamedMap(err, field)
	}
	return p, nil
}

// encodeVLLMAscend writes expert_map.json. vllm-ascend makes one tensor of all
// devices' lists and rejects an expert twice on a device, hence the demands.
// Devices without experts are left out.
func encodeVLLMAscend(p *placement.Placement) ([]byte, error) {
	p = withoutIdle(p)
	if err := even(p, VLLMAscend); err != nil {
		return nil, err
	}
	if err := once(p, VLLMAscend); err != nil {
		return nil, err
	}
	first := p.FirstSlots()
	b := fmt.Appendf(nil, "{\"moe_layer_count\": %d, \"layer_list\": [", len(p.PhysicalToLogical))
	for l, row := range p.PhysicalToLogical {
		if l > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, "\n  {\"layer_id\": %d, \"device_count\": %d, \"device_list\": [", l, p.GPUs)
		for g := range p.GPUs {
			if g > 0 {
				b = append(b, ',')
			}
			b = append(b, "\n    {\"device_id\": "...)
			b = strconv.AppendInt(b, int64(g), 10)
			b = append(b, ", \"device_expert\": "...)
			b = append(appendInts(b, row[first[g]:first[g+1]]), '}')
		}
		b = append(b, "\n  ]}"...)
	}
	return append(b, "\n]}\n"...), nil
}

// withoutIdle is p without the GPUs that hold nothing.
func withoutIdle(p *placement.Placement) *placement.Placement {
	out := idle(p)
	if !slices.Contains(out, true) {
		return p
	}
	q := placement.Placement{Experts: p.Experts, GPUSlots: []int{}, PhysicalToLogical: make([][]int, len(p.PhysicalToLogical))}
	first := p.FirstSlots()
	for g := range p.GPUs {
		if out[g] {
			continue
		}
		q.GPUs++
		q.GPUSlots = append(q.GPUSlots, first[g+1]-first[g])
		for l, row := range p.PhysicalToLogical {
			q.PhysicalToLogical[l] = append(q.PhysicalToLogical[l], row[first[g]:first[g+1]]...)
		}
	}
	return &q
}
