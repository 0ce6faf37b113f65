package main

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
)

type splitted struct {
	Version int       `json:"version"`
	Quota   [][]int64 `json:"quota"`
	Report  struct {
		Mean    float64  `json:"imbalance_mean"`
		Max     float64  `json:"imbalance_max"`
		Bound   float64  `json:"lower_bound_mean"`
		Seconds *float64 `json:"seconds"`
	} `json:"report"`
}

func TestSplit(t *testing.T) {
	place := [][]int{{0, 1, 0, 2}, {2, 1, 0, 1}, {0, 1, 2, 0}}
	counts := [][]int64{{10, 4, 3}, {0, 7, 1}, {0, 0, 0}}
	in := `{"version":1,"num_gpus":2,"physical_to_logical_map":` + rows(place) + `,"counts":` + rows(counts) + `}`
	s := decode[splitted](t, call(t, in, "split").want(t, exitDone).stdout)
	if s.Version != 1 || s.Report.Seconds == nil || len(s.Quota) != 3 {
		t.Fatalf("%+v", s)
	}
	sum, most := 0.0, 0.0
	for l, row := range place {
		got, load, total := make([]int64, 3), [2]float64{}, 0.0
		for i, e := range row {
			if s.Quota[l][i] < 0 {
				t.Errorf("layer %d, slot %d: %d", l, i, s.Quota[l][i])
			}
			got[e] += s.Quota[l][i]
			load[i/2] += float64(s.Quota[l][i])
			total += float64(s.Quota[l][i])
		}
		if rows(got) != rows(counts[l]) {
			t.Errorf("layer %d: quotas add up to %v, want %v", l, got, counts[l])
		}
		if total > 0 {
			x := max(load[0], load[1]) * 2 / total
			sum, most = sum+x/2, max(most, x)
		}
	}
	if math.Abs(s.Report.Mean-sum) > 1e-9 || math.Abs(s.Report.Max-most) > 1e-9 || s.Report.Bound > sum+1e-9 {
		t.Errorf("mean %v max %v, reported %+v", sum, most, s.Report)
	}
	call(t, strings.Replace(in, `"num_gpus":2`, `"num_gpus":3`, 1), "split").want(t, exitDone) // uneven slots
	call(t, strings.Replace(in, `"num_gpus":2`, `"num_gpus":2,"gpu_slots":[1,3],"gpu_speed":[1,2]`, 1), "split").want(t, exitDone)
}

func TestSplitHostile(t *testing.T) {
	good := map[string]string{"version": "1", "num_gpus": "2", "physical_to_logical_map": "[[0,1,0,2]]", "counts": "[[10,4,3]]"}
	for _, c := range []struct{ field, value, want string }{
		{"version", "", "version: missing"}, {"version", "2", "version: 2"},
		{"num_gpus", "", "num_gpus: missing"}, {"num_gpus", "0", "num_gpus: 0"}, {"num_gpus", "1e12", "num_gpus: 1000000000000"},
		{"physical_to_logical_map", "", "physical_to_logical_map: missing"}, {"physical_to_logical_map", "[]", "no layers"},
		{"physical_to_logical_map", "[[0,1,0,3]]", "physical_to_logical_map: layer 0, index 3: expert 3"},
		{"physical_to_logical_map", "[[0,1,0,1]]", "physical_to_logical_map: layer 0: expert 2 has no replica"},
		{"physical_to_logical_map", "[[0,1,0,2],[0,1,0,2]]", "counts: 1 layers"},
		{"counts", "", "counts: missing"}, {"counts", "[[10,4,-3]]", "counts: layer 0, index 2: -3 is negative"},
		{"counts", "[[10,4,0.5]]", "counts: layer 0, index 2: 0.5 is not an integer"}, {"counts", "[[10,4,1e300]]", "counts: layer 0, index 2"},
		{"counts", `[[10,4,"3"]]`, "counts: layer 0, index 2"}, {"counts", "[[10,4]]", "physical_to_logical_map"}, {"counts", "[10]", "counts: layer 0"},
		{"gpu_speed", "[1]", "gpu_speed"}, {"gpu_speed", "[0,0]", "gpu_speed"}, {"gpu_slots", "[1,2]", "gpu_slots"}, {"gpu_slots", "[]", "gpu_slots"},
		{"gpu_slots", "[-1,5]", "gpu_slots: index 0"}, {"quota", "[]", "quota: unknown field"}, {"version", "1}{", "after its end"},
	} {
		var parts []string
		for _, f := range []string{"physical_to_logical_map", "counts", "num_gpus", "gpu_speed", "gpu_slots", "quota", "version"} {
			v := good[f]
			if f == c.field {
				v = c.value
			}
			if v != "" {
				parts = append(parts, `"`+f+`":`+v)
			}
		}
		in := "{" + strings.Join(parts, ",") + "}"
		if a := call(t, in, "split", "-").want(t, exitFailed); !strings.Contains(a.stderr, c.want) {
			t.Errorf("%s %s: says %q, want %q", c.field, c.value, a.stderr, c.want)
		}
	}
	call(t, "", "split", "-").want(t, exitFailed)
	call(t, strings.Repeat("[", 200_000), "split", "-").want(t, exitFailed)
}

func FuzzBatch(f *testing.F) {
	f.Add(`{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,0,2]],"counts":[[10,4,3]],"gpu_speed":[1,2],"gpu_slots":[1,3]}`)
	f.Fuzz(func(t *testing.T, in string) {
		var p struct {
			GPUs int `json:"num_gpus"`
		}
		if json.Unmarshal([]byte(in), &p) == nil && len(in) < 500 && p.GPUs < 99 {
			if a := call(t, in, "split", "-"); a.code != exitDone {
				a.want(t, exitFailed)
			}
		}
	})
}

func TestSplitTable(t *testing.T) {
	const in = `{"version":1,"num_gpus":4,"physical_to_logical_map":[[0,1,0,1]],"counts":[[8,8]]}`
	a := call(t, in, "split", "-", "--table", "--nodes", "2").want(t, exitDone)
	if want := `"logical_to_rank_dispatch_physical_map":[[[0,1]],[[0,1]],[[2,3]],[[2,3]]]`; !strings.Contains(a.stdout, want) || !strings.Contains(a.stdout, `"imbalance_mean":1,`) || !strings.HasPrefix(a.stdout, `{"version":1,`) || strings.Contains(a.stdout, "bound") {
		t.Errorf("%s, want %s", a.stdout, want)
	}
	call(t, in, "split", "-", "--nodes", "2").want(t, exitUsage)
	call(t, in, "split", "-", "--table", "--read-cost", "3").want(t, exitUsage)
	call(t, in, "split", "-", "--table", "--nodes", "3").want(t, exitFailed)
}
