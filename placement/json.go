package placement

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
)

// wire is a Placement as JSON: the fields that engines know, and what is
// needed to read them without guessing.
type wire struct {
	Version           int       `json:"version"`
	NumExperts        int       `json:"num_experts"`
	NumGPUs           int       `json:"num_gpus"`
	GPUSlots          []int     `json:"gpu_slots,omitempty"`
	LayerExperts      []int     `json:"layer_experts,omitempty"`
	PhysicalToLogical [][]int   `json:"physical_to_logical_map"`
	LogicalToPhysical [][][]int `json:"logical_to_physical_map,omitempty"`
	LogicalCount      [][]int   `json:"logical_count,omitempty"`
}

// MarshalJSON writes version, num_experts, num_gpus, gpu_slots and layer_experts
// where they differ, and the three maps; an incomplete placement has logical_count 0 where an
// expert has no replica. An invalid placement is an error.
func (p Placement) MarshalJSON() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if err := p.CheckWidth(); err != nil {
		return nil, err
	}
	return json.Marshal(wire{Version: 1, NumExperts: p.Experts, NumGPUs: p.GPUs, GPUSlots: p.GPUSlots, LayerExperts: p.LayerExperts, PhysicalToLogical: p.PhysicalToLogical,
		LogicalToPhysical: p.LogicalToPhysical(), LogicalCount: p.LogicalCount()})
}

// UnmarshalJSON reads what MarshalJSON writes. The two maps that follow from
// physical_to_logical_map may be left out; where logical_to_physical_map is
// given it must agree, and its order of replicas is kept as ReplicaRank.
// Unknown fields, one that stands there twice, and null are errors. On error p
// is unchanged.
func (p *Placement) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var w wire
	if err := d.Decode(&w); err != nil {
		return fmt.Errorf("placement: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("placement: more than one JSON value")
	}
	if err := checkText(b); err != nil {
		return err
	}
	if w.Version != 1 {
		return errorf(ErrValue, "version", -1, -1, "%d: this is version 1", w.Version)
	}
	q := Placement{Experts: w.NumExperts, GPUs: w.NumGPUs, GPUSlots: w.GPUSlots, LayerExperts: w.LayerExperts, PhysicalToLogical: w.PhysicalToLogical}
	if err := q.Validate(); err != nil {
		return err
	}
	if w.LogicalCount != nil {
		if err := q.CheckLogicalCount(w.LogicalCount); err != nil {
			return err
		}
	}
	if w.LogicalToPhysical != nil {
		if err := q.SetLogicalToPhysical(w.LogicalToPhysical); err != nil {
			return err
		}
	}
	*p = q
	return nil
}

// checkText finds in well-formed JSON what encoding/json lets pass: null, which
// it reads as 0, and a key that is repeated or written in other case.
func checkText(b []byte) error {
	known := []string{"version", "num_experts", "num_gpus", "gpu_slots", "layer_experts", "physical_to_logical_map", "logical_to_physical_map", "logical_count"}
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case 'n':
			return errorf(ErrValue, "placement", -1, -1, "null at byte %d", i)
		case '"':
			end := i + 1
			for ; b[end] != '"'; end++ {
				if b[end] == '\\' {
					end++
				}
			}
			k := slices.Index(known, string(b[i+1:end]))
			if k < 0 {
				return errorf(ErrValue, "placement", -1, -1, "%.40q stands twice or is not a field", b[i+1:end])
			}
			known[k] = "" // no key twice
			i = end
		}
	}
	return nil
}

// CheckLogicalCount returns an *Error unless got, as a file may give it beside
// the map, is LogicalCount. p must be valid.
func (p *Placement) CheckLogicalCount(got [][]int) error {
	want := p.LogicalCount()
	if len(got) != len(want) {
		return errorf(ErrShape, "logical_count", -1, -1, "%d layers, but the placement has %d", len(got), len(want))
	}
	for l := range want {
		if len(got[l]) != len(want[l]) {
			return errorf(ErrShape, "logical_count", l, -1, "%d experts, but the placement has %d", len(got[l]), len(want[l]))
		}
		for e := range want[l] {
			if got[l][e] != want[l][e] {
				return errorf(ErrValue, "logical_count", l, e, "%d, but physical_to_logical_map has %d replicas", got[l][e], want[l][e])
			}
		}
	}
	return nil
}

// SetLogicalToPhysical sets ReplicaRank so that LogicalToPhysical lists the
// replicas in log2phy's order, [layers][experts][any width], padded with -1. It
// is an *Error, and p unchanged, unless log2phy names p's slots. p must be valid.
func (p *Placement) SetLogicalToPhysical(log2phy [][][]int) error {
	const field = "logical_to_physical_map"
	if len(log2phy) != len(p.PhysicalToLogical) {
		return errorf(ErrShape, field, -1, -1, "%d layers, but the placement has %d", len(log2phy), len(p.PhysicalToLogical))
	}
	ranks := make([][]int, len(log2phy))
	inOrder := true
	for l, experts := range log2phy {
		if len(experts) != p.Experts {
			return errorf(ErrShape, field, l, -1, "%d experts, but the placement has %d", len(experts), p.Experts)
		}
		row := p.PhysicalToLogical[l]
		rank := make([]int, len(row))
		left := 0
		for s, e := range row {
			rank[s] = -1
			if e >= 0 {
				left++
			}
		}
		for e, slots := range experts {
			last := -1
			for k, s := range slots {
				if s == -1 {
					continue
				}
				if s < 0 || s >= len(row) || row[s] != e || rank[s] >= 0 || (k > 0 && slots[k-1] == -1) {
					return errorf(ErrValue, field, l, e, "slot %d does not agree with physical_to_logical_map", s)
				}
				rank[s] = k
				inOrder = inOrder && s > last
				last = s
				left--
			}
		}
		if left != 0 {
			return errorf(ErrValue, field, l, -1, "%d slots of physical_to_logical_map are missing", left)
		}
		for s, e := range row {
			if e < 0 {
				rank[s] = 0
			}
		}
		ranks[l] = rank
	}
	if p.ReplicaRank = ranks; inOrder {
		p.ReplicaRank = nil
	}
	return nil
}
