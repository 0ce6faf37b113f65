package track

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

// A tracker that has been written and read goes on as if nothing had happened,
// and so does every figure that it gives.
func TestTrackerJSON(t *testing.T) {
	const seed = 41
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 60 {
		o := Options{Streams: rng.IntN(3), Windows: rng.IntN(4), SamplesPerWindow: rng.IntN(4)}
		if rng.IntN(2) == 0 {
			o.HalfLife = .01 + 3*rng.Float64()
		}
		a, err := New(2, 3, o)
		if err != nil {
			t.Fatal(err)
		}
		add := func(trackers ...*Tracker) {
			stream, roll := rng.IntN(len(a.streams)), rng.IntN(4) == 0
			counts := [][]int64{{rng.Int64N(9), rng.Int64N(1 << 40), 0}, {1, 2, rng.Int64N(1 << 60)}}
			if i%2 == 0 {
				counts[1][2] %= 100
			}
			for _, x := range trackers {
				if err := x.Add(stream, counts); err == nil && roll {
					x.Roll(stream)
				}
			}
		}
		for range rng.IntN(600) {
			add(a)
		}
		text, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		b := &Tracker{}
		if err := json.Unmarshal(text, b); err != nil {
			t.Fatalf("seed %d, case %d: %v", seed, i, err)
		}
		for range 1 + rng.IntN(20) {
			again, err := json.Marshal(b)
			if want, _ := json.Marshal(a); err != nil || string(again) != string(want) {
				t.Fatalf("seed %d, case %d: %s\nbecame %s", seed, i, want, again)
			}
			for s := range a.streams {
				x, y := []placement.Loads{placement.NewLoads(2, 3), placement.NewLoads(2, 3)}, []placement.Loads{placement.NewLoads(2, 3), placement.NewLoads(2, 3)}
				n, _ := a.Windows(s, x)
				m, _ := b.Windows(s, y)
				if n != m || !reflect.DeepEqual(x, y) {
					t.Fatalf("seed %d, case %d: windows %v, %v", seed, i, x, y)
				}
			}
			add(a, b)
		}
	}
}

func TestTrackerJSONHostile(t *testing.T) {
	const good = `{"version":1,"layers":1,"experts":2,"windows":1,"samples_per_window":3,"half_life":1,"streams":[{"sum":[1,2],"open_samples":1,"open":[1,0],"closed":[[0,2]],"decayed":[1,2],"unit":2}]}`
	a := &Tracker{}
	if err := json.Unmarshal([]byte(good), a); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"version":1`, `"version":3`, "version: 3"},
		{`"layers":1`, `"layers":100000000`, "layers: 100000000"},
		{`"experts":2`, `"experts":3`, "decayed: stream 0: 2 numbers, but 3 are tracked"},
		{`"sum":[1,2]`, `"sum":[1]`, "counts: stream 0: 1, but 2 are tracked"},
		{`"windows":1`, `"windows":0`, "open: stream 0"},
		{`"windows":1`, `"windows":99999999999`, "windows: "},
		{`[[0,2]]`, `[[0,2],[1,1]]`, "closed: stream 0: 2 windows, where 1 are kept"},
		{`[[0,2]]`, `[[0,-2]]`, "counts: stream 0: layer 0, expert 1: -2 is negative"},
		{`"open_samples":1`, `"open_samples":3`, "open_samples: stream 0: 3 of 3"},
		{`"half_life":1`, `"half_life":0`, "decayed: stream 0"},
		{`"decayed":[1,2]`, `"decayed":[1]`, "decayed: stream 0"},
		{`"decayed":[1,2]`, `"decayed":[1,-2]`, "decayed: stream 0: -2"},
		{`"unit":2`, `"unit":0`, "unit: stream 0: 0"},
		{`"streams":[`, `"stream":[`, `unknown field "stream"`},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		was, _ := json.Marshal(a)
		err := json.Unmarshal([]byte(bad), a)
		if is, _ := json.Marshal(a); bad == good || err == nil || !strings.Contains(err.Error(), c.want) || string(is) != string(was) {
			t.Errorf("%s for %s: %v, want %s", c.to, c.from, err, c.want)
		}
	}
	if err := json.Unmarshal([]byte(`{"version":1,"layers":1,"experts":1,"windows":0,"samples_per_window":0,"half_life":0,"streams":[]}`), a); err == nil {
		t.Error("a tracker without streams")
	}
	if err := json.Unmarshal([]byte(`{"version":1,"layers":1,"experts":1,"windows":0,"samples_per_window":0,"half_life":0,"streams":[{"sum":[1],"open_samples":0,"unit":2}]}`), a); err == nil {
		t.Error("a unit of no decayed sum")
	}
}
