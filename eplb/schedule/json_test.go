package schedule

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

// A schedule that has been written and read is the same, and so are its prefixes.
func TestScheduleJSON(t *testing.T) {
	const seed = 31
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 300 {
		prev, next, top, o := randomResize(rng, 6)
		randomLimits(rng, &o)
		if i%5 == 0 {
			o = Options{}
		}
		s, err := New(&prev, &next, top, o)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var back Schedule
		if err := json.Unmarshal(text, &back); err != nil {
			t.Fatalf("seed %d, case %d: %v in %s", seed, i, err, text)
		}
		if !reflect.DeepEqual(s, back) {
			t.Fatalf("seed %d, case %d:\n%+v became\n%+v", seed, i, s, back)
		}
		k := rng.IntN(len(s.Rounds) + 1)
		if a, b := s.Prefix(k), back.Prefix(k); !reflect.DeepEqual(a, b) || a.Bytes != int64(a.Moves)*o.ExpertBytes {
			t.Fatalf("seed %d, case %d: the first %d rounds are %+v, read %+v", seed, i, k, a, b)
		}
		for k := range len(s.Rounds) {
			cut := s.Prefix(k)
			text, err := json.Marshal(cut)
			var back Schedule
			if err == nil {
				err = json.Unmarshal(text, &back)
			}
			if err != nil || !reflect.DeepEqual(cut, back) {
				t.Fatalf("seed %d, case %d: the first %d rounds, %+v, became %+v: %v", seed, i, k, cut, back, err)
			}
		}
	}
}

