package track

import (
	"encoding/json"
	"math"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// pairsFile is Pairs as JSON: the counts of a layer are of experts b < a, at
// a(a-1)/2+b.
type pairsFile struct {
	Version int         `json:"version"`
	Experts int         `json:"experts"`
	Counts  [][]float64 `json:"counts"`
}

// MarshalJSON writes all that was counted: pairs that are read again go on as if
// nothing had happened.
func (p *Pairs) MarshalJSON() ([]byte, error) {
	return json.Marshal(pairsFile{Version: 1, Experts: p.experts, Counts: p.counts})
}

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
	p.experts, p.counts = f.Experts, f.Counts
	return nil
}
