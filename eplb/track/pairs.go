package track

import (
	"encoding/json"
	"math"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// Pairs counts how many tokens of a running system chose two experts together, in
// memory that does not grow with tokens: 8 bytes a pair and layer, 15 MB for 58
// layers of 256 experts. It is what eplb.Problem.Routes wants where tokens are too
// many to be kept.
//
// It is not safe for concurrent use. Add allocates nothing.
type Pairs struct{ file pairsFile }

// pairsFile is Pairs as JSON.
type pairsFile struct {
	Version int         `json:"version"`
	Experts int         `json:"experts"`
	Counts  [][]float64 `json:"counts"` // [layers], of experts b < a at a(a-1)/2+b
}

// NewPairs counts in so many layers. Its errors are *placement.Error.
func NewPairs(layers, experts int) (*Pairs, error) {
	if err := validateShape(layers, experts); err != nil {
		return nil, err
	}
	each := int64(experts) * int64(experts-1) / 2 // more than a 32-bit int holds
	if each > int64(placement.MaxCells/layers) {
		return nil, refuse.Errorf(placement.ErrShape, "experts", "%d of %d layers: at most %d pairs are supported", experts, layers, placement.MaxCells)
	}
	p := &Pairs{pairsFile{Version: 1, Experts: experts, Counts: make([][]float64, layers)}}
	for l := range p.file.Counts {
		p.file.Counts[l] = make([]float64, each)
	}
	return p, nil
}

// Add counts one token's experts in a layer, distinct, in any order, at a cost of
// their pairs. Bad input is a *placement.Error and changes nothing.
func (p *Pairs) Add(layer int, experts []uint16) error {
	if layer < 0 || layer >= len(p.file.Counts) {
		return refuse.Errorf(placement.ErrValue, "layer", "%d: there are %d", layer, len(p.file.Counts))
	}
	for i, a := range experts {
		if int(a) >= p.file.Experts {
			return refuse.At(placement.ErrValue, "experts", layer, i, "expert %d: there are %d", a, p.file.Experts)
		}
		for _, b := range experts[:i] {
			if a == b {
				return refuse.At(placement.ErrValue, "experts", layer, i, "expert %d twice in a token", a)
			}
		}
	}
	row := p.file.Counts[layer]
	for i, a := range experts {
		for _, b := range experts[:i] {
			hi, lo := int(max(a, b)), int(min(a, b))
			row[hi*(hi-1)/2+lo]++
		}
	}
	return nil
}

// Fade makes all that was counted so far count so many times as much, 0 to 1:
// what is chosen together changes within hours. Called once a window, with 1/2, a
// window before the last one counts half.
func (p *Pairs) Fade(keep float64) error {
	if !(keep >= 0 && keep <= 1) {
		return refuse.Errorf(placement.ErrValue, "keep", "%v: a number from 0 to 1 is needed", keep)
	}
	for _, row := range p.file.Counts {
		for i := range row {
			row[i] *= keep
		}
	}
	return nil
}

// Routes returns what was counted, as eplb.Problem.Routes wants it: a layer's
// counts are scaled to 2^24 tokens in all where they are fewer or more.
func (p *Pairs) Routes() *placement.Routes {
	out := &placement.Routes{TopK: 2}
	for _, row := range p.file.Counts {
		all := 0.0
		for _, n := range row {
			all += n
		}
		ids, weights := []uint16{}, []int32{}
		for a := range p.file.Experts {
			for b := range a {
				w := math.Round(float64(row[a*(a-1)/2+b]/max(all, 1e-300)) * (1 << 24))
				if w > 0 {
					ids, weights = append(ids, uint16(b), uint16(a)), append(weights, int32(w))
				}
			}
		}
		out.IDs, out.Weights = append(out.IDs, ids), append(out.Weights, weights)
	}
	return out
}

// MarshalJSON writes all that was counted: pairs that are read again go on as if
// nothing had happened.
func (p *Pairs) MarshalJSON() ([]byte, error) { return json.Marshal(p.file) }

// UnmarshalJSON reads what MarshalJSON writes. Its errors name the field; then p is
// unchanged.
func (p *Pairs) UnmarshalJSON(text []byte) error {
	var f pairsFile
	if err := strict.Decode(text, "pairs", 1, &f); err != nil {
		return err
	}
	if err := validateShape(len(f.Counts), f.Experts); err != nil {
		return err
	}
	each := f.Experts * (f.Experts - 1) / 2
	for l, row := range f.Counts {
		if len(row) != each {
			return refuse.At(placement.ErrShape, "counts", l, -1, "%d, but %d experts have %d pairs", len(row), f.Experts, each)
		}
		for i, x := range row {
			if !(x >= 0) || math.IsInf(x, 0) {
				return refuse.At(placement.ErrValue, "counts", l, i, "%v is not a finite number ≥ 0", x)
			}
		}
	}
	p.file = f
	return nil
}
