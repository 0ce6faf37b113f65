package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Fields and flags of nodes, domains and experts everywhere say the same.
func TestUnitFieldsAndFlags(t *testing.T) {
	const loads = `{"version":1,"loads":[[9,8,7,6,5,4,3,2],[1,1,1,1,1,1,1,1]],"num_replicas":24,"num_gpus":6,"locality":"none"`
	for _, c := range []struct {
		fields string
		flags  []string
	}{
		{`,"gpus_per_node":[3,2,1],"two_nodes":true}`, []string{"--gpus-per-node", "3,2,1", "--two-nodes"}},
		{`,"domains":3,"two_domains":true}`, []string{"--domains", "3", "--two-domains"}},
		{`,"domains":[1,2,3],"two_domains":true,"num_nodes":2,"everywhere":[7]}`, []string{"--domains", "1,2,3", "--two-domains", "--nodes", "2", "--everywhere", "7"}},
		{`,"everywhere":[0,3]}`, []string{"--everywhere", "0, 3"}},
	} {
		var rows [2][][]int
		for i, a := range []answer{
			call(t, loads+c.fields, "plan", "-").want(t, 0),
			call(t, loads+"}", append([]string{"plan", "-"}, c.flags...)...).want(t, 0),
		} {
			var out struct {
				Map [][]int `json:"physical_to_logical_map"`
			}
			if err := json.Unmarshal([]byte(a.stdout), &out); err != nil {
				t.Fatal(err)
			}
			rows[i] = out.Map
		}
		if fmt.Sprint(rows[0]) != fmt.Sprint(rows[1]) {
			t.Errorf("%s gives %v, but %v gives %v", c.fields, rows[0], c.flags, rows[1])
		}
	}
	for flag, bad := range map[string]string{"--gpus-per-node": "3,x", "--domains": "0", "--everywhere": "-1"} {
		call(t, loads+"}", "plan", "-", flag, bad).want(t, exitUsage)
	}
}

// A layer counts for what it sees.
func TestLayerWeights(t *testing.T) {
	const problem = `{"version":1,"loads":[[8,1,1,1],[1,1,1,1]],"num_replicas":4,"num_gpus":4,"layer_weights":[1,3]}`
	var out struct {
		Report struct {
			Plain    float64 `json:"imbalance_mean"`
			Weighted float64 `json:"imbalance_weighted_mean"`
			Layers   []struct{ Imbalance float64 }
		}
	}
	if err := json.Unmarshal([]byte(call(t, problem, "plan", "-").want(t, exitDone).stdout), &out); err != nil {
		t.Fatal(err)
	}
	r := out.Report
	if a, b := r.Layers[0].Imbalance, r.Layers[1].Imbalance; r.Plain != (a+b)/2 || r.Weighted != (a+3*b)/4 || a < 2 {
		t.Errorf("%+v", r)
	}
}

