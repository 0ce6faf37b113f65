package track

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// file is a Tracker as JSON.
type file struct {
	Version          int      `json:"version"`
	Layers           int      `json:"layers"`
	Experts          int      `json:"experts"`
	Windows          int      `json:"windows"`
	SamplesPerWindow int      `json:"samples_per_window"`
	HalfLife         float64  `json:"half_life"`
	Streams          []stream `json:"streams"`
}

// MarshalJSON writes all that the tracker knows: one that is read again goes on
// as if nothing had happened, but for Roll, which may allocate until as many
// windows are closed as are kept.
func (t *Tracker) MarshalJSON() ([]byte, error) {
	return json.Marshal(file{Version: 1, Layers: t.layers, Experts: t.experts, Windows: t.o.Windows, SamplesPerWindow: t.o.SamplesPerWindow, HalfLife: t.o.HalfLife, Streams: t.streams})
}

// UnmarshalJSON reads what MarshalJSON writes. Its errors name the field and the
// stream; then t is unchanged.
func (t *Tracker) UnmarshalJSON(text []byte) error {
	var f file
	if err := strict.Decode(text, "tracker", &f); err != nil {
		return err
	}
	if err := strict.Version(f.Version); err != nil {
		return err
	}
	if len(f.Streams) == 0 {
		return refuse.Errorf(placement.ErrShape, "streams", "none")
	}
	out, err := empty(f.Layers, f.Experts, Options{Streams: len(f.Streams), Windows: f.Windows, SamplesPerWindow: f.SamplesPerWindow, HalfLife: f.HalfLife})
	if err != nil {
		return err
	}
	for i := range f.Streams {
		if err := f.Streams[i].check(i, f.Layers*f.Experts, f.Experts, out.o); err != nil {
			return err
		}
	}
	out.streams = f.Streams
	*t = *out
	return nil
}

// check demands of stream i as many counts as are tracked.
func (s *stream) check(i, cells, experts int, o Options) error {
	bad := func(field, format string, args ...any) error {
		return refuse.Errorf(placement.ErrValue, field, "stream %d: %s", i, fmt.Sprintf(format, args...))
	}
	switch {
	case o.Windows > 0 && s.Open == nil || o.Windows == 0 && (s.Open != nil || s.Closed != nil):
		return bad("open", "%d counts, where %d windows are kept", len(s.Open), o.Windows)
	case len(s.Closed) > o.Windows:
		return bad("closed", "%d windows, where %d are kept", len(s.Closed), o.Windows)
	case s.InOpen < 0 || o.SamplesPerWindow > 0 && s.InOpen >= o.SamplesPerWindow:
		return bad("open_samples", "%d of %d", s.InOpen, o.SamplesPerWindow)
	case (o.HalfLife > 0) != (s.Decayed != nil):
		return bad("decayed", "%d numbers, with a half-life of %v", len(s.Decayed), o.HalfLife)
	case s.Decayed != nil && len(s.Decayed) != cells:
		return bad("decayed", "%d numbers, but %d are tracked", len(s.Decayed), cells)
	case s.Decayed == nil && s.Unit != 0 || s.Decayed != nil && !(s.Unit >= 1 && s.Unit <= 2*rescaleAbove):
		return bad("unit", "%v", s.Unit)
	}
	if err := s.checkCounts(bad, cells, experts); err != nil {
		return err
	}
	for _, x := range s.Decayed {
		if !(x >= 0) || math.IsInf(x, 0) {
			return bad("decayed", "%v is not a finite number ≥ 0", x)
		}
	}
	return nil
}

// checkCounts demands as many counts as are tracked in each list, none of them negative.
func (s *stream) checkCounts(bad func(field, format string, args ...any) error, cells, experts int) error {
	lists := [][]int64{s.Sum}
	if s.Open != nil {
		lists = append(lists, s.Open)
	}
	for _, list := range append(lists, s.Closed...) {
		if len(list) != cells {
			return bad("counts", "%d, but %d are tracked", len(list), cells)
		}
		for e, n := range list {
			if n < 0 {
				return bad("counts", "layer %d, expert %d: %d is negative", e/experts, e%experts, n)
			}
		}
	}
	return nil
}
