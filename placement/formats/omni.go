package formats

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// omniFields are the keys of omni-infer's placements as JSON.
type omniFields struct {
	devices, layers, experts int // 0 = not given
	slots                    []int
	held                     [][][]int // [layers][devices][experts]
}

func (f *omniFields) read(s *scanner, key string) (known bool, err error) {
	switch key {
	case "source", "model":
		_, err = s.str()
	case "devices":
		f.devices, err = s.integer(key, -1, -1)
	case "moe_layers":
		f.layers, err = s.integer(key, -1, -1)
	case "experts":
		f.experts, err = s.integer(key, -1, -1)
	case "slots_per_layer":
		f.slots, err = s.integers(key, -1, s.lim.Layers)
	case "device_experts":
		f.held, err = s.integerCube(key, s.lim.GPUs, s.lim.Slots)
	default:
		return false, nil
	}
	return true, err
}

// placement gives a device as many slots as it fills in its fullest layer; what
// it leaves unfilled in another is empty there.
func (f *omniFields) placement() (placement.Placement, error) {
	p, err := fromDevices(f.held, f.experts, "device_experts", true)
	switch {
	case err != nil:
		return p, err
	case f.layers != 0 && f.layers != len(f.held):
		return p, guard.Errorf(placement.ErrShape, "moe_layers", -1, -1, "%d, but device_experts has %d", f.layers, len(f.held))
	case f.devices != 0 && f.devices != p.GPUs:
		return p, guard.Errorf(placement.ErrShape, "devices", -1, -1, "%d, but device_experts has %d", f.devices, p.GPUs)
	case f.slots != nil && len(f.slots) != len(f.held):
		return p, guard.Errorf(placement.ErrShape, "slots_per_layer", -1, -1, "%d entries, but device_experts has %d layers", len(f.slots), len(f.held))
	}
	for l, want := range f.slots {
		filled := 0
		for _, row := range f.held[l] {
			filled += len(row)
		}
		if filled != want {
			return p, guard.Errorf(placement.ErrValue, "slots_per_layer", l, -1, "%d, but device_experts fills %d", want, filled)
		}
	}
	return p, nil
}

// fromPattern reads a 0/1 tensor whose row (d, l) is row(d, l). A device's
// experts stand in ascending order: the tensor does not tell their slots.
func fromPattern(devices, layers, experts int, row func(d, l int) []float64) (placement.Placement, error) {
	const field = "placement_pattern"
	held := make([][][]int, layers)
	for l := range held {
		held[l] = make([][]int, devices)
	}
	for d := range devices {
		for l := range layers {
			for e, v := range row(d, l) {
				if v != 0 && v != 1 {
					return placement.Placement{}, guard.Errorf(placement.ErrValue, fmt.Sprintf("%s, device %d", field, d), l, e, "%v is neither 0 nor 1", v)
				}
				if v == 1 {
					held[l][d] = append(held[l][d], e)
				}
			}
		}
	}
	return fromDevices(held, experts, field, true)
}

// decodeOmniNpy reads the .npy that omni-infer loads.
func decodeOmniNpy(b *bufio.Reader, lim *guard.Limits) (placement.Placement, error) {
	a, err := matrix.ReadNpy(b, lim)
	if err != nil {
		return placement.Placement{}, err
	}
	if len(a.Shape) != 3 {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s: a placement of omni-infer is [device][layer][expert]", guard.Shape(a.Shape))
	}
	if a.Shape[0] > lim.GPUs || a.Shape[1] > lim.Layers || a.Shape[2] > lim.Experts {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most (%d, %d, %d) is supported", guard.Shape(a.Shape), lim.GPUs, lim.Layers, lim.Experts)
	}
	var buf []float64
	return fromPattern(a.Shape[0], a.Shape[1], a.Shape[2], func(d, l int) []float64 {
		buf = a.Row(buf[:0], d*a.Shape[1]+l)
		return buf
	})
}

// decodeOmniArray reads the same tensor as nested JSON arrays, of which two
// brackets have been taken.
func decodeOmniArray(s *scanner) (placement.Placement, error) {
	t := table{lim: s.lim, field: "placement_pattern", exact: true}
	if err := s.restWindows(&t); err != nil {
		return placement.Placement{}, err
	}
	if err := s.finish(); err != nil {
		return placement.Placement{}, err
	}
	w := t.windows
	return fromPattern(len(w), len(w[0]), w[0].Experts(), func(d, l int) []float64 { return w[d][l] })
}

// encodeOmni writes the tensor as an int32 .npy.
func encodeOmni(p *placement.Placement) ([]byte, error) {
	if err := once(p, Omni); err != nil {
		return nil, err
	}
	layers := len(p.PhysicalToLogical)
	if int64(p.GPUs)*int64(layers)*int64(p.Experts) > placement.MaxCells {
		return nil, guard.Errorf(placement.ErrShape, "placement_pattern", -1, -1, "%d devices, %d layers, %d experts: more than %d numbers", p.GPUs, layers, p.Experts, placement.MaxCells)
	}
	b := matrix.NpyHeader("<i4", []int{p.GPUs, layers, p.Experts})
	from := len(b)
	b = append(b, make([]byte, 4*p.GPUs*layers*p.Experts)...)
	first := p.FirstSlots()
	for l, row := range p.PhysicalToLogical {
		for g := range p.GPUs {
			for _, e := range row[first[g]:first[g+1]] {
				if e >= 0 {
					binary.LittleEndian.PutUint32(b[from+4*((g*layers+l)*p.Experts+e):], 1)
				}
			}
		}
	}
	return b, nil
}

// encodeOmniJSON writes each device's experts, in the order of its slots.
func encodeOmniJSON(p *placement.Placement) ([]byte, error) {
	if err := once(p, OmniJSON); err != nil {
		return nil, err
	}
	filled := make([]int, len(p.PhysicalToLogical))
	var b []byte
	first := p.FirstSlots()
	for l, row := range p.PhysicalToLogical {
		devices := make([][]int, p.GPUs)
		for g := range devices {
			devices[g] = slices.DeleteFunc(slices.Clone(row[first[g]:first[g+1]]), func(e int) bool { return e < 0 })
			filled[l] += len(devices[g])
		}
		if l > 0 {
			b = append(b, ',')
		}
		b = append(appendRows(append(b, "\n["...), devices), ']')
	}
	head := fmt.Appendf(nil, "{\"devices\": %d, \"moe_layers\": %d, \"experts\": %d, \"slots_per_layer\": ", p.GPUs, len(p.PhysicalToLogical), p.Experts)
	head = append(appendInts(head, filled), ",\n\"device_experts\": ["...)
	return append(append(head, b...), "\n]}\n"...), nil
}
