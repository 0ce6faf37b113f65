package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// replayed is moelb replay's answer, read with no help of the command's own code.
type replayed struct {
	Windows  int     `json:"windows"`
	Steps    float64 `json:"steps_per_window"`
	Step     float64 `json:"step_seconds"`
	Policies []struct {
		Name     string   `json:"name"`
		Error    string   `json:"error"`
		Mean     float64  `json:"imbalance_mean"`
		Max      float64  `json:"imbalance_max"`
		Moves    int      `json:"moves"`
		PerLayer float64  `json:"moves_per_plan_and_layer"`
		Copy     *float64 `json:"copy_seconds_per_plan"`
		Lost     *float64 `json:"lost"`
		Plans    int      `json:"plans"`
		Refusals int      `json:"not_worth_moving"`
		Next     []struct {
			Mean  float64  `json:"imbalance_mean"`
			Max   float64  `json:"imbalance_max"`
			Moves int      `json:"moves"`
			Copy  *float64 `json:"copy_seconds"`
			Lost  *float64 `json:"lost"`
		} `json:"next_windows"`
	} `json:"policies"`
}

// wandering are windows of loads without a random source.
func wandering(windows, layers, experts int) [][][]float64 {
	out := make([][][]float64, windows)
	for w := range out {
		out[w] = skewed(layers, experts)
		for l := range out[w] {
			for e := range out[w][l] {
				out[w][l][e] = math.Round(out[w][l][e] * (1 + float64((e*5+l*3+w*w)%7)/5))
			}
		}
	}
	return out
}

// lines writes windows as JSON Lines.
func lines(windows [][][]float64) string {
	out := ""
	for _, w := range windows {
		out += `{"counts":` + rows(w) + "}\n"
	}
	return out
}

// fares is a placement's imbalance on a window: the mean over the layers and the
// largest.
func fares(at [][]int, loads [][]float64, gpus int) (mean, most float64) {
	slots := len(at[0]) / gpus
	for l, row := range at {
		count := make([]float64, len(loads[l]))
		for _, e := range row {
			count[e]++
		}
		top, sum := 0.0, 0.0
		for g := range gpus {
			load := 0.0
			for _, e := range row[g*slots : (g+1)*slots] {
				load += loads[l][e] / count[e]
			}
			top, sum = max(top, load), sum+load
		}
		mean += top * float64(gpus) / sum / float64(len(at))
		most = max(most, top*float64(gpus)/sum)
	}
	return mean, most
}

