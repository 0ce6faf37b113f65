package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

const small = `{"version":1,"loads":[[4,3,2,1],[0,0,0,0],[9,1,1,1]],"num_replicas":6,"num_gpus":2}`

var smallLoads = [][]float64{{4, 3, 2, 1}, {0, 0, 0, 0}, {9, 1, 1, 1}}

// planned is moelb plan's answer, read with no help of the command's own code.
type planned struct {
	Version           int       `json:"version"`
	Policy            string    `json:"policy"`
	GPUSlots          []int     `json:"gpu_slots"`
	PhysicalToLogical [][]int   `json:"physical_to_logical_map"`
	LogicalToPhysical [][][]int `json:"logical_to_physical_map"`
	LogicalCount      [][]int   `json:"logical_count"`
	Report            struct {
		Mean    float64  `json:"imbalance_mean"`
		Max     float64  `json:"imbalance_max"`
		Bound   float64  `json:"lower_bound_mean"`
		Moves   int      `json:"moves"`
		Bytes   *float64 `json:"moved_bytes"`
		Seconds *float64 `json:"seconds"`
		Layers  []struct {
			Imbalance float64 `json:"imbalance"`
			Bound     float64 `json:"lower_bound"`
			Moves     int     `json:"moves"`
			Status    string  `json:"status"`
		} `json:"layers"`
		Locality *struct {
			Home [][]int `json:"home"`
		} `json:"locality"`
	} `json:"report"`
}

// check demands that the answer agrees with itself and with the loads, by
// arithmetic of its own.
func check(t *testing.T, p planned, loads [][]float64, gpus int) {
	t.Helper()
	checkWindows(t, p, [][][]float64{loads}, gpus)
}

// checkWindows is check where the plan is for several windows.
func checkWindows(t *testing.T, p planned, windows [][][]float64, gpus int) {
	t.Helper()
	loads := windows[0]
	if p.Version != 1 || len(p.PhysicalToLogical) != len(loads) || len(p.LogicalCount) != len(loads) || len(p.LogicalToPhysical) != len(loads) || len(p.Report.Layers) != len(loads) {
		t.Fatalf("version %d, %d layers for %d", p.Version, len(p.PhysicalToLogical), len(loads))
	}
	if p.Report.Seconds == nil || *p.Report.Seconds <= 0 || p.Report.Bytes == nil {
		t.Error("seconds or moved_bytes is missing")
	}
	sum, most, bound, n := 0.0, 0.0, 0.0, 0.0
	for l, row := range p.PhysicalToLogical {
		width := make([]int, gpus)
		for g := range width {
			width[g] = len(row) / gpus
			if p.GPUSlots != nil {
				width[g] = p.GPUSlots[g]
			}
		}
		count := make([]int, len(loads[l]))
		for s, e := range row {
			if e < 0 {
				continue
			}
			count[e]++
			found := 0
			for _, at := range p.LogicalToPhysical[l][e] {
				if at == s {
					found++
				}
			}
			if found != 1 {
				t.Fatalf("layer %d: slot %d stands %d times in logical_to_physical_map", l, s, found)
			}
		}
		slowest, all := 0.0, 0.0 // of the windows in proportion to their loads
		for _, loads := range windows {
			total, top, at := 0.0, 0.0, 0
			for g := range gpus {
				load := 0.0
				for range width[g] {
					if e := row[at]; e >= 0 {
						load += loads[l][e] / float64(count[e])
					}
					at++
				}
				total += load
				top = max(top, load)
			}
			if at != len(row) {
				t.Fatalf("layer %d: GPUs have %d slots of %d", l, at, len(row))
			}
			slowest += top * float64(gpus)
			all += total
		}
		imbalance, loaded := 1.0, all > 0
		if loaded {
			imbalance = slowest / all
		}
		for e, c := range count {
			if c < 1 || c != p.LogicalCount[l][e] {
				t.Fatalf("layer %d, expert %d: %d replicas, logical_count %d", l, e, c, p.LogicalCount[l][e])
			}
			slots := 0
			for _, at := range p.LogicalToPhysical[l][e] {
				if at >= 0 {
					slots++
				}
			}
			if slots != c || len(p.LogicalToPhysical[l][e]) != len(p.LogicalToPhysical[0][0]) {
				t.Fatalf("layer %d, expert %d: %d slots listed of %d", l, e, slots, c)
			}
		}
		if loaded {
			sum, bound, most, n = sum+imbalance, bound+p.Report.Layers[l].Bound, max(most, imbalance), n+1
		}
		if x := p.Report.Layers[l]; math.Abs(x.Imbalance-imbalance) > 1e-9 || x.Bound > imbalance+1e-9 || x.Bound < 1-1e-9 {
			t.Errorf("layer %d: imbalance %v, reported %v above %v", l, imbalance, x.Imbalance, x.Bound)
		}
	}
	if n > 0 && (math.Abs(p.Report.Mean-sum/n) > 1e-9 || math.Abs(p.Report.Max-most) > 1e-9 || math.Abs(p.Report.Bound-bound/n) > 1e-9) {
		t.Errorf("mean %v max %v bound %v, reported %v %v %v", sum/n, most, bound/n, p.Report.Mean, p.Report.Max, p.Report.Bound)
	}
}

