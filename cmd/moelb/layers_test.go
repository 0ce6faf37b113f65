package main

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Layer numbers go from the statistics, or from --layers, to the formats that
// write them.
func TestLayerNumbers(t *testing.T) {
	loads := write(t, "stats.json", `{"logical_count":[[0,0,0,0],[0,0,0,0],[9,1,1,1],[1,9,1,1],[1,1,9,1]]}`)
	shape := []string{"plan", loads, "--gpus", "2", "--replicas", "6"}
	number := regexp.MustCompile(`(?m)^  (\d+): `)
	numbers := func(args ...string) string {
		text := call(t, "", append(append([]string{}, shape...), args...)...).want(t, exitDone).stdout
		var got []string
		for _, m := range number.FindAllStringSubmatch(text, -1) {
			got = append(got, m[1])
		}
		return strings.Join(got, " ")
	}
	for want, args := range map[string][]string{
		"0 1 2 3 4": nil, "2 3": {"--layers", "2-3"}, "4": {"--layers", "4"}, "7 8": {"--layers", "2-3", "--first-layer", "7"}, "6 7 8 9 10": {"--first-layer", "6"},
	} {
		if got := numbers(append(args, "--format", "tensorrt-llm")...); got != want {
			t.Errorf("%v: layers %s, want %s", args, got, want)
		}
	}
	ascend := decode[struct {
		Count int `json:"moe_layer_count"`
		List  []struct {
			ID int `json:"layer_id"`
		} `json:"layer_list"`
	}](t, call(t, "", append(shape, "--layers", "2-4", "--format", "vllm-ascend")...).want(t, exitDone).stdout)
	if fmt.Sprint(ascend) != "{3 [{0} {1} {2}]}" {
		t.Errorf("vllm-ascend: %v", ascend)
	}
	sglang := decode[map[string][][]int](t, call(t, "", append(shape, "--layers", "2-3", "--format", "sglang")...).want(t, exitDone).stdout)
	if n := len(sglang["physical_to_logical_map"]); n != 5 {
		t.Errorf("sglang: %d layers", n)
	}
	for _, bad := range []string{"3-2", "a", "0-5", "-1", "1-", ""} {
		call(t, "", append(append([]string{}, shape...), "--layers="+bad)...).want(t, exitUsage)
	}
	// A placement of all layers in force is cut alike.
	all := write(t, "all.json", call(t, "", append(shape, "--json")...).want(t, exitDone).stdout)
	p := decode[struct{ Report struct{ Moves int } }](t, call(t, "", append(shape, "--layers", "2-4", "--previous", all, "--json")...).want(t, exitDone).stdout)
	if p.Report.Moves != 0 {
		t.Errorf("%d moves from the same plan", p.Report.Moves)
	}
}

// Whatever is wrong with a file, its name is said.
func TestErrorsNameTheFile(t *testing.T) {
	shape := []string{"--gpus", "2", "--replicas", "6"}
	good := write(t, "good.json", "[[1,2,3,4],[4,3,2,1]]")
	plan := write(t, "plan.json", call(t, "", append([]string{"plan", good, "--json"}, shape...)...).want(t, exitDone).stdout)
	one := write(t, "one.json", "[[1,2,3,4]]")
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"plan", write(t, "field.json", `{"version":1,"loads":[[1]],"num_gpu":8}`)}, "field.json: num_gpu: unknown field"},
		{[]string{"plan", write(t, "neg.json", `{"version":1,"loads":[[1,-2]],"num_gpus":1,"num_replicas":2}`)}, "neg.json: loads: layer 0, index 1"},
		{[]string{"plan", write(t, "few.json", `{"version":1,"loads":[[1,2,3]],"num_gpus":1,"num_replicas":2}`)}, "few.json: "},
		{[]string{"plan", plan}, "plan.json: num_experts: this is a field of a placement"},
		{[]string{"plan", plan, "--gpus", "2", "--replicas", "6"}, "plan.json: num_experts: this is a field of a placement"},
		{[]string{"plan", one, "--gpus", "2", "--replicas", "6", "--previous", plan}, "plan.json: physical_to_logical_map: 2 layers, but loads has 1"},
		{[]string{"score", "--placement", plan, "--loads", one}, "one.json: "},
		{[]string{"score", "--placement", plan, "--loads", write(t, "none.json", `{"version":1}`)}, "none.json: loads: missing"},
	} {
		if a := call(t, "", c.args...).want(t, exitFailed); !strings.Contains(a.stderr, c.want) {
			t.Errorf("%v: %q does not say %q", c.args, a.stderr, c.want)
		}
	}
}

