package main

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

// scheduled is moelb plan --schedule's answer, read with no help of the
// command's own code.
type scheduled struct {
	planned
	Schedule struct {
		Priced       bool     `json:"priced"`
		Seconds      *float64 `json:"seconds"`
		SecondsBound *float64 `json:"seconds_bound"`
		RoundsBound  int      `json:"rounds_bound"`
		Restore      int      `json:"restore_rounds"`
		Copies       int      `json:"copies"`
		Rounds       []struct {
			Seconds *float64 `json:"seconds"`
			Moves   []struct{ Layer, Expert, From, To int }
		} `json:"rounds"`
	} `json:"schedule"`
	Decision *struct {
		Move      bool     `json:"move"`
		Rounds    int      `json:"rounds"`
		Gain      float64  `json:"gain_seconds_per_step"`
		Cost      float64  `json:"cost_seconds"`
		BreakEven *float64 `json:"break_even_steps"`
		Horizon   float64  `json:"horizon_steps"`
		Reason    string   `json:"reason"`
		Text      string   `json:"text"`
	} `json:"decision"`
}

// execute carries out a schedule on a copy of from and demands that it keeps its
// limits, costs what it says and ends at the plan.
func (p *scheduled) execute(t *testing.T, from [][]int, gpus, nodes, experts, perGPU, rdmaPerGPU int, bytes float64) {
	t.Helper()
	slots := len(from[0]) / gpus
	now := make([][]int, len(from))
	for l := range from {
		now[l] = append([]int(nil), from[l]...)
	}
	total, copies := 0.0, 0
	for i, r := range p.Schedule.Rounds {
		var in, out, rdmaIn, rdmaOut [64]int
		most := [2]int{}
		after := make([][]int, len(now))
		for l := range now {
			after[l] = append([]int(nil), now[l]...)
		}
		for _, m := range r.Moves {
			after[m.Layer][m.To] = m.Expert
			if m.Expert < 0 {
				continue
			}
			to, gpu := m.To/slots, -1
			if m.From >= 0 {
				if gpu = m.From / slots; now[m.Layer][m.From] != m.Expert {
					t.Fatalf("round %d: layer %d, slot %d holds %d, not %d", i, m.Layer, m.From, now[m.Layer][m.From], m.Expert)
				}
			}
			if gpu == to {
				continue
			}
			copies++
			in[to]++
			if gpu >= 0 {
				out[gpu]++
			}
			if gpu < 0 || gpu/(gpus/nodes) != to/(gpus/nodes) {
				rdmaIn[to]++
				if gpu >= 0 {
					rdmaOut[gpu]++
				}
			}
		}
		for g := range gpus {
			if in[g] > perGPU || out[g] > perGPU || rdmaIn[g] > rdmaPerGPU || rdmaOut[g] > rdmaPerGPU {
				t.Fatalf("round %d: GPU %d receives %d (%d over RDMA), sends %d (%d)", i, g, in[g], rdmaIn[g], out[g], rdmaOut[g])
			}
			most[0] = max(most[0], in[g]-rdmaIn[g], out[g]-rdmaOut[g])
			most[1] = max(most[1], rdmaIn[g], rdmaOut[g])
		}
		seconds := max(float64(most[0])*bytes/160e9, float64(most[1])*bytes/45e9)
		if r.Seconds == nil || math.Abs(*r.Seconds-seconds) > 1e-12 {
			t.Fatalf("round %d: %v seconds, want %v", i, r.Seconds, seconds)
		}
		total += seconds
		now = after
		for l, row := range now {
			lives := make([]bool, experts)
			for _, e := range row {
				if e >= 0 {
					lives[e] = true
				}
			}
			for e, ok := range lives {
				if !ok && i+1 >= p.Schedule.Restore {
					t.Fatalf("after round %d, layer %d: expert %d has no copy", i, l, e)
				}
			}
		}
	}
	if rows(now) != rows(p.PhysicalToLogical) {
		t.Error("the schedule does not end at the plan")
	}
	if copies != p.Schedule.Copies || math.Abs(total-*p.Schedule.Seconds) > 1e-9 || *p.Schedule.SecondsBound > total+1e-12 || p.Schedule.RoundsBound > len(p.Schedule.Rounds) {
		t.Errorf("%d copies in %v s and %d rounds, reported %d in %v (at least %v, %d)", copies, total, len(p.Schedule.Rounds), p.Schedule.Copies, *p.Schedule.Seconds, *p.Schedule.SecondsBound, p.Schedule.RoundsBound)
	}
}

