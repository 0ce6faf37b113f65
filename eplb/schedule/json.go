package schedule

import (
	"cmp"
	"encoding/json"
	"maps"
	"math"
	"reflect"
	"slices"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/eplb/internal/strict"
	"github.com/moelb/moelb/placement"
)

// file is a Schedule as JSON, plain one without methods.
type (
	plain Schedule
	file  struct {
		Version int `json:"version"`
		plain
	}
)

// version is that of schedules as JSON; those of version 1 did not say whether they are
// priced.
const version = 2

// MarshalJSON writes all of the schedule: with the placement that it starts from
// and the number of rounds done, it is what a controller needs to go on.
func (s Schedule) MarshalJSON() ([]byte, error) { return json.Marshal(file{version, plain(s)}) }

// UnmarshalJSON reads what MarshalJSON writes: nothing is missing, and sums are those of
// the rounds. Its errors name the field; then s is unchanged.
func (s *Schedule) UnmarshalJSON(text []byte) error {
	var f file
	if err := strict.Decode(text, "schedule", version, &f); err != nil {
		return err
	}
	out := Schedule(f.plain)
	if err := out.check(); err != nil {
		return err
	}
	out.sum()
	again, err := json.Marshal(out)
	if err != nil {
		return bad("seconds", "those of the rounds add up to %v", out.Seconds)
	}
	var has, would map[string]any
	_, _ = json.Unmarshal(text, &has), json.Unmarshal(again, &would)
	for _, field := range slices.Sorted(maps.Keys(would)) {
		if has[field] == nil || !reflect.DeepEqual(has[field], would[field]) {
			return bad(field, "missing, or something in it, or not what the rounds make")
		}
	}
	*s = out
	return nil
}

// check demands slots of GPUs that there can be, and moves between them. That the moves
// fit a placement is seen when they are applied to it.
func (s *Schedule) check() error {
	slots, gpus := 0, len(s.GPUSlots)
	for g, n := range s.GPUSlots {
		before, after := at(s.Before, g), at(s.After, g)
		if slots += n; min(before, after) < 0 || n != max(before, after) || max(n, slots) > placement.MaxSlots {
			return bad("gpu_slots", "%d slots on GPU %d, with %d before and %d after", n, g, before, after)
		}
	}
	if err := cmp.Or(
		refuse.Value(s.Rounds == nil, "rounds", "missing"),
		refuse.Value(gpus == 0 || gpus > placement.MaxGPUs || gpus != max(len(s.Before), len(s.After)), "gpu_slots", "%d GPUs, with %d before and %d after", gpus, len(s.Before), len(s.After)),
		within("rounds_bound", float64(s.RoundsBound), math.MaxInt64),
		within("seconds_bound", s.SecondsBound, math.MaxFloat64),
		within("expert_bytes", float64(s.ExpertBytes), maxExpertBytes),
		refuse.Value(s.Priced && s.ExpertBytes == 0 || !s.Priced && s.SecondsBound > 0, "priced", "%v, with experts of %d bytes and %v seconds at least", s.Priced, s.ExpertBytes, s.SecondsBound),
	); err != nil {
		return err
	}
	for k, list := range [2][]int{s.Dead, s.Leaving} {
		for i, g := range list {
			if g < 0 || g >= gpus || i > 0 && g <= list[i-1] {
				return bad([2]string{"dead", "leaving"}[k], "GPU %d: there are %d, each once and in order", g, gpus)
			}
		}
	}
	for i, r := range s.Rounds {
		n := len(r.Moves)
		if r.Moves == nil || min(r.Seconds, float64(r.StagedBytes), float64(r.Peers)) < 0 || r.Seconds > 0 && !s.Priced || slices.ContainsFunc(r.Staged, func(k int) bool { return k < 0 || k >= n }) {
			return bad("rounds", "round %d: %v seconds, %d bytes and the moves %v staged, %d peers, %d moves, where priced is %v", i, r.Seconds, r.StagedBytes, r.Staged, r.Peers, n, s.Priced)
		}
		for k, m := range r.Moves {
			if m.Layer < 0 || m.Layer >= placement.MaxLayers || m.Expert < -1 || m.Expert >= placement.MaxExperts || min(m.From+1, m.To) < 0 || max(m.From, m.To) >= slots {
				return bad("rounds", "round %d: move %d, %+v, is none of %d slots", i, k, m, slots)
			}
		}
	}
	return nil
}

func bad(field, format string, args ...any) error {
	return refuse.Errorf(placement.ErrValue, field, format, args...)
}