// TestReplay holds the replay to plans that are made one by one and scored by
// arithmetic of their own.
func TestReplay(t *testing.T) {
	windows := wandering(6, 3, 16)
	const gpus, slots = 4, 24
	at := write(t, "loads.jsonl", lines(windows))
	args := []string{"replay", "--loads", at, "--gpus", "4", "--nodes", "2", "--replicas", "24", "--locality", "none", "--target", "1.1", "--model", "deepseek-v3", "--windows", "3", "--json"}
	r := decode[replayed](t, call(t, "", args...).want(t, exitDone).stdout)
	if r.Windows != len(windows) || len(r.Policies) != 7 {
		t.Fatalf("%d windows, %d policies", r.Windows, len(r.Policies))
	}
	shape := `{"version":1,"num_gpus":4,"num_nodes":2,"num_replicas":24`
	plan := func(loads string, more string, flags ...string) scheduled {
		return decode[scheduled](t, call(t, shape+`,"loads":`+loads+more+`}`, append([]string{"plan"}, flags...)...).want(t, exitDone).stdout)
	}
	free := `,"locality":"none"`
	for _, p := range r.Policies[:6] {
		var now [][]int
		for range windows[0] {
			row := make([]int, slots)
			for s := range row {
				row[s] = s % 16
			}
			now = append(now, row)
		}
		mean, most, moves, plans := 0.0, 0.0, 0, 0
		if len(p.Next) != len(windows)-1 {
			t.Fatalf("%s: %d windows scored", p.Name, len(p.Next))
		}
		for i, next := range p.Next {
			was, n := now, 0
			var copying float64
			switch loads := rows(windows[i]); {
			case p.Name == "none" || p.Name == "once" && i > 0:
			case p.Name == "published":
				now = plan(loads, `,"policy":"deepseek"`).PhysicalToLogical
			case p.Name == "joint":
				now = plan(rows(windows[max(0, i-2):i+1]), free).PhysicalToLogical
			case p.Name == "follow" && i > 0:
				x := plan(loads, free+`,"target":1.1,"previous":{"physical_to_logical_map":`+rows(was)+`}`, "--schedule", "--restarts", "-1", "--model", "deepseek-v3")
				now, copying = x.PhysicalToLogical, *x.Schedule.Seconds
				if math.Abs(copying-*next.Copy) > 1e-12 {
					t.Errorf("%s, window %d: %v s of copying, reported %v", p.Name, i, copying, *next.Copy)
				}
			default:
				now = plan(loads, free).PhysicalToLogical
			}
			if i > 0 {
				for l, row := range now {
					for g := range gpus {
						have := map[int]int{}
						for s := g * 6; s < g*6+6; s++ {
							have[was[l][s]]++
						}
						for s := g * 6; s < g*6+6; s++ {
							if have[row[s]]--; have[row[s]] < 0 {
								n++
							}
						}
					}
				}
			}
			a, b := fares(now, windows[i+1], gpus)
			if math.Abs(a-next.Mean) > 1e-9 || math.Abs(b-next.Max) > 1e-9 || n != next.Moves {
				t.Errorf("%s, window %d: imbalance %v, worst %v, %d moves, reported %v %v %d", p.Name, i, a, b, n, next.Mean, next.Max, next.Moves)
			}
			mean, most, moves = mean+a/float64(len(p.Next)), max(most, b), moves+n
			if i > 0 && p.Name != "none" && p.Name != "once" {
				plans++
			}
		}
		if math.Abs(mean-p.Mean) > 1e-9 || math.Abs(most-p.Max) > 1e-9 || moves != p.Moves || plans != p.Plans || math.Abs(p.PerLayer-float64(moves)/float64(max(1, plans)*3)) > 1e-9 || p.Refusals != 0 {
			t.Errorf("%s: %v %v, %d moves, %d plans: reported %+v", p.Name, mean, most, moves, plans, p)
		}
		// Time lost: imbalance by the decode unit's sensitivity, and copying.
		for i, next := range p.Next {
			if least := *next.Copy / (r.Steps * r.Step); *next.Lost < least || (next.Moves > 0) != (least > 0) {
				t.Errorf("%s, window %d: %v lost, %v of it to copying", p.Name, i, *next.Lost, least)
			}
		}
	}
	if again := decode[replayed](t, call(t, lines(windows), append([]string{"replay", "--loads", "-", "--workers", "3"}, args[3:]...)...).want(t, exitDone).stdout); fmt.Sprint(again.Policies[5].Next[3].Mean) != fmt.Sprint(r.Policies[5].Next[3].Mean) {
		t.Error("the replay depends on where the windows come from, or on the workers")
	}
}

// TestReplayWhicheverPays: where traffic alternates, it learns not to follow, and
// loses at most .1 points more time than the ways it chooses from.
func TestReplayWhicheverPays(t *testing.T) {
	two := wandering(2, 3, 16)
	for l := range two[1] {
		for e := range 8 {
			two[1][l][e], two[1][l][15-e] = two[1][l][15-e], two[1][l][e]
		}
	}
	windows := [][][]float64{}
	for range 6 {
		windows = append(windows, two...)
	}
	a := call(t, lines(windows), "replay", "--gpus", "4", "--replicas", "24", "--model", "deepseek-v3", "--horizon", "100", "--json").want(t, exitDone)
	p := decode[replayed](t, a.stdout).Policies
	joint, follow, ours := p[4], p[5], p[6]
	if *ours.Lost > *joint.Lost+.001 || *ours.Lost >= *follow.Lost/2 || ours.Refusals < 8 || ours.Mean > 1.01*joint.Mean {
		t.Errorf("lost %v and %d refusals; jointly %v, followed %v", *ours.Lost, ours.Refusals, *joint.Lost, *follow.Lost)
	}
}

