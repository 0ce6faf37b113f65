package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
)

// The story of two failures and a restart, told by the command from files alone.
func TestFailuresFromFiles(t *testing.T) {
	m := placement.DeepSeekV3()
	m.Layers = 10
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	loads, err := json.Marshal(map[string]any{"logical_count": workload.Experts(m, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file("stats.json"), loads, 0o600); err != nil {
		t.Fatal(err)
	}
	plan := func(out string, more ...string) {
		call(t, "", append([]string{"plan", file("stats.json"), "--gpus", "32", "--nodes", "4", "--replicas", "288", "--locality", "none", "--out", file(out)}, more...)...).want(t, exitDone)
	}
	speed := func(dead ...int) string {
		v := slices.Repeat([]string{"1"}, 32)
		for _, g := range dead {
			v[g] = "0"
		}
		return strings.Join(v, ",")
	}
	read := func(name string) (p placement.Placement) {
		text, err := os.ReadFile(file(name))
		if err != nil {
			t.Fatal(err)
		}
		var plan struct {
			Map [][]int `json:"physical_to_logical_map"`
		}
		if err := json.Unmarshal(text, &plan); err != nil {
			t.Fatal(err)
		}
		return placement.Placement{Experts: 256, GPUs: 32, PhysicalToLogical: plan.Map}
	}
	keep := func(before, after string, dead ...int) {
		t.Helper()
		v := make([]float64, 32)
		for g := range v {
			if !slices.Contains(dead, g) {
				v[g] = 1
			}
		}
		was, is := read(before), read(after)
		for l := range was.PhysicalToLogical {
			for _, e := range is.Missing(l, v) {
				if !slices.Contains(was.Missing(l, v), e) {
					t.Errorf("%s to %s: layer %d loses expert %d", before, after, l, e)
				}
			}
		}
	}
	plan("start.json")
	plan("first.json", "--previous", file("start.json"), "--gpu-speed", speed(5), "--schedule", "--copies-per-gpu", "1")
	call(t, "", "apply", "--schedule", file("first.json"), "--placement", file("start.json"), "--rounds", "10", "--out", file("then.json")).want(t, exitDone)
	keep("start.json", "then.json", 5)
	plan("second.json", "--previous", file("then.json"), "--gpu-speed", speed(5, 9), "--schedule", "--copies-per-gpu", "1")
	call(t, "", "apply", "--schedule", file("second.json"), "--placement", file("then.json"), "--rounds", "3", "--out", file("now.json")).want(t, exitDone)
	keep("then.json", "now.json", 5, 9)
	call(t, "", "apply", "--schedule", file("second.json"), "--placement", file("now.json"), "--done", "3", "--out", file("end.json")).want(t, exitDone)
	keep("now.json", "end.json", 5, 9)
	if fmt.Sprint(read("end.json").PhysicalToLogical) != fmt.Sprint(read("second.json").PhysicalToLogical) {
		t.Error("the end is not the plan")
	}
	sglang := call(t, "", "apply", "--schedule", file("second.json"), "--placement", file("now.json"), "--done", "3", "--format", "sglang").want(t, exitDone).stdout
	if !strings.HasPrefix(sglang, `{"physical_to_logical_map"`) || strings.Contains(sglang, "-1") {
		t.Errorf("for SGLang: %.100s", sglang)
	}
	// What does not fit is refused, and the file is named.
	a := call(t, "", "apply", "--schedule", file("second.json"), "--placement", file("start.json"), "--rounds", "3").want(t, exitFailed)
	if !strings.Contains(a.stderr, "start.json: schedule: ") {
		t.Error(a.stderr)
	}
	for _, bad := range [][]string{
		{"--schedule", file("start.json"), "--placement", file("start.json")}, // a plan without a schedule
		{"--schedule", file("second.json"), "--placement", file("stats.json")},
		{"--schedule", file("second.json"), "--placement", file("then.json"), "--rounds", "100000"},
		{"--schedule", file("none.json"), "--placement", file("then.json")},
	} {
		call(t, "", append([]string{"apply"}, bad...)...).want(t, exitFailed)
	}
	for _, bad := range [][]string{{}, {"--done", "-1"}, {"--rounds", "2", "--done", "3"}, {"--format", "none"}, {"--gpus", "0"}, {"--whole-layers", "--done", "1"}} {
		if len(bad) > 0 {
			bad = append(bad, "--schedule", file("second.json"), "--placement", file("then.json"))
		}
		call(t, "", append([]string{"apply"}, bad...)...).want(t, exitUsage)
	}
}

// A file that is no schedule is refused in the words of JSON, not of Go.
func TestNoSchedule(t *testing.T) {
	at := write(t, "at.json", `{"version":1,"num_experts":2,"num_gpus":2,"physical_to_logical_map":[[0,1]]}`)
	for in, want := range map[string]string{
		`[1]`:                             "schedule: an object is needed",
		`"x"`:                             "schedule: an object is needed",
		`null`:                            "version: 0",
		`{"version":"x"}`:                 "schedule: missing",
		`{"version":1}`:                   "schedule: missing",
		`{"schedule":7}`:                  "schedule: number before byte 1 of the schedule: an object is needed",
		`{"schedule":{"version":true}}`:   "version: bool before byte 15 of the schedule: a whole number is needed",
		`{"schedule":{"peers":1.5}}`:      "peers: 1.5 before byte 12 of the schedule: a whole number is needed",
		`{"schedule":{"version":1},"a":0`: "unexpected end",
	} {
		a := call(t, in, "apply", "--schedule", "-", "--placement", at).want(t, exitFailed)
		if !strings.Contains(a.stderr, "standard input: "+want) || strings.Contains(a.stderr, "Go ") {
			t.Errorf("%s: %s", in, a.stderr)
		}
	}
}

// An incomplete placement is scored: infinite, with the experts named.
func TestScoreIncomplete(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	at := write("at.json", `{"version":1,"num_experts":3,"num_gpus":2,"physical_to_logical_map":[[0,1,-1,0],[0,1,2,0]]}`)
	loads := write("loads.json", `{"logical_count":[[4,2,2],[4,2,2]]}`)
	var out struct {
		Mean   *float64 `json:"imbalance_mean"`
		Layers []struct {
			Imbalance *float64
			Missing   []int
		}
	}
	text := call(t, "", "score", "--placement", at, "--loads", loads, "--json").want(t, exitDone).stdout
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	if out.Mean != nil || out.Layers[0].Imbalance != nil || fmt.Sprint(out.Layers[0].Missing) != "[2]" || *out.Layers[1].Imbalance != 1 || out.Layers[1].Missing != nil {
		t.Error(text)
	}
	table := call(t, "", "score", "--placement", at, "--loads", loads).want(t, exitDone).stdout
	if !strings.Contains(table, "layer 0 has no replica of 1 expert: 2") {
		t.Error(table)
	}
	few := write("few.json", `{"version":1,"num_experts":3,"num_gpus":2,"physical_to_logical_map":[[0,1]]}`)
	if a := call(t, "", "score", "--placement", few, "--loads", loads).want(t, exitFailed); !strings.Contains(a.stderr, "few.json") || !strings.Contains(a.stderr, "loads.json") {
		t.Error(a.stderr)
	}
}
