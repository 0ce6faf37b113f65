package main

import (
	"context"
	"strings"
	"testing"

	"github.com/moelb/moelb/eplb"
)

// TestLocalityPrice: what keeping groups on their nodes costs is told in the
// report, in the table and on the page.
func TestLocalityPrice(t *testing.T) {
	f := fields{version: 1, loads: nil, replicas: 10, groups: 4, nodes: 2, gpus: 2, maxMoves: -1, locality: "none"}
	f.loads = append(f.loads, skewed(2, 8), skewed(2, 8))
	p, err := f.build()
	if err != nil {
		t.Fatal(err)
	}
	s, err := solve(context.Background(), p, "none", &copyFlags{})
	if err != nil {
		t.Fatal(err)
	}
	for l := range s.result.Layers {
		s.result.Layers[l] = eplb.Layer{Imbalance: 1.5, LowerBound: 1.25}
	}
	s.result.Locality = &eplb.LocalityPrice{Home: [][]int{{0, 1, 0, 1}, {1, 1, 0, 0}}, FreeImbalance: []float64{1.2, 1.2}, OffNodeReplicas: []int{0, 2}, OffNodeShare: []float64{0, .1}}
	b, err := s.json()
	if err != nil {
		t.Fatal(err)
	}
	k := decode[struct {
		Report struct {
			Locality struct {
				Home     [][]int
				Free     float64   `json:"free_imbalance_mean"`
				Replicas []int     `json:"off_node_replicas"`
				Share    []float64 `json:"off_node_share"`
				Mean     float64   `json:"off_node_share_mean"`
			}
		}
	}](t, string(b)).Report.Locality
	if rows(k.Home) != "[[0,1,0,1],[1,1,0,0]]" || k.Free != 1.2 || rows(k.Replicas) != "[0,2]" || rows(k.Share) != "[0,0.1]" || k.Mean != .05 {
		t.Errorf("%+v", k)
	}
	table, err := s.table()
	if err != nil {
		t.Fatal(err)
	}
	page, err := s.page()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"not kept on nodes", "1.2000", "costs 25.0%", "5.0% of the load"} {
		if !strings.Contains(string(table), part) {
			t.Errorf("the table lacks %q:\n%s", part, table)
		}
	}
	for _, part := range []string{"Price of locality", "25.0%", `"free":[1.2,1.2]`} {
		if !strings.Contains(string(page), part) {
			t.Errorf("the page lacks %q", part)
		}
	}
}
