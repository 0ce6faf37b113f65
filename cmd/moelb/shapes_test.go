package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// Layers of different shapes go through plan, schedule, apply and score.
func TestLayersOfDifferentShapes(t *testing.T) {
	const shape = `"version":1,"num_replicas":8,"num_gpus":2,"layer_experts":[4,3,4],"layer_replicas":[8,6,6]`
	first := call(t, `{`+shape+`,"loads":[[4,3,2,1],[4,2,1,0],[1,2,3,4]]}`, "plan", "-").want(t, exitDone)
	type plan struct {
		Map     [][]int `json:"physical_to_logical_map"`
		Experts []int   `json:"layer_experts"`
		Counts  [][]int `json:"logical_count"`
	}
	var p plan
	if err := json.Unmarshal([]byte(first.stdout), &p); err != nil {
		t.Fatal(err)
	}
	if len(p.Experts) != 3 || p.Experts[1] != 3 || p.Map[1][3] != -1 || p.Map[1][7] != -1 || p.Counts[1][3] != 0 {
		t.Errorf("%+v", p)
	}
	at := write(t, "plan.json", first.stdout)
	second := call(t, `{`+shape+`,"loads":[[1,1,9,1],[1,1,9,0],[9,1,1,1]]}`, "plan", "-", "--previous", at, "--schedule", "--expert-bytes", "1000", "--json").want(t, exitDone)
	whole := write(t, "next.json", second.stdout)
	moved := call(t, "", "apply", "--schedule", whole, "--placement", at).want(t, exitDone)
	if !strings.Contains(moved.stdout, `"layer_experts":[4,3,4]`) {
		t.Error(moved.stdout)
	}
	var q, want plan
	if json.Unmarshal([]byte(moved.stdout), &q) != nil || json.Unmarshal([]byte(second.stdout), &want) != nil {
		t.Fatal(moved.stdout)
	}
	for l := range want.Map {
		for i, e := range want.Map[l] {
			if q.Map[l][i] != e {
				t.Errorf("layer %d ends as %v, planned %v", l, q.Map[l], want.Map[l])
				break
			}
		}
	}
	loads := write(t, "loads.json", `[[1,1,9,1],[1,1,9,0],[9,1,1,1]]`)
	a := call(t, "", "score", "--placement", whole, "--loads", loads, "--json").want(t, exitDone)
	if strings.Contains(a.stdout, "missing") || strings.Contains(a.stdout, "null") {
		t.Error(a.stdout)
	}
	if a = call(t, `{`+shape+`,"loads":[[4,3,2,1],[4,2,1,0],[1,2,3,4]]}`, "plan", "-", "--format", "sglang"); a.code != exitFailed || !strings.Contains(a.stderr, "layer_experts: layer 1") {
		t.Errorf("exit %d: %s", a.code, a.stderr)
	}
	if a = call(t, `{`+shape+`,"loads":[[4,3,2,1],[4,2,1,5],[1,2,3,4]]}`, "plan", "-"); a.code != exitFailed || !strings.Contains(a.stderr, "loads: layer 1, index 3") {
		t.Errorf("exit %d: %s", a.code, a.stderr)
	}
}

