package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestScoreAsked scores a plan by what its problem says of the unit and of sharing, as
// the plan was made, unless flags or another unit say otherwise.
func TestScoreAsked(t *testing.T) {
	type report struct {
		Mean float64 `json:"imbalance_mean"`
	}
	const loads = `"loads":[[[90,40,30,20,10,10],[1,2,3,4,5,6]],[[10,40,30,20,90,10],[1,2,3,4,5,6]]]`
	for _, how := range []string{`"dispatch":"split"`, `"dispatch":"nearest"`, `"dispatch":"even"`, `"num_groups":1`} {
		text := `{"version":1,"num_gpus":4,"num_nodes":2,"num_replicas":8,"gpu_speed":[1,1,0.5,1],` + how + `,` + loads + `}`
		at, problem := write(t, "at.json", ""), write(t, "problem.json", text)
		call(t, text, "plan", "-", "--out", at).want(t, exitDone)
		planned := decode[struct{ Report report }](t, call(t, text, "plan", "-", "--json").want(t, exitDone).stdout).Report.Mean
		score := func(loads string, flags ...string) float64 {
			a := call(t, "", append([]string{"score", "--placement", at, "--loads", loads, "--json"}, flags...)...).want(t, exitDone)
			return decode[report](t, a.stdout).Mean
		}
		if got := score(problem); got-planned > 1e-9 || planned-got > 1e-9 {
			t.Errorf("%s: planned %v, scored %v", how, planned, got)
		}
		plain := write(t, "loads.json", `{"version":1,`+loads+`}`)
		if got, want := score(problem, "--gpu-speed", "1,1,1,1", "--nodes", "1", "--dispatch", "nearest"), score(plain, "--dispatch", "nearest"); got != want {
			t.Errorf("%s: flags score %v, not %v", how, got, want)
		}
		other := write(t, "other.json", strings.Replace(strings.Replace(text, `_gpus":4`, `_gpus":2`, 1), "1,1,0.5,1", "1,0", 1))
		if got, want := score(other, "--dispatch", "even"), score(plain); got != want {
			t.Errorf("%s: a problem of another unit scores %v, not %v", how, got, want)
		}
	}
	bad := write(t, "bad.json", `{"version":1,"num_gpus":4,"dispatch":"far",`+loads+`}`)
	at := write(t, "at.json", `{"physical_to_logical_map":[[0,1,2,3,4,5,0,1],[0,1,2,3,4,5,0,1]]}`)
	says(t, call(t, "", "score", "--placement", at, "--gpus", "4", "--loads", bad).want(t, exitFailed), "bad.json", "dispatch")
}

// TestSizeFromScratch sizes a problem with a placement in force, and says what the first
// row is where none without redundant experts does what is asked.
func TestSizeFromScratch(t *testing.T) {
	const loads = `"version":1,"num_gpus":4,"num_nodes":2,"num_replicas":8,"loads":[[90,40,30,20,10,10]]`
	a := call(t, `{`+loads+`}`, "size", "-").want(t, exitDone)
	b := call(t, `{`+loads+`,"previous":{"physical_to_logical_map":[[0,1,2,3,4,5,0,1]]},"max_moves":3,"target":1.2}`, "size", "-").want(t, exitDone)
	if a.stdout != b.stdout {
		t.Errorf("%s\n%s", a.stdout, b.stdout)
	}
	if c := call(t, `{`+loads+`,"two_nodes":true}`, "size", "-").want(t, exitDone); strings.Contains(c.stdout, "without") || !strings.Contains(c.stdout, "the fewest that do what is asked") {
		t.Error(c.stdout)
	}
	if c := call(t, `{`+loads+`,"everywhere":[0]}`, "size", "-").want(t, exitDone); strings.Contains(c.stdout, "without") || !strings.Contains(c.stdout, "with 3, the fewest that do what is asked") {
		t.Error(c.stdout)
	}
}