// rows prints a matrix as JSON.
func rows[T any](m T) string { return strings.ReplaceAll(fmt.Sprint(m), " ", ",") }

// skewed are loads without a random source.
func skewed(layers, experts int) [][]float64 {
	out := make([][]float64, layers)
	for l := range out {
		out[l] = make([]float64, experts)
		for e := range out[l] {
			out[l][e] = math.Round(1e6 / float64(1+(e*7+l*13)%experts))
		}
	}
	return out
}

func TestPlanContract(t *testing.T) {
	loads := skewed(5, 32)
	for _, c := range []struct {
		name, fields string
		gpus         int
	}{
		{"even slots", `"num_replicas":40,"num_gpus":8`, 8},
		{"uneven slots", `"num_replicas":43,"num_gpus":8`, 8},
		{"nodes", `"num_replicas":40,"num_gpus":8,"num_nodes":2,"locality":"none"`, 8},
		{"groups", `"num_replicas":40,"num_gpus":8,"num_nodes":2,"num_groups":4`, 8},
		{"no groups for these nodes", `"num_replicas":42,"num_gpus":6,"num_nodes":3,"num_groups":4,"locality":"auto"`, 6},
		{"one GPU", `"num_replicas":32,"num_gpus":1`, 1},
		{"integers written as numbers", `"num_replicas":4e1,"num_gpus":8.0`, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := call(t, `{`+c.fields+`,"loads":`+rows(loads)+`,"version":1}`, "plan").want(t, exitDone)
			p := decode[planned](t, a.stdout)
			check(t, p, loads, c.gpus)
			if (p.GPUSlots != nil) != (c.name == "uneven slots") {
				t.Errorf("gpu_slots %v", p.GPUSlots)
			}
			if p.Policy != "optimal" {
				t.Errorf("policy %q", p.Policy)
			}
			if p.Report.Moves != 0 || *p.Report.Bytes != 0 {
				t.Error("moves without previous")
			}
		})
	}
}

func TestPlanWindows(t *testing.T) {
	a := `[[4,3,2,1],[1,0,0,5]]`
	b := `[[0,3,2,9],[1,0,7,5]]`
	p := decode[planned](t, call(t, `{"version":1,"num_replicas":6,"num_gpus":2,"loads":[`+a+`,`+b+`]}`, "plan").want(t, exitDone).stdout)
	checkWindows(t, p, [][][]float64{{{4, 3, 2, 1}, {1, 0, 0, 5}}, {{0, 3, 2, 9}, {1, 0, 7, 5}}}, 2)
	p = decode[planned](t, call(t, `{"version":1,"num_replicas":6,"num_gpus":2,"loads":[`+a+`,`+b+`]}`, "plan", "--windows", "1").want(t, exitDone).stdout)
	check(t, p, [][]float64{{0, 3, 2, 9}, {1, 0, 7, 5}}, 2)
}

