package schedule

import (
	"encoding/json"
	"math"

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
	if err := strict.Decode(text, "schedule", &f); err != nil {
		return err
	}
	if err := f.check(); err != nil {
		return err
	}
	out := Schedule(f.plain)
	if out.Priced = f.Seconds != nil; out.Priced {
		out.Seconds, out.SecondsBound = *f.Seconds, *f.SecondsBound
	}
	for _, r := range f.Rounds {
		x := Round(r.plainRnd)
		for _, m := range r.Moves {
			move, _ := m.move() // which check has seen
			x.Moves = append(x.Moves, move)
		}
		if out.Priced {
			x.Seconds = *r.Seconds
		}
		out.Rounds = append(out.Rounds, x)
	}
	counted := out
	if counted.sum(); counted.Moves != out.Moves || counted.Outside != out.Outside {
		return bad("copies", "%d, %d of them from outside, but the rounds make %d, %d of them", out.Moves, out.Outside, counted.Moves, counted.Outside)
	}
	*s = out
	return nil
}

// check demands numbers that belong to one schedule. That the moves fit a
// placement is seen when they are applied to it.
func (f *file) check() error {
	if err := strict.Version(f.Version); err != nil {
		return err
	}
	slots, err := f.checkSlots()
	if err != nil {
		return err
	}
	if f.Rounds == nil {
		return bad("rounds", "missing")
	}
	if f.Seconds != nil && f.SecondsBound == nil {
		return bad("seconds_bound", "null, but seconds are known")
	}
	for _, x := range []struct {
		field   string
		n, most int64
	}{
		{"rounds_bound", int64(f.RoundsBound), math.MaxInt64}, {"restore_rounds", int64(f.Restore), int64(len(f.Rounds))}, {"emptied_rounds", int64(f.Emptied), int64(len(f.Rounds))},
		{"copies", int64(f.Moves), math.MaxInt64}, {"outside_copies", int64(f.Outside), int64(f.Moves)}, {"bytes", f.Bytes, math.MaxInt64},
		{"expert_bytes", f.ExpertBytes, maxExpertBytes}, {"staged_bytes", f.StagedBytes, math.MaxInt64}, {"peers", int64(f.Peers), placement.MaxGPUs},
	} {
		if x.n < 0 || x.n > x.most {
			return bad(x.field, "%d: between 0 and %d are possible", x.n, x.most)
		}
	}
	for i, r := range f.Rounds {
		if f.Seconds != nil && r.Seconds == nil {
			return bad("rounds", "round %d: no seconds, but the schedule has", i)
		}
		if err := r.check(i, slots); err != nil {
			return err
		}
	}
	return nil
}

func bad(field, format string, args ...any) error {
	return refuse.Errorf(placement.ErrValue, field, format, args...)
}

// checkSlots counts the slots that rounds may name.
func (f *file) checkSlots() (slots int, err error) {
	for g, n := range f.GPUSlots {
		before, after := at(f.Before, g), at(f.After, g)
		if least := min(before, after); least < 0 {
			return 0, bad("gpu_slots", "%d slots on GPU %d", least, g)
		}
		if n > placement.MaxSlots || n != max(before, after) {
			return 0, bad("gpu_slots", "%d slots on GPU %d: the larger of those before and after is expected", n, g)
		}
		slots += n
	}
	switch {
	case len(f.GPUSlots) == 0 || len(f.GPUSlots) > placement.MaxGPUs || len(f.GPUSlots) != max(len(f.Before), len(f.After)):
		return 0, bad("gpu_slots", "%d GPUs, with %d before and %d after", len(f.GPUSlots), len(f.Before), len(f.After))
	case slots > placement.MaxSlots:
		return 0, bad("gpu_slots", "%d slots: at most %d are supported", slots, placement.MaxSlots)
	}
	for _, x := range []struct {
		field string
		list  []int
	}{{"dead", f.Dead}, {"leaving", f.Leaving}} {
		for i, g := range x.list {
			if g < 0 || g >= len(f.GPUSlots) || i > 0 && g <= x.list[i-1] {
				return 0, bad(x.field, "GPU %d: there are %d, each once and in order", g, len(f.GPUSlots))
			}
		}
	}
	return slots, nil
}

// move is the move where none of its fields is missing.
func (m *fileMove) move() (out placement.Move, ok bool) {
	if m.Layer == nil || m.Expert == nil || m.From == nil || m.To == nil {
		return out, false
	}
	return placement.Move{Layer: *m.Layer, Expert: *m.Expert, From: *m.From, To: *m.To}, true
}

// check demands that round i names moves that it has, and slots that there are.
func (r *fileRound) check(i, slots int) error {
	if r.Moves == nil {
		return bad("rounds", "round %d: no moves", i)
	}
	for _, k := range r.Staged {
		if k < 0 || k >= len(r.Moves) {
			return bad("rounds", "round %d: move %d is staged: there are %d", i, k, len(r.Moves))
		}
	}
	for k, x := range r.Moves {
		m, ok := x.move()
		if !ok {
			return bad("rounds", "round %d: move %d lacks its layer, expert, from or to", i, k)
		}
		if m.Layer < 0 || m.Layer >= placement.MaxLayers || m.Expert < -1 || m.Expert >= placement.MaxExperts || m.From < -1 || m.From >= slots || m.To < 0 || m.To >= slots {
			return bad("rounds", "round %d: move %d, %+v, is none of %d slots", i, k, m, slots)
		}
	}
	return nil
}
