package track

import (
	"encoding/json"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// trackerVersion is that of trackers as JSON. Those of version 1 kept several streams,
// and other sums than those of windows.
const trackerVersion = 2

// MarshalJSON writes all that the tracker knows: one that is read again goes on
// as if nothing had happened, but for Roll, which may allocate until as many
// windows are closed as are kept.
func (t *Tracker) MarshalJSON() ([]byte, error) { return json.Marshal(t.file) }

// UnmarshalJSON reads what MarshalJSON writes. Its errors name the field; then t is
// unchanged.
func (t *Tracker) UnmarshalJSON(text []byte) error {
	var f file
	if err := strict.Decode(text, "tracker", trackerVersion, &f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	t.file = f
	return nil
}

// check demands as many counts as are tracked in each window, none of them negative.
func (f *file) check() error {
	if err := f.checkShape(); err != nil {
		return err
	}
	switch {
	case len(f.Closed) > f.Kept:
		return refuse.Errorf(placement.ErrValue, "closed", "%d windows, where %d are kept", len(f.Closed), f.Kept)
	case f.InOpen < 0 || f.SamplesPerWindow > 0 && f.InOpen >= f.SamplesPerWindow:
		return refuse.Errorf(placement.ErrValue, "open_samples", "%d of %d", f.InOpen, f.SamplesPerWindow)
	}
	for _, list := range append([][]int64{f.Open}, f.Closed...) {
		if len(list) != f.Layers*f.Experts {
			return refuse.Errorf(placement.ErrValue, "counts", "%d, but %d are tracked", len(list), f.Layers*f.Experts)
		}
		for i, n := range list {
			if n < 0 {
				return refuse.At(placement.ErrValue, "counts", i/f.Experts, i%f.Experts, "%d is negative", n)
			}
		}
	}
	return nil
}