// drifted is a problem that was planned and whose loads then changed.
func drifted(t *testing.T, layers, experts, slots, gpus, nodes int) (problem string, base [][]int) {
	t.Helper()
	loads := skewed(layers, experts)
	shape := fmt.Sprintf(`{"version":1,"num_replicas":%d,"num_gpus":%d,"num_nodes":%d,"locality":"none","loads":`, slots, gpus, nodes)
	base = decode[planned](t, call(t, shape+rows(loads)+`}`, "plan").want(t, exitDone).stdout).PhysicalToLogical
	for l := range loads {
		for e := range loads[l] {
			loads[l][e] = math.Round(loads[l][e] * (1 + float64((e*5+l*3)%7)/7))
		}
	}
	return shape + rows(loads) + `,"previous":{"physical_to_logical_map":` + rows(base) + `}`, base
}

func TestPlanSchedule(t *testing.T) {
	problem, base := drifted(t, 5, 32, 40, 8, 2)
	const bytes = 3 * 7168 * 2048
	for _, c := range []struct {
		flags            []string
		perGPU, overRDMA int
	}{
		{nil, 4, 1},
		{[]string{"--copies-per-gpu", "1", "--rdma-copies-per-gpu", "0", "--layers-at-once", "1"}, 1, 1},
		{[]string{"--copies-per-gpu", "2", "--rdma-copies-per-gpu", "2"}, 2, 2},
	} {
		p := decode[scheduled](t, call(t, problem+`}`, append([]string{"plan", "--schedule", "--model", "deepseek-v3"}, c.flags...)...).want(t, exitDone).stdout)
		if p.Report.Moves == 0 || p.Schedule.Copies < p.Report.Moves || *p.Report.Bytes != float64(p.Report.Moves)*bytes {
			t.Errorf("%d moves, %d copies, %v bytes", p.Report.Moves, p.Schedule.Copies, *p.Report.Bytes)
		}
		p.execute(t, base, 8, 2, 32, c.perGPU, c.overRDMA, bytes)
		if d := p.Decision; !d.Move || d.Rounds < 1 || d.Cost > *p.Schedule.Seconds+1e-12 || math.Abs(*d.BreakEven-d.Cost/d.Gain) > 1e-9 || !strings.HasPrefix(d.Text, "move ") {
			t.Errorf("decision %+v", d)
		}
	}
	// A GPU that died is not read, and what lived only there is brought back.
	p := decode[scheduled](t, call(t, problem+`,"gpu_speed":[1,1,1,0,1,1,1,1],"max_moves":0}`, "plan", "--schedule", "--model", "deepseek-v3", "--horizon", "0").want(t, exitDone).stdout)
	p.execute(t, base, 8, 2, 32, 4, 1, bytes)
	for _, r := range p.Schedule.Rounds {
		for _, m := range r.Moves {
			if m.From >= 0 && m.From/5 == 3 || m.Expert >= 0 && m.To/5 == 3 {
				t.Errorf("%+v takes part though its GPU is dead", m)
			}
		}
	}
	if p.Schedule.Restore == 0 || !p.Decision.Move || p.Decision.Rounds < p.Schedule.Restore {
		t.Errorf("%d rounds restore experts, decision %+v", p.Schedule.Restore, p.Decision)
	}
}