// TestSaysWhatToDo has errors name the file that was given and the flag that is meant.
func TestSaysWhatToDo(t *testing.T) {
	empty, batch := write(t, "empty.json", ""), write(t, "batch.json", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,0,2]]}`)
	at := write(t, "at.json", `{"physical_to_logical_map":[[0,1,2,3],[0,1,2,3]],"num_gpus":2}`)
	says(t, call(t, "", "replay", at).want(t, exitUsage), "--loads")
	says(t, call(t, "", "split", empty).want(t, exitFailed), "empty.json", "the input is empty")
	says(t, call(t, "", "split", batch).want(t, exitFailed), "batch.json", "counts")
	says(t, call(t, "", "apply", "--schedule", empty, "--placement", at).want(t, exitFailed), "empty.json", "the input is empty")
	says(t, call(t, "", "simulate", "--rps", "10", "--slo-percentile", "101").want(t, exitUsage), "--slo-percentile 101", "below 100")
	says(t, call(t, small, "plan", "--format", "vllm-ascend", "--first-layer", "3").want(t, exitUsage), "--first-layer", "tensorrt-llm")
	says(t, call(t, "", "apply", "--schedule", empty, "--placement", at, "--first-layer", "3").want(t, exitUsage), "--first-layer", "tensorrt-llm")
	a := says(t, call(t, small, "plan", "--out", at+"/no/plan.json").want(t, exitFailed), "/no/plan.json")
	if strings.Contains(a.stderr, "/.plan") {
		t.Error(a.stderr)
	}
}

// says fails the test unless an error has all of these words.
func says(t *testing.T, a answer, words ...string) answer {
	t.Helper()
	for _, w := range words {
		if !strings.Contains(a.stderr, w) {
			t.Errorf("%q does not say %q", a.stderr, w)
		}
	}
	return a
}

// TestErrorsNameTheFlag: an error about a flag's value names the flag, not the input
// whose field it stands in for, and one about the input's own value the input.
func TestErrorsNameTheFlag(t *testing.T) {
	in := write(t, "small.json", `{"version":1,"loads":[[4,3,2,1]],"num_replicas":6,"num_gpus":2}`)
	at := write(t, "at.json", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,2,3,0,1]]}`)
	other := write(t, "other.json", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,0,1]]}`)
	batch := write(t, "batch.json", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,0,2]],"counts":[[10,4,3]]}`)
	schedule := write(t, "schedule.json", call(t, "", "plan", in, "--previous", at, "--schedule", "--expert-bytes", "100").want(t, exitDone).stdout)
	none := filepath.Join(t.TempDir(), "none", "x")
	for _, c := range []struct{ args, want string }{
		{"plan IN --target .5", "--target: 0.5: only with previous or --previous"},
		{"plan IN --target .5 --previous " + at, "--target: 0.5: an imbalance is at least 1"},
		{"plan IN --max-moves 3", "--max-moves: 3: only with previous or --previous"},
		{"plan IN --nodes 3", "--nodes: 2 GPUs cannot be shared evenly by 3 nodes"},
		{"plan IN --replicas 3", "--replicas: 3 replicas for 4 experts"},
		{"plan IN --groups 3 --locality groups", "--groups: 4 experts cannot"},
		{"plan IN --gpus-per-node 1,2", "--gpus-per-node: index 1: 2: the nodes"},
		{"plan IN --domains 3", "--domains: 2 GPUs cannot"},
		{"plan IN --two-nodes", "--two-nodes: 1 node in service: at least 2 are needed"},
		{"plan IN --everywhere 9", "--everywhere: index 0: expert 9"},
		{"plan IN --gpu-speed 1", "--gpu-speed: 1 speeds for 2 GPUs"},
		{"plan IN --window-weights 0", "--window-weights: no window has any: one of them at least must be above 0"},
		{"plan IN --traffic-slack 1", "--traffic-slack: 1: only with routes or --routes"},
		{"plan IN --traffic-copies expert", "--traffic-copies: expert: only with routes or --routes"},
		{"plan IN --schedule", "--schedule: only with previous or --previous"},
		{"plan IN --schedule --previous " + at + " --expert-bytes 1 --leaving 9", "--leaving: index 0: GPU 9"},
		{"plan IN --policy deepseek --dispatch split", "--dispatch: policy deepseek"},
		{"plan IN --format tensorrt-llm --first-layer -1", "--first-layer: -1: between"},
		{"plan IN --previous " + other, "--previous " + other + ": 2 experts, but loads has 4"},
		{"plan IN --previous " + none, "--previous: open " + none},
		{"plan IN --routes " + none, "--routes: open " + none},
		{"plan IN --out " + none, "--out: open " + none},
		{"plan IN --html " + none, "--html: open " + none},
		{"plan IN --gpu-speed 1,0", "--gpu-speed: 4 experts do not fit"},
		{"plan " + write(t, "nodes.json", `{"version":1,"loads":[[4,3,2,1]],"num_replicas":6,"num_gpus":2,"num_nodes":3}`) + " --replicas 7", "nodes.json: num_nodes: 2 GPUs"},
		{"size IN --nodes 3", "--nodes: 2 GPUs cannot"},
		{"size IN --max-redundant 262144", "--max-redundant 262144: 262148 slots in all, but at most 262144 are supported"},
		{"replay --loads " + none, "--loads: open " + none},
		{"replay --loads IN", "small.json: loads: 1 window"},
		{"split " + batch + " --read-cost -1", "--read-cost: -1: between 0 and"},
		{"split " + batch + " --table --nodes 3", "--nodes: 2 GPUs cannot"},
		{"split " + batch + " --out " + none, "--out: open " + none},
		{"score --placement " + at + " --loads IN --gpu-speed 1,-1", "--gpu-speed: index 1: -1"},
		{"score --placement " + at + " --loads IN --dispatch nearest --nodes 3", "--nodes: 2 GPUs cannot"},
		{"score --placement " + at + " --loads " + none, "--loads: open " + none},
		{"score --placement " + none + " --loads IN", "--placement: open " + none},
		{"apply --placement " + at + " --schedule " + none, "--schedule: open " + none},
		{"apply --placement " + none + " --schedule " + schedule, "--placement: open " + none},
		{"apply --placement " + at + " --schedule " + schedule + " --rounds 99", "--rounds 99: the schedule of "},
		{"apply --placement " + at + " --schedule " + schedule + " --format tensorrt-llm --first-layer -1", "--first-layer: -1: between"},
	} {
		if a := call(t, "", strings.Fields(strings.ReplaceAll(c.args, "IN", in))...).want(t, exitFailed); !strings.HasPrefix(a.stderr, "moelb: "+c.want) && !strings.Contains(a.stderr, "/"+c.want) {
			t.Errorf("%s: says %q, want %q", c.args, a.stderr, c.want)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"plan IN --model x", "--model: "}, {"plan IN --format x", "--format: "},
		{"estimate --phase prefill --gpus 12 --nodes 1", "--gpus: 12 is not between 0 and the 8 of 1 nodes of 8"},
		{"simulate --model x", "--model: "}, {"simulate --gpu x", "--gpu: "}, {"simulate --overlap x", "--overlap: "},
		{"simulate --prefill-policy x", "--prefill-policy: "}, {"simulate --experts-policy x", "--experts-policy: "},
		{"simulate --price-hit -1", "--price-hit: "}, {"simulate --price-gpu-hour NaN", "--price-gpu-hour: "},
		{"simulate --decode-units -1", "--decode-units -1: between 0 and 64"}, {"simulate --prefill-units 300", "--prefill-units 300: between 0 and 256"},
		{"simulate --prefill-tp -1", "--prefill-tp -1: between 0 and"}, {"simulate --mtp -1", "--mtp: -1"}, {"simulate --hit 1", "--hit: 1"},
		{"simulate --max-tokens 1", "--max-tokens: 1"}, {"simulate --max-requests 0", "--max-requests: 0"},
		{"simulate --seconds 10 --fail 5-2:decode:0", "--fail, number 0: from second 5 to 2: they must rise"}, {"simulate --seconds 10 --fail 1-2:decode:0 --fail 1-2:decode:9", "--fail, number 1: unit 9: there are 1"},
		{"simulate --rps 10 --slo-ttft -1", "--slo-ttft: -1"}, {"simulate --rps 10 --slo-tpot NaN", "--slo-tpot: NaN"}, {"simulate --rps -1 --slo-tpot 1", "--rps: -1"},
	} {
		if a := call(t, "", strings.Fields(strings.ReplaceAll(c.args, "IN", in))...).want(t, exitUsage); !strings.HasPrefix(a.stderr, "moelb: "+c.want) {
			t.Errorf("%s: says %q, want %q", c.args, a.stderr, c.want)
		}
	}
	for _, scenario := range []string{"servegen-day --hit .5", "published-day"} {
		says(t, call(t, "", append(strings.Fields("simulate --scenario "+scenario), "--data", none)...).want(t, exitFailed), "moelb: --data: open "+none)
	}
	for _, flag := range []string{"--trace", "--model-file", "--gpu-file"} {
		says(t, call(t, "", "simulate", flag, none).want(t, exitFailed), "moelb: "+flag+": open "+none)
	}
}