// TestNothingIgnored: a flag or field that would change nothing is refused, and what
// has one meaning need not be said twice.
func TestNothingIgnored(t *testing.T) {
	const shape = `{"version":1,"num_gpus":2,"loads":[[4,3,2,1],[4,2,1,2]]`
	at := write(t, "at.json", call(t, shape+`,"num_replicas":8}`, "plan", "-").want(t, exitDone).stdout)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"--horizon: only with --schedule", []string{"--horizon", "5"}},
		{"--in-place: only with --schedule", []string{"--in-place"}},
		{"--restarts: only with --previous", []string{"--restarts", "2"}},
		{"--model: only with --previous", []string{"--model", "none"}},
		{"--expert-bytes: only with --previous", []string{"--expert-bytes", "9"}},
		{"--tolerance: policy deepseek", []string{"--policy", "deepseek", "--tolerance", "0.1"}},
		{"--schedule: a file of format sglang", []string{"--previous", at, "--schedule", "--format", "sglang"}},
		{"--schedule: a file of format sglang", []string{"--previous", at, "--schedule", "--format", "sglang", "--out", write(t, "out.json", "")}},
	} {
		a := call(t, shape+`,"num_replicas":8}`, append([]string{"plan", "-"}, c.args...)...).want(t, exitUsage)
		if !strings.Contains(a.stderr, c.want) {
			t.Errorf("%v: %s", c.args, a.stderr)
		}
	}
	for _, field := range []string{`"two_nodes":true`, `"everywhere":[0]`} {
		in := `{"version":1,"num_gpus":4,"num_nodes":2,"num_groups":2,"num_replicas":16,"loads":[[4,3,2,1]],"off_node_replicas":1,` + field + "}"
		if a := call(t, in, "plan", "-").want(t, exitFailed); !strings.Contains(a.stderr, "off_node_replicas: 1: no groups are kept on nodes") {
			t.Errorf("%s: %s", field, a.stderr)
		}
	}
	if a := call(t, "", "score", "--placement", at, "--routes", "example", "--window-weights", "1").want(t, exitUsage); !strings.Contains(a.stderr, "--window-weights: only with --loads") {
		t.Error(a.stderr)
	}
	// The sum of the last windows is not that of all.
	last := call(t, `{"version":1,"num_gpus":2,"num_replicas":4,"loads":[[[9,9,9,1]],[[1,2,3,4]],[[1,2,2,4]]]}`, "plan", "-", "--sum", "--windows", "2").want(t, exitDone).stdout
	sum := call(t, `{"version":1,"num_gpus":2,"num_replicas":4,"loads":[[2,4,5,8]]}`, "plan", "-").want(t, exitDone).stdout
	if cut := func(s string) string { return s[:strings.Index(s, `"seconds"`)] }; cut(last) != cut(sum) {
		t.Errorf("%s\nwant\n%s", last, sum)
	}
	moved := strings.Replace(shape, "4,3,2", "1,3,9", 1) + `,"num_replicas":8}`
	for _, args := range [][]string{{"--schedule"}, {"--schedule", "--format", "moelb"}, {"--schedule", "--format", "sglang", "--out", write(t, "o.json", ""), "--json"}} {
		a := call(t, moved, append([]string{"plan", "-", "--previous", at}, args...)...).want(t, exitDone)
		if !strings.Contains(a.stdout, `"schedule":`) {
			t.Errorf("%v: no schedule", args)
		}
		call(t, a.stdout, "apply", "--schedule", "-", "--placement", at).want(t, exitDone)
	}
	// The most slots of a layer are those of the unit.
	even := call(t, shape+`,"layer_replicas":[8,6]}`, "plan", "-").want(t, exitDone).stdout
	same := call(t, shape+`,"num_replicas":8,"layer_replicas":[8,6]}`, "plan", "-").want(t, exitDone).stdout
	if cut := func(s string) string { return s[:strings.Index(s, `"report"`)] }; cut(even) != cut(same) {
		t.Error(even)
	}
	if a := call(t, shape+`,"layer_replicas":[8,3]}`, "plan", "-").want(t, exitFailed); !strings.Contains(a.stderr, "layer_replicas: layer 1: 3 replicas") {
		t.Error(a.stderr)
	}
}

// TestPlacementFromStandardInput: apply and score read a placement from a pipe.
func TestPlacementFromStandardInput(t *testing.T) {
	const shape = `{"version":1,"num_gpus":2,"num_replicas":8,"loads":[[4,3,2,1],[4,2,1,2]]}`
	first := call(t, shape, "plan", "-").want(t, exitDone).stdout
	at, loads := write(t, "at.json", first), write(t, "loads.json", shape)
	whole := write(t, "next.json", call(t, strings.Replace(shape, "4,3,2", "1,3,9", 1), "plan", "-", "--previous", at, "--schedule").want(t, exitDone).stdout)
	for _, args := range [][]string{{"apply", "--schedule", whole}, {"score", "--loads", loads}} {
		file, pipe := call(t, "", append(args, "--placement", at)...).want(t, exitDone), call(t, first, append(args, "--placement", "-")...).want(t, exitDone)
		if args[0] == "apply" && file.stdout != pipe.stdout {
			t.Errorf("%v: %s, from a file %s", args, pipe.stdout, file.stdout)
		}
		call(t, first, args[0], args[1], "-", "--placement", "-").want(t, exitUsage)
		call(t, "{", append(args, "--placement", "-")...).want(t, exitFailed)
	}
	if a := call(t, "", "apply", "--schedule", at, "--placement", at).want(t, exitFailed); !strings.Contains(a.stderr, "schedule: missing") {
		t.Error(a.stderr)
	}
}

// TestSizeEndsEarly: a time limit leaves out what was not searched, and says so.
func TestSizeEndsEarly(t *testing.T) {
	type answered struct {
		Knee  struct{ Text string }
		Sizes []struct {
			Mean float64 `json:"imbalance_mean"`
		}
	}
	whole := decode[answered](t, call(t, "", "size", "--example", "--json").want(t, exitDone).stdout)
	if strings.Contains(whole.Knee.Text, "early") {
		t.Error(whole.Knee.Text)
	}
	a := decode[answered](t, call(t, "", "size", "--example", "--json", "--timeout", "1ns").want(t, exitDone).stdout)
	if len(a.Sizes) != 1 || !strings.HasSuffix(a.Knee.Text, fmt.Sprintf("; ended early: %d larger sizes not planned", len(whole.Sizes)-1)) {
		t.Errorf("%d sizes: %s", len(a.Sizes), a.Knee.Text)
	}
}
