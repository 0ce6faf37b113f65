package schedule

import (
	"cmp"
	"encoding/json"
	"fmt"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// file is a Schedule as JSON, fileRound a Round. Seconds are null where it is not
// priced.
type (
	plain     Schedule
	plainRnd  Round
	fileRound struct {
		Seconds *float64 `json:"seconds"`
		plainRnd
		Moves []fileMove `json:"moves"`
	}
	fileMove struct {
		Layer  *int `json:"layer"`
		Expert *int `json:"expert"`
		From   *int `json:"from"`
		To     *int `json:"to"`
	}
	file struct {
		Version      int      `json:"version"`
		Seconds      *float64 `json:"seconds"`
		SecondsBound *float64 `json:"seconds_bound"`
		plain
		Rounds []fileRound `json:"rounds"`
	}
)

// MarshalJSON writes all of the schedule: with the placement that it starts from
// and the number of rounds done, it is what a controller needs to go on.
func (s Schedule) MarshalJSON() ([]byte, error) {
	seconds := func(v float64) *float64 {
		if s.Priced {
			return &v
		}
		return nil
	}
	f := file{Version: 1, Seconds: seconds(s.Seconds), SecondsBound: seconds(s.SecondsBound), plain: plain(s), Rounds: make([]fileRound, len(s.Rounds))}
	for i, r := range s.Rounds {
		f.Rounds[i] = fileRound{seconds(r.Seconds), plainRnd(r), make([]fileMove, len(r.Moves))}
		for k := range r.Moves {
			m := &r.Moves[k]
			f.Rounds[i].Moves[k] = fileMove{&m.Layer, &m.Expert, &m.From, &m.To}
		}
	}
	return json.Marshal(f)
}

// UnmarshalJSON reads what MarshalJSON writes. Its errors name the field and the
// round; then s is unchanged.
func (s *Schedule) UnmarshalJSON(text []byte) error {
	var f file
	if err := strict.Decode(text, "schedule", 1, &f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	out := Schedule(f.plain)
	if out.Priced = f.Seconds != nil; out.Priced {
		out.Seconds, out.SecondsBound = *f.Seconds, *f.SecondsBound
	}
	slots := len(out.GPUOf())
	for i := range f.Rounds {
		r, err := f.Rounds[i].read(i, slots, out.Priced)
		if err != nil {
			return err
		}
		out.Rounds = append(out.Rounds, r)
	}
	counted := out
	counted.sum()
	if c, o := &counted, &out; c.Moves != o.Moves || c.Outside != o.Outside || c.Bytes != o.Bytes || c.StagedBytes != o.StagedBytes || c.Peers != o.Peers {
		return bad("copies", "%d, %d of them from outside, %d bytes, %d staged, %d peers, but the rounds make %d, %d, %d, %d, %d",
			o.Moves, o.Outside, o.Bytes, o.StagedBytes, o.Peers, c.Moves, c.Outside, c.Bytes, c.StagedBytes, c.Peers)
	}
	*s = out
	return nil
}

// check demands numbers that belong to one schedule. That the moves fit a
// placement is seen when they are applied to it.
func (f *file) check() error {
	if err := f.checkSlots(); err != nil {
		return err
	}
	return cmp.Or(
		refuse.Value(f.Rounds == nil, "rounds", "missing"),
		refuse.Value(f.Seconds != nil && f.SecondsBound == nil, "seconds_bound", "null, but seconds are known"),
		refuse.Value(f.RoundsBound < 0, "rounds_bound", "%d is negative", f.RoundsBound),
		refuse.Value(f.Restore < 0 || f.Restore > len(f.Rounds), "restore_rounds", "%d of %d", f.Restore, len(f.Rounds)),
		refuse.Value(f.Emptied < 0 || f.Emptied > len(f.Rounds), "emptied_rounds", "%d of %d", f.Emptied, len(f.Rounds)),
		checkExpertBytes(f.ExpertBytes),
	)
}

func bad(field, format string, args ...any) error {
	return refuse.Errorf(placement.ErrValue, field, format, args...)
}

// checkSlots demands slots of GPUs that there can be.
func (f *file) checkSlots() error {
	slots, gpus := 0, len(f.GPUSlots)
	for g, n := range f.GPUSlots {
		before, after := at(f.Before, g), at(f.After, g)
		if min(before, after) < 0 || n > placement.MaxSlots || n != max(before, after) {
			return bad("gpu_slots", "%d slots on GPU %d, with %d before and %d after", n, g, before, after)
		}
		slots += n
	}
	if err := cmp.Or(
		refuse.Value(gpus == 0 || gpus > placement.MaxGPUs || gpus != max(len(f.Before), len(f.After)), "gpu_slots", "%d GPUs, with %d before and %d after", gpus, len(f.Before), len(f.After)),
		refuse.Value(slots > placement.MaxSlots, "gpu_slots", "%d slots: at most %d are supported", slots, placement.MaxSlots),
	); err != nil {
		return err
	}
	for _, x := range []struct {
		field string
		list  []int
	}{{"dead", f.Dead}, {"leaving", f.Leaving}} {
		for i, g := range x.list {
			if g < 0 || g >= gpus || i > 0 && g <= x.list[i-1] {
				return bad(x.field, "GPU %d: there are %d, each once and in order", g, gpus)
			}
		}
	}
	return nil
}

// read is round i of a schedule with so many slots: it names moves that it has, and
// slots that there are.
func (r *fileRound) read(i, slots int, priced bool) (Round, error) {
	out := Round(r.plainRnd)
	refused := func(format string, args ...any) (Round, error) {
		return out, bad("rounds", "round %d: %s", i, fmt.Sprintf(format, args...))
	}
	if priced && r.Seconds == nil {
		return refused("no seconds, but the schedule has")
	}
	if priced {
		out.Seconds = *r.Seconds
	}
	if r.Moves == nil {
		return refused("no moves")
	}
	for _, k := range r.Staged {
		if k < 0 || k >= len(r.Moves) {
			return refused("move %d is staged: there are %d", k, len(r.Moves))
		}
	}
	for k, x := range r.Moves {
		if x.Layer == nil || x.Expert == nil || x.From == nil || x.To == nil {
			return refused("move %d lacks its layer, expert, from or to", k)
		}
		m := placement.Move{Layer: *x.Layer, Expert: *x.Expert, From: *x.From, To: *x.To}
		if m.Layer < 0 || m.Layer >= placement.MaxLayers || m.Expert < -1 || m.Expert >= placement.MaxExperts || m.From < -1 || m.From >= slots || m.To < 0 || m.To >= slots {
			return refused("move %d, %+v, is none of %d slots", k, m, slots)
		}
		out.Moves = append(out.Moves, m)
	}
	return out, nil
}