func TestPlanDeadGPU(t *testing.T) {
	a := call(t, `{"version":1,"loads":[[4,3,2,1],[1,1,1,9]],"num_replicas":8,"num_gpus":4,"gpu_speed":[1,0,2,1]}`, "plan").want(t, exitDone)
	for l, row := range decode[planned](t, a.stdout).PhysicalToLogical {
		for s, e := range row {
			if (e < 0) != (s/2 == 1) {
				t.Errorf("layer %d: expert %d in slot %d", l, e, s)
			}
		}
	}
}

func TestPlanStatistics(t *testing.T) {
	at := write(t, "stats.json", `{"logical_count":[[[4,3,2,1],[0,0,0,0]],[[1,1,1,1],[0,0,0,0]]]}`)
	a := call(t, "", "plan", at, "--gpus", "2", "--replicas", "6").want(t, exitDone)
	checkWindows(t, decode[planned](t, a.stdout), [][][]float64{{{4, 3, 2, 1}, {0, 0, 0, 0}}, {{1, 1, 1, 1}, {0, 0, 0, 0}}}, 2)
	a = call(t, `[[4,3,2,1]]`, "plan", "--gpus", "2", "--replicas", "6").want(t, exitDone)
	check(t, decode[planned](t, a.stdout), [][]float64{{4, 3, 2, 1}}, 2)
	if a := call(t, "", "plan", at, "--gpus", "2").want(t, exitFailed); !strings.Contains(a.stderr, "--replicas") {
		t.Error(a.stderr)
	}
	if a := call(t, `[[4,3,2,1]]`, "plan").want(t, exitFailed); !strings.Contains(a.stderr, "--gpus") {
		t.Error(a.stderr)
	}
	call(t, `[[4,-3,2,1]]`, "plan").want(t, exitFailed)
}

func TestPlanFlagsOverride(t *testing.T) {
	p := decode[planned](t, call(t, small, "plan", "--gpus", "4", "--replicas", "8").want(t, exitDone).stdout)
	check(t, p, smallLoads, 4)
	if len(p.PhysicalToLogical[0]) != 8 {
		t.Error("--replicas was ignored")
	}
}

func TestPlanGzip(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte(small))
	w.Close()
	check(t, decode[planned](t, call(t, z.String(), "plan", "-").want(t, exitDone).stdout), smallLoads, 2)
	check(t, decode[planned](t, call(t, "", "plan", write(t, "p.json.gz", z.String())).want(t, exitDone).stdout), smallLoads, 2)
	call(t, z.String()[:20], "plan", "-").want(t, exitFailed)
	check(t, decode[planned](t, call(t, "\xef\xbb\xbf \n"+small+"\n", "plan", "-").want(t, exitDone).stdout), smallLoads, 2)
}

// TestPlanExample: nothing at all as standard input plans the example.
func TestPlanExample(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"plan"}, nil, &out, &errs); code != exitDone {
		t.Fatal(errs.String())
	}
	p := decode[planned](t, out.String())
	check(t, p, workload.Experts(placement.DeepSeekV3(), 1), 32)
	q := decode[planned](t, call(t, "", "plan", "--example", "--workers", "3").want(t, exitDone).stdout)
	if rows(p.PhysicalToLogical) != rows(q.PhysicalToLogical) {
		t.Error("the plan depends on the workers")
	}
}

// TestPlanStopped: whoever ends the search gets the best plan so far.
func TestPlanStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"plan", "--example", "--locality", "none"}, nil, &out, &errs); code != exitDone {
		t.Fatal(errs.String())
	}
	check(t, decode[planned](t, out.String()), workload.Experts(placement.DeepSeekV3(), 1), 32)
	call(t, "", "plan", "--example", "--timeout", "1ms").want(t, exitDone)
}