// TestPlanNotWorthMoving: a short horizon, said plainly everywhere.
func TestPlanNotWorthMoving(t *testing.T) {
	problem, _ := drifted(t, 5, 32, 40, 8, 2)
	args := []string{"plan", "--schedule", "--model", "deepseek-v3", "--horizon", "1", "--step-seconds", "0.001"}
	p := decode[scheduled](t, call(t, problem+`}`, args...).want(t, exitDone).stdout)
	if d := p.Decision; d.Move || d.Rounds != 0 || d.Horizon != 1 || *d.BreakEven < 1 || !strings.HasPrefix(d.Text, "not worth moving: ") {
		t.Errorf("decision %+v", d)
	}
	table := call(t, problem+`}`, append(args, "--table")...).want(t, exitDone).stdout
	for _, part := range []string{" moves (", "Copied in ", "no schedule has fewer than", "Not worth moving: it would not pay within the horizon"} {
		if !strings.Contains(table, part) {
			t.Errorf("%q is missing in\n%s", part, table)
		}
	}
	// An hour of prefill at leisure pays.
	p = decode[scheduled](t, call(t, problem+`}`, "plan", "--schedule", "--model", "deepseek-v3", "--phase", "prefill", "--horizon", "1700").want(t, exitDone).stdout)
	if d := p.Decision; !d.Move || d.Rounds != len(p.Schedule.Rounds) {
		t.Errorf("decision %+v", d)
	}
}

// TestPlanScheduleUnpriced: without an expert's size there are no seconds and no
// decision, unless copying costs nothing.
func TestPlanScheduleUnpriced(t *testing.T) {
	problem, _ := drifted(t, 2, 32, 40, 8, 2)
	p := decode[scheduled](t, call(t, problem+`}`, "plan", "--schedule").want(t, exitDone).stdout)
	if p.Schedule.Priced || *p.Schedule.Seconds != 0 || p.Decision != nil || p.Report.Bytes != nil || len(p.Schedule.Rounds) == 0 {
		t.Errorf("%v seconds, decision %+v", *p.Schedule.Seconds, p.Decision)
	}
	if a := call(t, problem+`}`, "plan", "--schedule", "--table").want(t, exitDone); !strings.Contains(a.stdout, "--expert-bytes") {
		t.Error(a.stdout)
	}
	if p := decode[scheduled](t, call(t, problem+`}`, "plan", "--schedule", "--hidden", "1").want(t, exitDone).stdout); p.Decision == nil || !p.Decision.Move {
		t.Errorf("decision %+v", p.Decision)
	}
	p = decode[scheduled](t, call(t, problem+`}`, "plan", "--schedule", "--expert-bytes", "1000").want(t, exitDone).stdout)
	if p.Schedule.Seconds == nil || *p.Report.Bytes != float64(p.Report.Moves)*1000 {
		t.Errorf("%v seconds, %v bytes", p.Schedule.Seconds, *p.Report.Bytes)
	}
}

func TestPlanScheduleHostile(t *testing.T) {
	problem, base := drifted(t, 2, 32, 40, 8, 2)
	call(t, small, "plan", "--schedule").want(t, exitFailed)
	// Fewer GPUs: those that leave are read, and end empty.
	few := strings.NewReplacer(`"num_gpus":8`, `"num_gpus":4`, `"num_replicas":40`, `"num_replicas":40`).Replace(problem[:strings.Index(problem, `,"previous"`)])
	p := decode[scheduled](t, call(t, few+`,"previous":{"num_gpus":8,"physical_to_logical_map":`+rows(base)+`}}`, "plan", "--schedule", "--model", "none", "--expert-bytes", "1000").want(t, exitDone).stdout)
	if len(p.Schedule.Rounds) == 0 || p.Decision == nil || !p.Decision.Move {
		t.Errorf("%+v", p.Decision)
	}
	for _, flag := range []string{"--nvlink=0", "--rdma=-1", "--rdma=NaN", "--rdma=Inf", "--copies-per-gpu=0", "--rdma-copies-per-gpu=-1", "--layers-at-once=-1", "--peers-per-gpu=-1", "--staged-bytes=-1", "--outside=-1", "--outside=NaN", "--expert-bytes=-1", "--expert-bytes=99999999999999", "--phase=both", "--step-seconds=-1", "--step-seconds=NaN", "--horizon=-1", "--hidden=2", "--margin=-1"} {
		call(t, problem+`}`, "plan", "--schedule", flag).want(t, exitUsage)
	}
}
