package main

import (
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