func TestScheduleJSONHostile(t *testing.T) {
	const good = `{"version":2,"priced":false,"seconds":0,"seconds_bound":0,"rounds_bound":1,"restore_rounds":0,"emptied_rounds":0,"copies":2,"outside_copies":0,"bytes":0,"expert_bytes":0,"staged_bytes":0,"peers":1,"gpu_slots":[1,1],"gpu_slots_before":[1,1],"gpu_slots_after":[1,1],"rounds":[{"seconds":0,"staged_bytes":0,"peers":1,"moves":[{"layer":0,"expert":1,"from":1,"to":0},{"layer":0,"expert":0,"from":0,"to":1}]}]}`
	var s Schedule
	if err := json.Unmarshal([]byte(good), &s); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"version":2`, `"version":1`, "version: 1"},
		{`"peers":1,"gpu`, `"pears":1,"gpu`, `unknown field "pears"`},
		{`"gpu_slots":[1,1]`, `"gpu_slots":[1,2]`, "gpu_slots: 2 slots on GPU 1"},
		{`"gpu_slots":[1,1]`, `"gpu_slots":[]`, "gpu_slots: 0 GPUs"},
		{`"gpu_slots":[1,1],"gpu_slots_before":[1,1]`, `"gpu_slots":[1,1],"gpu_slots_before":[1,-1]`, "gpu_slots: 1 slots on GPU 1, with -1 before"},
		{`"restore_rounds":0`, `"restore_rounds":2`, "restore_rounds: missing, or"},
		{`"emptied_rounds":0`, `"emptied_rounds":-1`, "emptied_rounds: missing, or"},
		{`"emptied_rounds":0,`, ``, "emptied_rounds: missing, or"},
		{`"outside_copies":0`, `"outside_copies":3`, "outside_copies: missing, or"},
		{`"expert_bytes":0`, `"expert_bytes":1e12`, "expert_bytes: 1e12 before byte 172 of the schedule: a whole number is needed"},
		{`"rounds":[`, `"rounds":null,"dead":[`, "dead: object before"},
		{`"rounds":[{"seconds":0`, `"rounds":[{"seconds":"x"`, "rounds.seconds: string before byte 288 of the schedule: a number is needed"},
		{`"layer":0`, `"layer":true`, "rounds.moves.layer: bool before"},
		{`"gpu_slots":[1,1]`, `"gpu_slots":2`, "gpu_slots: number before byte 210 of the schedule: a list is needed"},
		{good, `[1]`, "schedule: array before byte 1 of the schedule: an object is needed"},
		{`"rounds":[{"seconds":0,"staged_bytes":0,"peers":1,"moves":[{"layer":0,"expert":1,"from":1,"to":0},{"layer":0,"expert":0,"from":0,"to":1}]}]`, `"rounds":null`, "rounds: missing"},
		{`,"rounds":[{"seconds":0,"staged_bytes":0,"peers":1,"moves":[{"layer":0,"expert":1,"from":1,"to":0},{"layer":0,"expert":0,"from":0,"to":1}]}]`, ``, "rounds: missing"},
		{`"copies":2`, `"copies":1`, "copies: missing, or"},
		{`"moves":[{"layer":0,"expert":1,"from":1,"to":0},{"layer":0,"expert":0,"from":0,"to":1}]`, `"moves":null`, "rounds: round 0: 0 seconds, 0 bytes and the moves [] staged, 1 peers, 0 moves, where"},
		{`"from":1`, `"from":-1`, "outside_copies: missing, or"},
		{`"bytes":0`, `"bytes":-1`, "bytes: missing, or"},
		{`"staged_bytes":0,"peers":1,"gpu`, `"staged_bytes":5,"peers":1,"gpu`, "staged_bytes: missing, or"},
		{`"peers":1,"gpu`, `"peers":2,"gpu`, "peers: missing, or"},
		{`"seconds":0,"seconds_b`, `"seconds":1,"seconds_b`, "seconds: missing, or"},
		{`"priced":false,`, ``, "priced: missing, or"},
		{`"priced":false`, `"priced":true`, "priced: true, with experts of 0 bytes"},
		{`"seconds_bound":0`, `"seconds_bound":1`, "priced: false, with experts of 0 bytes and 1 seconds at least"},
		{`"seconds_bound":0`, `"seconds_bound":-1`, "seconds_bound: -1"},
		{`"gpu_slots_before":[1,1],`, ``, "gpu_slots_before: missing, or"},
		{`"gpu_slots_after":[1,1]`, `"gpu_slots_after":null`, "gpu_slots_after: missing, or"},
		{`"peers":1,"moves"`, `"peers":-1,"moves"`, "rounds: round 0: 0 seconds, 0 bytes and the moves [] staged, -1 peers"},
		{`"staged_bytes":0,"peers":1,"moves"`, `"staged_bytes":-1,"peers":1,"moves"`, "rounds: round 0: 0 seconds, -1 bytes"},
		{`"rounds":[{"seconds":0`, `"rounds":[{"seconds":-1`, "rounds: round 0: -1 seconds"},
		{`"rounds":[{"seconds":0`, `"rounds":[{"seconds":2`, "rounds: round 0: 2 seconds"},
		{`"rounds_bound":1`, `"rounds_bound":-1`, "rounds_bound: -1"},
		{`"layer":0,`, ``, "rounds: missing, or"},
		{`"to":1`, `"to":null`, "copies: missing, or"},
		{`"to":0`, `"to":null`, "rounds: missing, or"},
		{`"to":1`, `"to":2`, "rounds: round 0: move 1"},
		{`"from":1`, `"from":-2`, "rounds: round 0: move 0"},
		{`"layer":0`, `"layer":4096`, "rounds: round 0: move 0"},
		{`"moves"`, `"staged":[2],"moves"`, "rounds: round 0: 0 seconds, 0 bytes and the moves [2] staged"},
		{`"rounds":[{"seconds":0`, `"rounds":[{"seconds":null`, "rounds: missing, or"},
		{`"rounds":[{`, `"dead":[2],"rounds":[{`, "dead: GPU 2"},
		{`"rounds":[{`, `"leaving":[1,0],"rounds":[{`, "leaving: GPU 0"},
		{good, strings.NewReplacer(`"priced":false`, `"priced":true`, `"expert_bytes":0`, `"expert_bytes":1`, `"rounds":[{"seconds":0`, `"rounds":[{"seconds":1e308,"staged_bytes":0,"peers":0,"moves":[]},{"seconds":1e308`).Replace(good), "seconds: those of the rounds add up to +Inf"},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		was := s
		if err := json.Unmarshal([]byte(bad), &s); bad == good || err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s for %s: %v, want %s", c.to, c.from, err, c.want)
		}
		if !reflect.DeepEqual(was, s) {
			t.Errorf("%s: a refused schedule changed another", c.to)
		}
	}
}

// FuzzScheduleJSON: what is read can be written, cut and applied without harm.
func FuzzScheduleJSON(f *testing.F) {
	f.Add([]byte(`{"version":2,"priced":false,"seconds":0,"seconds_bound":0,"rounds_bound":0,"restore_rounds":0,"emptied_rounds":0,"copies":0,"outside_copies":0,"bytes":0,"expert_bytes":0,"staged_bytes":0,"peers":0,"gpu_slots":[1],"gpu_slots_before":[1],"gpu_slots_after":[1],"rounds":[{"seconds":0,"staged_bytes":0,"peers":0,"moves":[{"layer":0,"expert":-1,"from":-1,"to":0}]}]}`))
	f.Add([]byte(`{"version":2,"priced":false,"seconds":0,"seconds_bound":0,"rounds_bound":0,"restore_rounds":0,"emptied_rounds":0,"copies":0,"outside_copies":0,"bytes":0,"expert_bytes":0,"staged_bytes":0,"peers":0,"gpu_slots":[1],"gpu_slots_before":[1],"gpu_slots_after":[0],"rounds":[{"seconds":0,"staged_bytes":0,"peers":0,"moves":[{"layer":0,"expert":-1,"from":-1,"to":0}]}]}`))
	f.Add([]byte(`{"version":2,"priced":false,"seconds":0,"seconds_bound":0,"rounds_bound":0,"restore_rounds":0,"emptied_rounds":0,"copies":1,"outside_copies":1,"bytes":0,"expert_bytes":0,"staged_bytes":0,"peers":0,"gpu_slots":[1],"gpu_slots_before":[1],"gpu_slots_after":[1],"rounds":[{"seconds":0,"staged_bytes":0,"peers":0,"moves":[{"layer":0,"expert":5,"from":-1,"to":0}]},{"seconds":0,"staged_bytes":0,"peers":0,"moves":[]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var s Schedule
		if json.Unmarshal(text, &s) != nil {
			return
		}
		again, err := json.Marshal(s)
		var back Schedule
		if err == nil {
			err = json.Unmarshal(again, &back)
		}
		if err != nil || len(back.Rounds) != len(s.Rounds) {
			t.Fatal(err)
		}
		p := placement.Placement{Experts: 2, GPUs: 1, PhysicalToLogical: [][]int{{1}}}
		for k := range len(s.Rounds) + 1 {
			x := s.Prefix(k)
			x.Apply(&p, k)
			if q, err := s.Resume(&p, 0, k); err == nil && q.Validate() != nil {
				t.Fatalf("after %d rounds: %+v", k, q)
			}
			s.Resume(&p, k, len(s.Rounds))
		}
	})
}
