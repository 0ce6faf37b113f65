package formats

import (
	"bufio"
	"io"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// decodeNpyStats reads [layers, experts] or [windows, layers, experts]: as a
// stream, unless the first dimension is the fastest.
func decodeNpyStats(b *bufio.Reader, lim *guard.Limits) (Stats, error) {
	a, err := matrix.OpenNpy(b, lim)
	if err != nil {
		return Stats{}, err
	}
	if len(a.Shape) != 2 && len(a.Shape) != 3 {
		return Stats{}, guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s: (layers, experts) or (windows, layers, experts) is expected", guard.Shape(a.Shape))
	}
	t := table{lim: lim, field: "npy"}
	layers, experts := a.Shape[len(a.Shape)-2], a.Shape[len(a.Shape)-1]
	if layers > lim.Layers || experts > lim.Experts {
		return Stats{}, guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s: at most %d layers of %d experts are supported", guard.Shape(a.Shape), lim.Layers, lim.Experts)
	}
	if a.Fortran {
		if err := a.Hold(b, lim); err != nil {
			return Stats{}, err
		}
	}
	var row []float64
	raw := make([]byte, experts*a.Of.Size)
	for r := range int(a.Cells / int64(experts)) {
		if a.Fortran {
			row = a.Row(row[:0], r)
		} else {
			if n, err := io.ReadFull(b, raw); err != nil {
				return Stats{}, a.Short(int64(r)*int64(len(raw))+int64(n), err)
			}
			row = a.Elements(row[:0], raw, experts, a.Of.Size)
		}
		if err := t.add(row); err != nil {
			return Stats{}, err
		}
		if (r+1)%layers == 0 {
			if err := t.end(); err != nil {
				return Stats{}, err
			}
		}
	}
	if !a.Fortran {
		if err := a.Ended(b); err != nil {
			return Stats{}, err
		}
	}
	return t.stats("npy")
}