func TestPlanFormat(t *testing.T) {
	want := decode[planned](t, call(t, small, "plan").want(t, exitDone).stdout).PhysicalToLogical
	for _, f := range []string{"sglang", "moelb"} {
		a := call(t, small, "plan", "--format", f).want(t, exitDone)
		p, err := formats.DecodePlacement(strings.NewReader(a.stdout), 2)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		if rows(p.PhysicalToLogical) != rows(want) {
			t.Errorf("%s: %v, want %v", f, p.PhysicalToLogical, want)
		}
	}
	a := call(t, small, "plan", "--format", "tensorrt-llm", "--first-layer", "3").want(t, exitDone)
	if !strings.Contains(a.stdout, "num_slots: 6") || !strings.Contains(a.stdout, "  5: [") {
		t.Errorf("%s", a.stdout)
	}
	out := filepath.Join(t.TempDir(), "map.json")
	a = call(t, small, "plan", "--format", "sglang", "--out", out, "--json").want(t, exitDone)
	check(t, decode[planned](t, a.stdout), smallLoads, 2)
	if b, err := os.ReadFile(out); err != nil || strings.Contains(string(b), "report") {
		t.Error("the engine's file is not in --out", err)
	}
}

var changing = regexp.MustCompile(`Planned in [0-9.e+]+ (µs|ms|s)`)

func TestPlanTable(t *testing.T) {
	problem := `{"version":1,"loads":[[600,560,120,120,20,10,10,10],[5,5,5,5,5,5,5,5],[0,0,0,0,0,0,0,0]],"num_replicas":16,"num_gpus":8,"num_nodes":2,"locality":"none"`
	a := call(t, problem+`}`, "plan", "--table").want(t, exitDone)
	golden(t, "plan.txt", changing.ReplaceAllString(a.stdout, "Planned in 1 ms"))
	a = call(t, problem+`,"previous":{"physical_to_logical_map":[[0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7],[0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7],[0,1,2,3,4,5,6,7,0,1,2,3,4,5,6,7]]}}`, "plan", "--table", "--model", "deepseek-v3").want(t, exitDone)
	for _, part := range []string{"previous", "moves (", "of weights as deepseek-v3"} {
		if !strings.Contains(a.stdout, part) {
			t.Errorf("%q is missing in\n%s", part, a.stdout)
		}
	}
}

func TestPlanPage(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "plan.html")
	call(t, "", "plan", "--example", "--html", at).want(t, exitDone)
	b, err := os.ReadFile(at)
	if err != nil {
		t.Fatal(err)
	}
	page := string(b)
	if len(b) > 1<<20 {
		t.Errorf("%d bytes", len(b))
	}
	for _, part := range []string{"<!doctype html>", "const D = {", `"after":[[`, "Proved lower bound"} {
		if !strings.Contains(page, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if external := regexp.MustCompile(`(?i)(src|href)\s*=|url\(|@import|https?:`).FindString(page); external != "" {
		t.Errorf("the page wants %q", external)
	}
	// A name that would be markup.
	at2 := filepath.Join(dir, "<b>&.json")
	if err := os.WriteFile(at2, []byte(small), 0o644); err != nil {
		t.Fatal(err)
	}
	call(t, "", "plan", at2, "--html", at).want(t, exitDone)
	if b, _ := os.ReadFile(at); strings.Contains(string(b), "<b>&") || !strings.Contains(string(b), "&lt;b&gt;&amp;.json") {
		t.Error("the source's name is not escaped")
	}
	// Many GPUs are drawn several to a cell.
	call(t, `{"version":1,"loads":[`+strings.TrimSuffix(strings.Repeat(rows(skewed(1, 1500)[0])+",", 60), ",")+`],"num_replicas":3000,"num_gpus":3000}`, "plan", "--html", at, "--timeout", "1ms").want(t, exitDone)
	if info, err := os.Stat(at); err != nil || info.Size() > 1<<20 {
		t.Error(info.Size(), err)
	}
}
