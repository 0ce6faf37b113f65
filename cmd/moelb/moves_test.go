package main

import (
	"fmt"
	"testing"
)

// TestPlanPrevious: the moves are counted anew, bounded, and end at the target.
func TestPlanPrevious(t *testing.T) {
	loads := skewed(3, 16)
	base := decode[planned](t, call(t, `{"version":1,"num_replicas":24,"num_gpus":4,"loads":`+rows(loads)+`}`, "plan").want(t, exitDone).stdout)
	for l := range loads {
		loads[l][0], loads[l][5] = loads[l][5], loads[l][0]
	}
	problem := `{"version":1,"num_replicas":24,"num_gpus":4,"loads":` + rows(loads) + `,"previous":{"physical_to_logical_map":` + rows(base.PhysicalToLogical) + `}`
	p := decode[planned](t, call(t, problem+`}`, "plan", "--model", "deepseek-v3").want(t, exitDone).stdout)
	check(t, p, loads, 4)
	total := 0
	for l, row := range p.PhysicalToLogical {
		n := 0
		for g := range 4 {
			have := map[int]int{}
			for _, e := range base.PhysicalToLogical[l][g*6 : g*6+6] {
				have[e]++
			}
			for _, e := range row[g*6 : g*6+6] {
				if have[e]--; have[e] < 0 {
					n++
				}
			}
		}
		if p.Report.Layers[l].Moves != n {
			t.Errorf("layer %d: %d moves, reported %d", l, n, p.Report.Layers[l].Moves)
		}
		total += n
	}
	if p.Report.Moves != total || *p.Report.Bytes != float64(total)*3*7168*2048 {
		t.Errorf("%d moves, reported %d of %v bytes", total, p.Report.Moves, *p.Report.Bytes)
	}
	if total == 0 {
		t.Fatal("nothing was moved")
	}
	for most := range total + 2 {
		q := decode[planned](t, call(t, fmt.Sprintf(`%s,"max_moves":%d}`, problem, most), "plan", "--model", "deepseek-v3").want(t, exitDone).stdout)
		check(t, q, loads, 4)
		if q.Report.Moves > most || most > total && q.Report.Moves != total {
			t.Errorf("%d moves of %d, %d without a bound", q.Report.Moves, most, total)
		}
	}
	q := decode[planned](t, call(t, problem+`,"target":1.3}`, "plan").want(t, exitDone).stdout)
	if q.Report.Moves >= total || q.Report.Max > 1.3 {
		t.Errorf("%d moves to %v", q.Report.Moves, q.Report.Max)
	}
	at := write(t, "previous.json", `{"physical_to_logical_map":`+rows(base.PhysicalToLogical)+`}`)
	loadsAt := write(t, "loads.json", rows(loads))
	q = decode[planned](t, call(t, "", "plan", loadsAt, "--gpus", "4", "--replicas", "24", "--previous", at, "--max-moves", "1000", "--target", "1.1").want(t, exitDone).stdout)
	if q.Report.Moves > p.Report.Moves {
		t.Errorf("%d moves from a file, %d from the problem", q.Report.Moves, p.Report.Moves)
	}
}

// TestPlanMovedBytesUnknown: no figure is made up for a model nobody named.
func TestPlanMovedBytesUnknown(t *testing.T) {
	a := call(t, `{"version":1,"loads":[[4,3,2,1]],"num_replicas":4,"num_gpus":2,"previous":{"physical_to_logical_map":[[0,1,2,3]]}}`, "plan").want(t, exitDone)
	if p := decode[planned](t, a.stdout); p.Report.Moves > 0 && p.Report.Bytes != nil {
		t.Errorf("%d moves are said to be %v bytes", p.Report.Moves, *p.Report.Bytes)
	}
}

// TestPlanMustMove: a bound on the moves does not keep experts from coming back
// to life, and GPUs may be more or fewer than before.
func TestPlanMustMove(t *testing.T) {
	const loads = `"version":1,"loads":[[5,4,3,2]],"max_moves":0`
	for _, c := range []struct {
		name, in     string
		gpus, wanted int
	}{
		{"a dead GPU", `{` + loads + `,"num_replicas":8,"num_gpus":4,"gpu_speed":[1,0,1,1],"previous":{"physical_to_logical_map":[[0,1,2,3,0,1,0,1]]}}`, 4, 2},
		{"fewer GPUs", `{` + loads + `,"num_replicas":6,"num_gpus":3,"previous":{"num_gpus":4,"physical_to_logical_map":[[0,1,0,1,0,1,2,3]]}}`, 3, 2},
		{"more GPUs", `{` + loads + `,"num_replicas":6,"num_gpus":3,"previous":{"num_gpus":2,"physical_to_logical_map":[[0,1,2,3]]}}`, 3, 2},
	} {
		p := decode[planned](t, call(t, c.in, "plan").want(t, exitDone).stdout)
		if p.Report.Moves != c.wanted {
			t.Errorf("%s: %d moves, want %d: %v", c.name, p.Report.Moves, c.wanted, p.PhysicalToLogical)
		}
	}
}