func TestSteps(t *testing.T) {
	steps := write(t, "steps.json", "[[[9,1,1,1]],[[1,9,1,1]],[[1,1,9,1]],[[1,1,1,9]]]")
	plan := func(args ...string) string {
		p := decode[struct {
			Map    [][]int `json:"physical_to_logical_map"`
			Report struct {
				Mean float64 `json:"imbalance_mean"`
			}
		}](t, call(t, "", append([]string{"plan", "--gpus", "2", "--replicas", "6", "--json"}, args...)...).want(t, exitDone).stdout)
		return fmt.Sprint(p)
	}
	for args, loads := range map[string]string{"1:3": "[[[1,9,1,1]],[[1,1,9,1]]]", ":1": "[[9,1,1,1]]", "3:": "[[1,1,1,9]]"} {
		if got, want := plan(steps, "--steps", args), plan(write(t, "part.json", loads)); got != want {
			t.Errorf("--steps %s: %s, want %s", args, got, want)
		}
	}
	if got, want := plan(steps, "--sum"), plan(write(t, "sum.json", "[[12,12,12,12]]")); got != want {
		t.Errorf("--sum: %s, want %s", got, want)
	}
	if got, want := plan(steps, "--sum", "--steps", "0:2"), plan(write(t, "sum.json", "[[10,10,2,2]]")); got != want {
		t.Errorf("--sum of two: %s, want %s", got, want)
	}
	for _, bad := range []string{"2", "2:2", "3:1", "0:5", "4:", "a:b", "-1:2"} {
		call(t, "", "plan", steps, "--gpus", "2", "--replicas", "6", "--steps="+bad).want(t, exitUsage)
	}
}

func TestOutput(t *testing.T) {
	args := []string{"plan", write(t, "l.json", "[[9,1,1,1]]"), "--gpus", "2", "--replicas", "6", "--format", "sglang"}
	plain := call(t, "", args...).want(t, exitDone).stdout
	if got := call(t, "", append(args, "--out", "-")...).want(t, exitDone).stdout; got != plain || got == "" {
		t.Errorf("--out -: %q, want %q", got, plain)
	}
	call(t, "", append(args, "--out", "")...).want(t, exitUsage)
	call(t, "", append(args, "--out", "-", "--json")...).want(t, exitUsage)
	for _, f := range []string{"sglang", "vllm-ascend", "tensorrt-llm", "fastdeploy"} {
		a := call(t, "", "plan", args[1], "--gpus", "4", "--replicas", "6", "--format", f).want(t, exitFailed)
		if want := "--replicas: 6 on 4 GPUs: format " + f + " wants as many on every GPU: 4 or 8"; !strings.Contains(a.stderr, want) {
			t.Errorf("%q does not say %q", a.stderr, want)
		}
	}
	call(t, "", "plan", args[1], "--gpus", "4", "--replicas", "6", "--format", "omni").want(t, exitDone)
}

func TestDocs(t *testing.T) {
	page := call(t, "", "docs").want(t, exitDone).stdout
	for _, want := range []string{"## moelb plan\n", "--layers string", "## moelb completion bash\n", "## moelb docs\n"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in the page", want)
		}
	}
	if v := call(t, "", "version").want(t, exitDone).stdout; !regexp.MustCompile(`^moelb v\d+\.\d+\.\d+\S*\n$`).MatchString(v) {
		t.Errorf("version %q", v)
	}
	if s := call(t, "", "completion", "bash").want(t, exitDone).stdout; !strings.Contains(s, "complete") {
		t.Errorf("completion: %.80q", s)
	}
}
