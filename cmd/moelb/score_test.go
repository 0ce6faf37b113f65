package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
)

func TestScore(t *testing.T) {
	loads := write(t, "loads.json", `[[4,3,2,1],[0,0,0,0],[9,1,1,1]]`)
	at := write(t, "map.json", `{"physical_to_logical_map":[[0,1,2,3],[0,1,2,3],[0,1,2,3]]}`)
	a := call(t, "", "score", "--placement", at, "--loads", loads, "--gpus", "2", "--json").want(t, exitDone)
	s := decode[struct {
		Mean     float64 `json:"imbalance_mean"`
		Max      float64 `json:"imbalance_max"`
		Balanced float64 `json:"balancedness_mean"`
		Bound    float64 `json:"lower_bound_mean"`
		Layers   []struct {
			Imbalance, Balancedness float64
			Bound                   float64 `json:"lower_bound"`
		} `json:"layers"`
	}](t, a.stdout)
	// By hand: 7 of 10 and 10 of 12 on the first GPU; 5 and 10 are the least.
	want := []float64{1.4, 1, 10. / 6}
	least := []float64{1, 1, 10. / 6}
	for l, x := range s.Layers {
		if math.Abs(x.Imbalance-want[l]) > 1e-12 || math.Abs(x.Balancedness-1/want[l]) > 1e-12 || x.Bound > least[l]+1e-9 || x.Bound < 1 {
			t.Errorf("layer %d: %+v", l, x)
		}
	}
	if math.Abs(s.Mean-(1.4+10./6)/2) > 1e-12 || s.Max != slices.Max(want) || math.Abs(s.Balanced-(1/1.4+.6)/2) > 1e-12 || s.Bound > s.Mean {
		t.Errorf("%+v", s)
	}
	a = call(t, "", "score", "--placement", at, "--loads", loads, "--gpus", "2").want(t, exitDone)
	golden(t, "score.txt", a.stdout)
	// A problem's loads serve as well, and several windows count by their tokens.
	problem := write(t, "p.json", `{"version":1,"num_replicas":4,"num_gpus":2,"loads":[[[3,2.25,1.5,0.75],[0,0,0,0],[4.5,0.5,0.5,0.5]],[[1,0.75,0.5,0.25],[0,0,0,0],[4.5,0.5,0.5,0.5]],[[0,0,0,0],[0,0,0,0],[0,0,0,0]]]}`)
	if b := call(t, "", "score", "--placement", at, "--loads", problem, "--gpus", "2").want(t, exitDone); b.stdout != a.stdout {
		t.Error(b.stdout)
	}
	// What plan writes, score reads, and finds the same.
	out := write(t, "plan.json", "")
	call(t, small, "plan", "--format", "moelb", "--out", out).want(t, exitDone)
	call(t, "", "score", "--placement", out, "--loads", loads).want(t, exitDone)
	for _, bad := range [][]string{
		{"--placement", at, "--loads", write(t, "l.json", `[[4,3,2,1]]`), "--gpus", "2"},
		{"--placement", at, "--loads", write(t, "l.json", `[[1,1,1],[1,1,1],[1,1,1]]`), "--gpus", "2"},
		{"--placement", at, "--loads", loads, "--gpus", "3"},
		{"--placement", loads + "x", "--loads", loads, "--gpus", "2"},
		{"--placement", at, "--loads", at + "x", "--gpus", "2"},
		{"--placement", write(t, "l.json", ""), "--loads", loads, "--gpus", "2"},
	} {
		call(t, "", append([]string{"score"}, bad...)...).want(t, exitFailed)
	}
}