// TestReplayNotWorthMoving: in windows too short to pay, nothing moves.
func TestReplayNotWorthMoving(t *testing.T) {
	a := call(t, lines(wandering(5, 3, 16)), "replay", "--gpus", "4", "--replicas", "24", "--model", "deepseek-v3", "--horizon", "0.01", "--step-seconds", "0.001", "--json").want(t, exitDone)
	p := decode[replayed](t, a.stdout).Policies[6]
	if p.Name != "decide" || p.Moves != 0 || p.Refusals != p.Plans || p.Plans != 3 {
		t.Errorf("%+v", p)
	}
}

// TestReplayEvery: plans come every N windows.
func TestReplayEvery(t *testing.T) {
	a := call(t, lines(wandering(8, 2, 16)), "replay", "--gpus", "4", "--replicas", "24", "--every", "3", "--json").want(t, exitDone)
	for _, p := range decode[replayed](t, a.stdout).Policies[2:6] {
		for i, next := range p.Next {
			if next.Moves > 0 && i%3 != 0 {
				t.Errorf("%s moves before window %d", p.Name, i+1)
			}
		}
		if p.Plans != 2 {
			t.Errorf("%s: %d plans", p.Name, p.Plans)
		}
	}
}

// planningTimes are what changes from run to run: the table's last column.
var planningTimes = regexp.MustCompile(`(?m) +(planning|-|[0-9.e+]+ (µs|ms|s))$|─+$`)

func TestReplayTable(t *testing.T) {
	a := call(t, lines(wandering(6, 3, 16)), "replay", "--gpus", "4", "--nodes", "2", "--replicas", "24", "--model", "deepseek-v3").want(t, exitDone)
	golden(t, "replay.txt", planningTimes.ReplaceAllString(a.stdout, ""))
	// A row that cannot be is said to be missing, and why.
	a = call(t, lines(wandering(3, 2, 16)), "replay", "--gpus", "4", "--replicas", "26").want(t, exitDone)
	for _, part := range []string{`No row "published policy": num_replicas: 26 replicas`, `No row "whichever pays": the size of an expert is unknown`} {
		if !strings.Contains(a.stdout, part) {
			t.Errorf("%q is missing in\n%s", part, a.stdout)
		}
	}
	p := decode[replayed](t, call(t, lines(wandering(3, 2, 16)), "replay", "--gpus", "4", "--replicas", "26", "--json").want(t, exitDone).stdout).Policies
	if p[2].Error == "" || p[6].Error == "" || p[3].Copy != nil || p[3].Lost != nil || p[0].Lost == nil {
		t.Errorf("%+v", p)
	}
}

func TestReplayPage(t *testing.T) {
	at := filepath.Join(t.TempDir(), "replay.html")
	call(t, lines(wandering(6, 3, 16)), "replay", "--gpus", "4", "--replicas", "24", "--html", at, "--model", "deepseek-v3").want(t, exitDone)
	b, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"<!doctype html>", `"name":"follow"`, `"heat":[[`, "Time lost"} {
		if !strings.Contains(string(b), part) {
			t.Errorf("%q is missing", part)
		}
	}
	if external := regexp.MustCompile(`(?i)(src|href)\s*=|url\(|@import|https?:`).FindString(string(b)); external != "" {
		t.Errorf("the page wants %q", external)
	}
}

