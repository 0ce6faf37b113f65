package main

import (
	"encoding/json"
	"fmt"
	"testing"
)

// Fields and flags of nodes, domains and experts everywhere say the same.
func TestUnitFieldsAndFlags(t *testing.T) {
	const loads = `{"version":1,"loads":[[9,8,7,6,5,4,3,2],[1,1,1,1,1,1,1,1]],"num_replicas":24,"num_gpus":6,"locality":"none"`
	for _, c := range []struct {
		fields string
		flags  []string
	}{
		{`,"gpus_per_node":[3,2,1],"two_nodes":true}`, []string{"--gpus-per-node", "3,2,1", "--two-nodes"}},
		{`,"domains":3,"two_domains":true}`, []string{"--domains", "3", "--two-domains"}},
		{`,"domains":[1,2,3],"two_domains":true,"num_nodes":2,"everywhere":[7]}`, []string{"--domains", "1,2,3", "--two-domains", "--nodes", "2", "--everywhere", "7"}},
		{`,"everywhere":[0,3]}`, []string{"--everywhere", "0, 3"}},
	} {
		var rows [2][][]int
		for i, a := range []answer{
			call(t, loads+c.fields, "plan", "-").want(t, 0),
			call(t, loads+"}", append([]string{"plan", "-"}, c.flags...)...).want(t, 0),
		} {
			var out struct {
				Map [][]int `json:"physical_to_logical_map"`
			}
			if err := json.Unmarshal([]byte(a.stdout), &out); err != nil {
				t.Fatal(err)
			}
			rows[i] = out.Map
		}
		if fmt.Sprint(rows[0]) != fmt.Sprint(rows[1]) {
			t.Errorf("%s gives %v, but %v gives %v", c.fields, rows[0], c.flags, rows[1])
		}
	}
	for flag, bad := range map[string]string{"--gpus-per-node": "3,x", "--domains": "0", "--everywhere": "-1"} {
		call(t, loads+"}", "plan", "-", flag, bad).want(t, exitUsage)
	}
}

// A layer counts for what it sees.
func TestLayerWeights(t *testing.T) {
	const problem = `{"version":1,"loads":[[8,1,1,1],[1,1,1,1]],"num_replicas":4,"num_gpus":4,"layer_weights":[1,3]}`
	var out struct {
		Report struct {
			Plain    float64 `json:"imbalance_mean"`
			Weighted float64 `json:"imbalance_weighted_mean"`
			Layers   []struct{ Imbalance float64 }
		}
	}
	if err := json.Unmarshal([]byte(call(t, problem, "plan", "-").want(t, exitDone).stdout), &out); err != nil {
		t.Fatal(err)
	}
	r := out.Report
	if a, b := r.Layers[0].Imbalance, r.Layers[1].Imbalance; r.Plain != (a+b)/2 || r.Weighted != (a+3*b)/4 || a < 2 {
		t.Errorf("%+v", r)
	}
}
