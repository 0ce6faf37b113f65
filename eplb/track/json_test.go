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
		a, err := New(2, 3, Options{Windows: rng.IntN(4), SamplesPerWindow: rng.IntN(4)})
		if err != nil {
			t.Fatal(err)
		}
		add := func(trackers ...*Tracker) {
			roll := rng.IntN(4) == 0
			counts := [][]int64{{rng.Int64N(9), rng.Int64N(1 << 40), 0}, {1, 2, rng.Int64N(1 << 60)}}
			if i%2 == 0 {
				counts[1][2] %= 100
			}
			for _, x := range trackers {
				if err := x.Add(counts); err == nil && roll {
					x.Roll()
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
			x, y := []placement.Loads{placement.NewLoads(2, 3), placement.NewLoads(2, 3)}, []placement.Loads{placement.NewLoads(2, 3), placement.NewLoads(2, 3)}
			n, _ := a.Windows(x)
			m, _ := b.Windows(y)
			if n != m || !reflect.DeepEqual(x, y) {
				t.Fatalf("seed %d, case %d: windows %v, %v", seed, i, x, y)
			}
			add(a, b)
		}
	}
}

func TestTrackerJSONHostile(t *testing.T) {
	const good = `{"version":2,"layers":1,"experts":2,"windows":1,"samples_per_window":3,"open_samples":1,"open":[1,0],"closed":[[0,2]]}`
	a := &Tracker{}
	if err := json.Unmarshal([]byte(good), a); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ from, to, want string }{
		{`"version":2`, `"version":3`, "version: 3: this is version 2"},
		{`{"version":2`, `{"streams":[],"version":1`, "version: 1: this is version 2"},
		{`"layers":1`, `"layers":100000000`, "layers: 100000000"},
		{`"experts":2`, `"experts":3`, "counts: 2, but 3 are tracked"},
		{`"open":[1,0]`, `"open":[1]`, "counts: 1, but 2 are tracked"},
		{`"windows":1`, `"windows":0`, "windows: 0: at least 1 is needed"},
		{`"windows":1`, `"windows":99999999`, "windows: 99999999 of 2 counts each"},
		{`"samples_per_window":3`, `"samples_per_window":-3`, "samples_per_window: -3 is negative"},
		{`[[0,2]]`, `[[0,2],[1,1]]`, "closed: 2 windows, where 1 are kept"},
		{`[[0,2]]`, `[[0,-2]]`, "counts: layer 0, index 1: -2 is negative"},
		{`"open_samples":1`, `"open_samples":3`, "open_samples: 3 of 3"},
		{`"open":[1`, `"opened":[1`, `unknown field "opened"`},
		{`"open":[1`, `"open":["1"`, "open"},
	} {
		bad := strings.Replace(good, c.from, c.to, 1)
		was, _ := json.Marshal(a)
		err := json.Unmarshal([]byte(bad), a)
		if is, _ := json.Marshal(a); bad == good || err == nil || !strings.Contains(err.Error(), c.want) || string(is) != string(was) {
			t.Errorf("%s for %s: %v, want %s", c.to, c.from, err, c.want)
		}
	}
}

// Windows that stand there twice leave none behind that nobody checked, and a tracker
// that was not made by New tracks nothing.
func TestTrackerRollsWhatItKnows(t *testing.T) {
	var twice, zero Tracker
	if err := json.Unmarshal([]byte(`{"version":2,"layers":1,"experts":3,"windows":4,"open_samples":1,"open":[1,2,3],"closed":[[1],[2]],"closed":[[1,2,3]]}`), &twice); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		twice.Roll()
		if err := twice.Add([][]int64{{1, 2, 3}}); err != nil {
			t.Fatal(err)
		}
		if err := zero.Add(nil); err != nil {
			t.Fatal(err)
		}
		zero.Roll()
	}
}