func TestReplayHostile(t *testing.T) {
	two := lines(wandering(2, 1, 8))
	for _, c := range []struct{ name, in, want string }{
		{"empty", "", "empty"},
		{"one window", lines(wandering(1, 1, 8)), "1 window"},
		{"other shapes", two + `{"counts":[[1,2]]}`, ""},
		{"cut short", two[:len(two)-9], ""},
		{"a negative count", two + `{"counts":[[1,2,3,4,5,6,7,-8]]}`, "-8"},
		{"tokens", `{"version":1,"loads":[[[1,2,3,4]],[[1,2,3,5]]],"num_replicas":4,"num_gpus":2,"num_nodes":2,"routes":[[[0,1]]]}`, "routes"},
		{"a placement of other GPUs", `{"version":1,"loads":[[[1,2,3,4]],[[1,2,3,5]]],"num_replicas":4,"num_gpus":2,"previous":{"num_gpus":4,"physical_to_logical_map":[[0,1,2,3]]}}`, "standard input: previous: it is on 4 GPUs, not 2"},
		{"loads of no expert", `{"version":1,"loads":[[[1,2,3,4]],[[1,2,3,5]]],"num_replicas":4,"num_gpus":2,"layer_experts":[3]}`, "standard input: loads: layer 0, index 3"},
		{"too few slots", `{"version":1,"loads":[[[1,2,3,4,5]],[[1,2,3,5,5]]],"num_replicas":4,"num_gpus":2,"gpu_speed":[0,1]}`, "standard input: gpu_speed"},
		{"a policy", `{"version":1,"loads":[[[1,2,3,4]],[[1,2,3,5]]],"num_replicas":4,"num_gpus":2,"policy":"deepseek"}`, "policy"},
	} {
		a := call(t, c.in, "replay", "--gpus", "2", "--replicas", "8").want(t, exitFailed)
		if !strings.Contains(a.stderr, c.want) {
			t.Errorf("%s: %q, want %q", c.name, a.stderr, c.want)
		}
	}
	call(t, two, "replay", "--gpus", "2", "--replicas", "4").want(t, exitFailed)
	call(t, two, "replay").want(t, exitFailed)
	call(t, "", "replay", "--loads", filepath.Join(t.TempDir(), "absent")).want(t, exitFailed)
	for _, args := range [][]string{{"x"}, {"--every", "0"}, {"--windows", "0"}, {"--target", "0.9"}, {"--target", "NaN"}, {"--max-moves", "-1"}, {"--horizon", "-1"}, {"--phase", "x"}, {"--gpus", "0"}, {"--loads", "x", "--example"}, {"--model", "gpt"}, {"--locality", "here"}} {
		call(t, two, append([]string{"replay"}, args...)...).want(t, exitUsage)
	}
}

