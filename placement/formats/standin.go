// Package formats stands in for the real package until it is merged: JSON only.
package formats

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/moelb/moelb/placement"
)

type Stats struct {
	Windows   []placement.Loads
	Format    string
	Placement *placement.Placement
}

func (s *Stats) Sum() placement.Loads {
	l := placement.NewLoads(len(s.Windows[0]), s.Windows[0].Experts())
	for _, w := range s.Windows {
		l.AddWindow(w)
	}
	return l
}

type Format string

func Formats() []Format {
	return []Format{"moelb", "sglang", "vllm-ascend", "tensorrt-llm", "omni", "fastdeploy"}
}

func ParseFormat(name string) (Format, error) {
	for _, f := range Formats() {
		if string(f) == name {
			return f, nil
		}
	}
	return "", fmt.Errorf("format: %q is unknown", name)
}

type EncodeOptions struct{ FirstLayer int }

func ReadStats(path string) (Stats, error) {
	f, err := os.Open(path)
	if err != nil {
		return Stats{}, err
	}
	defer f.Close()
	return DecodeStats(f)
}

func DecodeStats(r io.Reader) (Stats, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return Stats{}, err
	}
	var v struct {
		LogicalCount json.RawMessage `json:"logical_count"`
	}
	raw := bytes.TrimSpace(b)
	if len(raw) > 0 && raw[0] == '{' {
		if err := json.Unmarshal(raw, &v); err != nil {
			return Stats{}, err
		}
		raw = v.LogicalCount
	}
	if len(raw) == 0 {
		return Stats{}, errors.New("no known format of statistics")
	}
	var w [][][]float64
	if json.Unmarshal(raw, &w) != nil {
		var rows [][]float64
		if err := json.Unmarshal(raw, &rows); err != nil {
			return Stats{}, err
		}
		w = [][][]float64{rows}
	}
	s := Stats{Format: "json"}
	for _, x := range w {
		if err := placement.Loads(x).Validate(); err != nil {
			return Stats{}, err
		}
		s.Windows = append(s.Windows, x)
	}
	if len(w) == 0 {
		return Stats{}, placement.Loads(nil).Validate()
	}
	return s, nil
}

func ReadPlacement(path string, gpus int) (placement.Placement, error) {
	f, err := os.Open(path)
	if err != nil {
		return placement.Placement{}, err
	}
	defer f.Close()
	return DecodePlacement(f, gpus)
}

func DecodePlacement(r io.Reader, gpus int) (placement.Placement, error) {
	var v struct {
		NumGPUs           int     `json:"num_gpus"`
		NumExperts        int     `json:"num_experts"`
		GPUSlots          []int   `json:"gpu_slots"`
		PhysicalToLogical [][]int `json:"physical_to_logical_map"`
	}
	if err := json.NewDecoder(r).Decode(&v); err != nil {
		return placement.Placement{}, err
	}
	p := placement.Placement{GPUs: gpus, Experts: v.NumExperts, GPUSlots: v.GPUSlots, PhysicalToLogical: v.PhysicalToLogical}
	if gpus == 0 {
		p.GPUs = v.NumGPUs
	}
	for _, row := range v.PhysicalToLogical {
		for _, e := range row {
			p.Experts = max(p.Experts, e+1)
		}
	}
	return p, p.Validate()
}

func EncodePlacement(w io.Writer, f Format, p *placement.Placement, o EncodeOptions) error {
	switch f {
	case "moelb":
		return json.NewEncoder(w).Encode(p)
	case "sglang":
		return json.NewEncoder(w).Encode(map[string]any{"physical_to_logical_map": p.PhysicalToLogical})
	case "tensorrt-llm":
		fmt.Fprintf(w, "num_slots: %d\ninitial_global_assignments:\n", p.Slots())
		for l, row := range p.PhysicalToLogical {
			fmt.Fprintf(w, "  %d: %s\n", l+o.FirstLayer, strings.ReplaceAll(fmt.Sprint(row), " ", ", "))
		}
		return nil
	}
	return fmt.Errorf("format: %s is not written yet", f)
}