func TestSize(t *testing.T) {
	a := call(t, "", "size", "--example", "--json", "--locality", "none").want(t, exitDone)
	s := decode[struct {
		Knee struct {
			Redundant int
			Text      string
		}
		Sizes []struct {
			Redundant int
			Replicas  int     `json:"num_replicas"`
			Slots     int     `json:"slots_per_gpu"`
			Mean      float64 `json:"imbalance_mean"`
			Bound     float64 `json:"lower_bound_mean"`
			Bytes     float64 `json:"expert_bytes_per_gpu"`
		}
	}](t, a.stdout)
	var redundant []int
	for _, x := range s.Sizes {
		redundant = append(redundant, x.Redundant)
		if x.Replicas != 256+x.Redundant || x.Slots != (x.Replicas+31)/32 || x.Bytes != float64(x.Slots)*58*3*7168*2048 || x.Bound > x.Mean+1e-9 {
			t.Errorf("%+v", x)
		}
	}
	if !slices.IsSorted(redundant) || redundant[0] != 0 || !slices.Contains(redundant, 32) || !slices.Contains(redundant, s.Knee.Redundant) || !strings.Contains(s.Knee.Text, "redundant expert") {
		t.Errorf("%v, knee %+v", redundant, s.Knee)
	}
	table := call(t, `{"version":1,"loads":[[60,56,12,12,2,1,1,1],[5,5,5,5,5,5,5,5]],"num_gpus":4}`, "size").want(t, exitDone).stdout
	golden(t, "size.txt", table)
	call(t, `[[60,56,12,12,2,1,1,1]]`, "size", "--gpus", "4", "--gpu-speed", "1,1,0,1").want(t, exitDone)
	call(t, `[[60,56,12,12,2,1,1,1]]`, "size").want(t, exitFailed)
	call(t, `{"version":1,"loads":[[1,2]],"num_gpus":2,"policy":"deepseek"}`, "size").want(t, exitFailed)
	a = call(t, `{"version":1,"loads":[[[1,2],[3,0]],[[1,2],[3,0]]],"num_gpus":2,"layer_replicas":[4,3]}`, "size").want(t, exitFailed)
	if !strings.Contains(a.stderr, "layer_replicas") {
		t.Error(a.stderr)
	}
	a = call(t, `{"version":1,"loads":[[1,2,3,4]],"num_gpus":4,"num_nodes":2,"two_nodes":true}`, "size", "--max-redundant", "1").want(t, exitFailed)
	if !strings.Contains(a.stderr, "standard input: no size up to 5 slots does (--max-redundant): two_nodes: ") {
		t.Error(a.stderr)
	}
	// What a problem asks holds for every size, from the first that it fits on.
	for _, fields := range []string{`,"everywhere":[1]`, `,"num_nodes":2,"two_nodes":true`, `,"layer_experts":[8,6]`, `,"dispatch":"split"`, `,"dispatch":"nearest"`, `,"previous":{"num_gpus":4,"physical_to_logical_map":[[0,1,2,3,4,5,6,7,0,1,2,3],[0,1,2,3,4,5,6,7,0,1,2,3]]}`} {
		problem := `{"version":1,"loads":[[60,56,12,12,2,1,1,1],[9,5,5,4,5,6,0,0]],"num_gpus":4` + fields
		sizes := decode[struct {
			Sizes []struct {
				Replicas int     `json:"num_replicas"`
				Mean     float64 `json:"imbalance_mean"`
			}
		}](t, call(t, problem+"}", "size", "--json", "--max-redundant", "12").want(t, exitDone).stdout).Sizes
		last := sizes[len(sizes)-1]
		problem, _, _ = strings.Cut(problem, `,"previous"`) // sizes are planned from scratch
		plan := decode[struct {
			Report struct {
				Mean float64 `json:"imbalance_mean"`
			}
		}](t, call(t, fmt.Sprintf(`%s,"num_replicas":%d}`, problem, last.Replicas), "plan", "-").want(t, exitDone).stdout)
		if last.Replicas != 20 || last.Mean != plan.Report.Mean {
			t.Errorf("%s: %+v, planned %v", fields, last, plan.Report.Mean)
		}
		if fields == `,"num_nodes":2,"two_nodes":true` && sizes[0].Replicas != 16 {
			t.Errorf("two nodes each on %d slots", sizes[0].Replicas)
		}
	}
}

// TestScoreSplit: score says of a plan for a split per batch what plan says, also over
// windows, with speeds and beside GPUs that hold nothing.
func TestScoreSplit(t *testing.T) {
	for _, fields := range []string{``, `,"gpu_speed":[1,0.5,1,1]`, `,"gpu_speed":[1,1,0,1]`} {
		for _, loads := range []string{`[[60,56,12,12,2,1,1,1],[9,5,5,4,5,6,3,1]]`, `[[[60,56,12,12,2,1,1,1],[9,5,5,4,5,6,3,1]],[[6,5,12,12,22,1,7,1],[0,0,0,0,0,0,0,0]]]`} {
			planned := call(t, `{"version":1,"num_gpus":4,"num_replicas":12,"dispatch":"split","loads":`+loads+fields+`}`, "plan", "-").want(t, exitDone).stdout
			type report struct {
				Mean float64 `json:"imbalance_mean"`
			}
			plan := decode[struct{ Report report }](t, planned)
			args := []string{"score", "--placement", "-", "--loads", write(t, "loads.json", loads), "--dispatch", "split", "--json"}
			if _, speed, ok := strings.Cut(strings.TrimSuffix(fields, "]"), "["); ok {
				args = append(args, "--gpu-speed", speed)
			}
			scored := decode[report](t, call(t, planned, args...).want(t, exitDone).stdout)
			if math.Abs(scored.Mean-plan.Report.Mean) > 1e-9 {
				t.Errorf("%s %s: score %v, plan %v", fields, loads, scored.Mean, plan.Report.Mean)
			}
		}
	}
}