// TestReplayAnyProblem: whatever a problem asks of a plan holds in a replay, and a
// placement in force is where it begins.
func TestReplayAnyProblem(t *testing.T) {
	const loads = `"version":1,"loads":[[[5,3,2,1],[1,1,9,1]],[[5,3,2,1],[1,1,9,1]],[[1,3,2,9],[1,9,3,1]]],"num_gpus":4,"num_nodes":2`
	type way struct {
		Name, Error string
		Mean        float64 `json:"imbalance_mean"`
		Moves       int
		Lost        float64
	}
	of := func(fields string) map[string]way {
		t.Helper()
		if !strings.Contains(fields, "num_replicas") {
			fields += `,"num_replicas":8`
		}
		a := decode[struct{ Policies []way }](t, call(t, "{"+loads+fields+"}", "replay", "--json", "--expert-bytes", "1000").want(t, exitDone).stdout)
		out := map[string]way{}
		for _, w := range a.Policies {
			out[w.Name] = w
		}
		return out
	}
	// Planned once, then scored on the second and third windows as plan and score do.
	for _, c := range []struct{ fields, dispatch string }{
		{``, "even"}, {`,"dispatch":"split"`, "split"}, {`,"dispatch":"nearest"`, "nearest"}, {`,"everywhere":[1]`, "even"}, {`,"two_nodes":true`, "even"},
	} {
		first := strings.NewReplacer(`[[[5,3,2,1],[1,1,9,1]],[[5,3,2,1],[1,1,9,1]],[[1,3,2,9],[1,9,3,1]]]`, `[[5,3,2,1],[1,1,9,1]]`).Replace("{" + loads + c.fields + `,"num_replicas":8}`)
		at := write(t, "at.json", call(t, first, "plan", "-").want(t, exitDone).stdout)
		want := 0.0
		for _, w := range []string{"[[5,3,2,1],[1,1,9,1]]", "[[1,3,2,9],[1,9,3,1]]"} {
			args := []string{"score", "--placement", at, "--loads", write(t, "w.json", w), "--dispatch", c.dispatch, "--json"}
			if c.dispatch == "nearest" {
				args = append(args, "--nodes", "2")
			}
			want += decode[way](t, call(t, "", args...).want(t, exitDone).stdout).Mean / 2
		}
		if got := of(c.fields)["once"].Mean; math.Abs(got-want) > 1e-9 {
			t.Errorf("%s: planned once %v, score %v", c.fields, got, want)
		}
	}
	if plain, split := of("")["replan"].Mean, of(`,"dispatch":"split"`)["replan"].Mean; split >= plain {
		t.Errorf("split per batch %v, evenly %v", split, plain)
	}
	for _, fields := range []string{`,"gpu_speed":[1,1,1,0.5]`, `,"gpu_speed":[0,1,0,1]`, `,"layer_replicas":[8,6]`, `,"num_groups":2,"off_node_replicas":2`, `,"everywhere":[1]`} {
		ways := of(fields)
		if w := ways["published"]; w.Error == "" {
			t.Errorf("%s: the published policy plans it: %+v", fields, w)
		}
		if w := ways["none"]; w.Error != "" || !(w.Mean >= 1) {
			t.Errorf("%s: %+v", fields, w)
		}
		if w := ways["follow"]; w.Error != "" || !(w.Mean >= 1 && w.Mean < 2.5) {
			t.Errorf("%s: %+v", fields, w)
		}
	}
	// The weight of a layer counts in the time lost, and in what pays.
	for _, name := range []string{"none", "once", "follow"} {
		a, b, both := of(`,"layer_weights":[1,0]`)[name], of(`,"layer_weights":[0,1]`)[name], of("")[name]
		if a.Mean != both.Mean || math.Abs((a.Lost+b.Lost)/2-both.Lost) > 1e-6 || a.Lost == b.Lost {
			t.Errorf("%s: %+v and %+v, together %+v", name, a, b, both)
		}
	}
	const drift = `{"version":1,"loads":[[[9,3,2,1],[1,1,9,1]],[[1,3,2,9],[1,1,9,1]],[[1,3,2,9],[1,1,9,1]],[[1,3,2,9],[1,1,9,1]]],"num_gpus":4,"num_replicas":6,"layer_weights":`
	for weights, pays := range map[string]bool{"[1,0]}": true, "[0,1]}": false} {
		a := decode[struct{ Policies []way }](t, call(t, drift+weights, "replay", "--json", "--expert-bytes", "1000", "--windows", "1").want(t, exitDone).stdout)
		if moves := a.Policies[6].Moves; (moves > 0) != pays {
			t.Errorf("weights %s: %d moves", weights, moves)
		}
	}
	const before = `,"previous":{"physical_to_logical_map":[[0,1,2,0,0,1,2,3],[0,1,2,3,0,1,2,3]]}`
	ways := of(before + `,"max_moves":0`)
	if none, follow := ways["none"], ways["follow"]; follow.Moves != 0 || follow.Mean != none.Mean {
		t.Errorf("no moves are allowed, but %+v is not %+v", follow, none)
	}
	if ways = of(before); ways["once"].Moves == 0 {
		t.Error("the first plan moves from the placement in force, and no move is counted")
	}
	if ways = of(before + `,"gpu_speed":[1,1,1,0]`); !strings.Contains(ways["none"].Error, "missing") || ways["replan"].Error != "" {
		t.Errorf("%+v", ways)
	}
}