// A window counts as its tokens times its weight, however the weights are given;
// one of weight 0 is not there.
func TestWindowWeights(t *testing.T) {
	const a, b, c = "[[80,10,10,10,5,5,5,5],[9,8,7,6,5,4,3,2]]", "[[5,5,5,5,10,10,10,80],[2,3,4,5,6,7,8,9]]", "[[1,90,1,1,1,1,90,1],[7,1,7,1,7,1,7,1]]"
	problem := func(windows, more string) string {
		return `{"version":1,"loads":[` + windows + `],"num_replicas":12,"num_gpus":4` + more + `}`
	}
	planned := func(stdin string, args ...string) (string, float64) {
		t.Helper()
		var out struct {
			Map    [][]int `json:"physical_to_logical_map"`
			Report struct {
				Mean float64 `json:"imbalance_mean"`
			}
		}
		text := call(t, stdin, append([]string{"plan", "-"}, args...)...).want(t, exitDone).stdout
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(out.Map), out.Report.Mean
	}
	all := a + "," + b + "," + c
	rows, mean := planned(problem(all, `,"window_weights":[3,1,0]`))
	for name, other := range map[string]func() (string, float64){
		"a flag": func() (string, float64) { return planned(problem(all, ""), "--window-weights", "3,1,0") },
		"a flag over it": func() (string, float64) {
			return planned(problem(all, `,"window_weights":[1,1,1]`), "--window-weights", "3, 1, 0")
		},
		"without the last": func() (string, float64) { return planned(problem(a+","+b, ""), "--window-weights", "3,1") },
		"the last cut off": func() (string, float64) { return planned(problem(all, `,"window_weights":[3,1,5]`), "--steps", "0:2") },
	} {
		if r, m := other(); r != rows || m != mean {
			t.Errorf("%s: %s at %v, want %s at %v", name, r, m, rows, mean)
		}
	}
	if _, m := planned(problem(a+","+a+","+a+","+b, "")); m < mean-1e-9 || m > mean+1e-9 {
		t.Errorf("%v where a window stands three times, %v where it counts three times", m, mean)
	}
	if r, _ := planned(problem(all, "")); r == rows {
		t.Error("weights change nothing")
	}
	loads, at := write(t, "loads.json", "["+all+"]"), write(t, "at.json", call(t, problem(all, ""), "plan", "-").stdout)
	score := func(args ...string) string {
		return call(t, "", append([]string{"score", "--placement", at, "--gpus", "4", "--loads"}, args...)...).want(t, exitDone).stdout
	}
	if x, y := score(loads, "--window-weights", "3,1,0"), score(write(t, "two.json", "["+a+","+a+","+a+","+b+"]")); x != y || x == score(loads) {
		t.Errorf("scored %s, want %s", x, y)
	}
	refused := func(a answer, mention string) {
		t.Helper()
		if !strings.Contains(a.stderr, mention) {
			t.Errorf("%q does not say %q", a.stderr, mention)
		}
	}
	for more, want := range map[string]string{
		`,"window_weights":[1,1]`: "window_weights: 2 entries, but loads has 3 windows", `,"window_weights":[0,0,0]`: "no window has any",
		`,"window_weights":[1,1e7,1]`: "window_weights: index 1: 1e+07", `,"window_weights":[1,-1,1]`: "-1 is negative",
	} {
		refused(call(t, problem(all, more), "plan", "-").want(t, exitFailed), want)
	}
	refused(call(t, problem(all, ""), "plan", "-", "--window-weights", "1,x,1").want(t, exitUsage), "entry 1")
	refused(call(t, problem(all, ""), "plan", "-", "--window-weights", "NaN,1,1").want(t, exitFailed), "--window-weights: index 0: NaN")
}

// What a plan is compared with is said to keep no constraint that it breaks.
func TestWithout(t *testing.T) {
	const loads = `{"version":1,"loads":[[9,8,7,6,5,4,3,2]],"num_replicas":24,"num_gpus":4,"num_nodes":2`
	for more, want := range map[string]string{
		`}`:                                   "",
		`,"num_groups":2}`:                    "groups on nodes",
		`,"two_nodes":true,"everywhere":[3]}`: "experts everywhere",
		`,"num_replicas":16,"domains":2,"two_domains":true,"dispatch":"split","previous":{"physical_to_logical_map":[[0,1,2,3,0,1,2,3,4,5,6,7,4,5,6,7]]}}`: "two domains an expert, tokens split per batch",
		`,"num_groups":2,"previous":{"physical_to_logical_map":[[0,1,2,3,0,1,2,3,0,1,2,3,4,5,6,7,4,5,6,7,4,5,6,7]]}}`:                                      "",
		`,"num_groups":2,"previous":{"physical_to_logical_map":[[0,1,2,7,0,1,2,7,0,1,2,7,4,5,6,3,4,5,6,3,4,5,6,3]]}}`:                                      "groups on nodes",
	} {
		text := strings.Replace(loads, `"num_replicas":24,`, "", strings.Count(more, "num_replicas")) + more
		table := call(t, text, "plan", "-", "--table").want(t, exitDone).stdout
		_, said, _ := strings.Cut(table, "stands without the plan's ")
		said, _, _ = strings.Cut(said, "\n")
		var out struct {
			Report struct{ Before struct{ Without []string } }
		}
		if err := json.Unmarshal([]byte(call(t, text, "plan", "-").stdout), &out); err != nil {
			t.Fatal(err)
		}
		if said != want || strings.Join(out.Report.Before.Without, ", ") != want {
			t.Errorf("%s: says %q, %q in JSON, want %q", more, said, out.Report.Before.Without, want)
		}
	}
}