// TestScoreDead: what a GPU out of service holds counts for nothing, whatever the
// dispatch; where the experts fit no more there is no bound.
func TestScoreDead(t *testing.T) {
	loads := write(t, "loads.json", `[[6,2,2,2]]`)
	for _, d := range []string{"even", "split", "nearest"} {
		at := write(t, "at.json", `{"version":1,"num_gpus":3,"physical_to_logical_map":[[0,1,2,3,0,1]]}`)
		a := call(t, "", "score", "--placement", at, "--loads", loads, "--gpu-speed", "1,1,0", "--dispatch", d, "--json").want(t, exitDone)
		if !strings.Contains(a.stdout, `"imbalance_mean":1.33333`) { // 8 of 6
			t.Errorf("%s: %s", d, a.stdout)
		}
		at = write(t, "at.json", `{"version":1,"num_gpus":2,"num_experts":4,"physical_to_logical_map":[[0,1,2,3]]}`)
		a = call(t, "", "score", "--placement", at, "--loads", loads, "--gpu-speed", "1,0", "--dispatch", d, "--json").want(t, exitDone)
		if !strings.Contains(a.stdout, `"missing":[2,3]`) || !strings.Contains(a.stdout, `"lower_bound":null`) {
			t.Errorf("%s: %s", d, a.stdout)
		}
	}
}

func TestScoreNearest(t *testing.T) {
	// Expert 0 on GPUs 0 and 1, 1 on 2, 2 on 3: node 1's half of expert 0 is spread over both.
	at, loads := write(t, "at.json", `{"physical_to_logical_map":[[0,0,1,2]]}`), write(t, "loads.json", `[[8,4,4]]`)
	args := []string{"score", "--placement", at, "--loads", loads, "--gpus", "4", "--json"}
	for _, c := range []struct {
		flags []string
		want  string
	}{
		{[]string{"--dispatch", "nearest", "--nodes", "2"}, `"imbalance_mean":1,`},
		{[]string{"--dispatch", "nearest"}, `"imbalance_mean":1.5,`}, // GPU 0 serves all but GPU 1: 6 of 4
		{nil, `"imbalance_mean":1,`},
	} {
		if a := call(t, "", append(args, c.flags...)...).want(t, exitDone); !strings.Contains(a.stdout, c.want) {
			t.Errorf("%v: %s, want %s", c.flags, a.stdout, c.want)
		}
	}
	for _, flags := range [][]string{{"--dispatch", "far"}, {"--nodes", "2"}, {"--dispatch", "nearest", "--nodes", "0"}} {
		call(t, "", append(args, flags...)...).want(t, exitUsage)
	}
	call(t, "", append(args, "--dispatch", "nearest", "--nodes", "3")...).want(t, exitFailed)
}

// Tokens' experts are found where the placement has them; their loads stand in for
// those that are not given.
func TestScoreRoutes(t *testing.T) {
	at, tokens := write(t, "plan.json", `{"physical_to_logical_map":[[0,1,2,3]]}`), write(t, "tokens.csv", "token,L1\n0,0 1\n1,0 2\n")
	args := []string{"score", "--placement", at, "--gpus", "4", "--nodes", "2", "--routes", tokens}
	a := call(t, "", append(args, "--json")...).want(t, exitDone)
	// Token 0 is on node 0 alone, token 1 on both; from node 0 a copy goes for expert 2
	// alone, from node 1 for 0 and 1, and for 0.
	for _, want := range []string{`"imbalance_mean":2,`, `"nodes_per_token_mean":1.5,`, `"gpus_per_token_mean":2,`, `"copies_off_node_mean":0.75,`, `"expert_copies_off_node_mean":1,`, `"nodes_per_token":1.5,`} {
		if !strings.Contains(a.stdout, want) {
			t.Errorf("no %s in %s", want, a.stdout)
		}
	}
	if a = call(t, "", args...).want(t, exitDone); !strings.Contains(a.stdout, "nodes a token") || !strings.Contains(a.stdout, "1.500") {
		t.Error(a.stdout)
	}
	loads := write(t, "loads.json", `[[1,1,1,1]]`)
	if a = call(t, "", append(args, "--json", "--loads", loads)...).want(t, exitDone); !strings.Contains(a.stdout, `"imbalance_mean":1,`) {
		t.Error(a.stdout)
	}
	if a = call(t, "", args[:5]...); a.code != exitUsage {
		t.Error(a.stderr)
	}
}
