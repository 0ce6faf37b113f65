package cost

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moelb/moelb/placement"
)

// modelFile is a model as a file has it.
type modelFile struct {
	Name              string `json:"name"`
	Layers            int    `json:"layers"`
	DenseLayers       int    `json:"dense_layers"`
	Experts           int    `json:"experts"`
	TopK              int    `json:"top_k"`
	Groups            int    `json:"groups"`
	GroupsPerToken    int    `json:"groups_per_token"`
	SharedExperts     int    `json:"shared_experts"`
	Hidden            int    `json:"hidden"`
	Intermediate      int    `json:"intermediate"`
	DenseIntermediate int    `json:"dense_intermediate"`
	Vocabulary        int    `json:"vocabulary"`
	Heads             int    `json:"heads"`
	QRank             int    `json:"q_rank"`
	KVRank            int    `json:"kv_rank"`
	Rope              int    `json:"rope"`
	Nope              int    `json:"nope"`
	Value             int    `json:"value"`
	KVHeads           int    `json:"kv_heads"`
	HeadDim           int    `json:"head_dim"`
	Attended          int    `json:"attended"`
	IndexHeads        int    `json:"index_heads"`
	IndexDim          int    `json:"index_dim"`
	Window            int    `json:"window"`
	WindowLayers      int    `json:"window_layers"`
	ExpertBits        int    `json:"expert_bits"`
	AttentionBits     int    `json:"attention_bits"`
}

// maxFile bounds a model's or GPU's file.
const maxFile = 1 << 16

func decodeFile(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return err
	}
	if len(b) > maxFile {
		return fmt.Errorf("longer than %d bytes", maxFile)
	}
	if err := distinct(b); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	var kind *json.UnmarshalTypeError
	switch err := d.Decode(into); {
	case errors.As(err, &kind):
		if kind.Field == "" {
			return fmt.Errorf("a JSON object is needed, not %s", kind.Value)
		}
		return fmt.Errorf("%s: not %s", kind.Field, kind.Value)
	case err == io.EOF:
		return fmt.Errorf("a JSON object is needed: there is nothing")
	case err != nil:
		return fmt.Errorf("%s", strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("more than one JSON object")
	}
	return nil
}

// distinct refuses what package json would take for a field and is none, or not for
// sure: one that is given twice, and one in capitals.
func distinct(b []byte) error {
	var open []map[string]bool // of the objects around; nil = a list
	d := json.NewDecoder(bytes.NewReader(b))
	for key := false; ; {
		t, err := d.Token()
		if err != nil {
			return nil // the end, or what decoding will say
		}
		top := len(open) - 1
		switch x := t.(type) {
		case json.Delim:
			switch x {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:top]
			}
			key = len(open) > 0 && open[len(open)-1] != nil
			continue
		case string:
			if key {
				if open[top][x] {
					return fmt.Errorf("%.40q: given twice", x)
				}
				if x != strings.ToLower(x) {
					return fmt.Errorf("unknown field %.40q", x)
				}
				open[top][x], key = true, false
				continue
			}
		}
		key = top >= 0 && open[top] != nil
	}
}

// ReadModel reads a model: one JSON object whose fields are those of Model in snake
// case; groups is 1 and bits are 8 unless said. An error names the field.
func ReadModel(r io.Reader) (Model, error) {
	f := modelFile{Groups: 1, GroupsPerToken: 1, ExpertBits: 8, AttentionBits: 8}
	if err := decodeFile(r, &f); err != nil {
		return Model{}, fmt.Errorf("model: %w", err)
	}
	m := Model{
		Model: placement.Model{Name: f.Name, Layers: f.Layers, DenseLayers: f.DenseLayers, Experts: f.Experts, TopK: f.TopK, Groups: f.Groups, Hidden: f.Hidden, Intermediate: f.Intermediate, WeightBytes: max(1, f.ExpertBits/8)},
		Heads: f.Heads, QRank: f.QRank, KVRank: f.KVRank, Rope: f.Rope, Nope: f.Nope, Value: f.Value, KVHeads: f.KVHeads, HeadDim: f.HeadDim,
		Attended: f.Attended, IndexHeads: f.IndexHeads, IndexDim: f.IndexDim, Window: f.Window, WindowLayers: f.WindowLayers,
		DenseIntermediate: f.DenseIntermediate, Vocabulary: f.Vocabulary, GroupsPerToken: f.GroupsPerToken, SharedExperts: f.SharedExperts, ExpertBits: f.ExpertBits, AttentionBits: f.AttentionBits,
	}
	if m.Name == "" {
		return Model{}, fmt.Errorf("model: name: missing")
	}
	return m, m.Validate()
}

// ReadGPU reads a kind of GPU: one JSON object whose fields are those of GPU in
// snake case. An error names the field.
func ReadGPU(r io.Reader) (GPU, error) {
	var g GPU
	if err := decodeFile(r, &g); err != nil {
		return GPU{}, fmt.Errorf("gpu: %w", err)
	}
	if g.Name == "" {
		return GPU{}, fmt.Errorf("gpu: name: missing")
	}
	if g.Domain == 0 {
		g.Domain = g.Node
	}
	return g, g.Validate()
}
