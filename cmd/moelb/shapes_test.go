package main

import (
	"encoding/json"
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
