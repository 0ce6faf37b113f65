package plan

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/cmd/moelb/internal/copies"
	"github.com/moelb/moelb/cmd/moelb/internal/problem"
	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

// TestLocalityPrice: what keeping groups on their nodes costs is told in the
// report, in the table and on the page.
func TestLocalityPrice(t *testing.T) {
	window := placement.Loads{{8, 7, 6, 5, 4, 3, 2, 1}, {1, 2, 3, 4, 5, 6, 7, 8}}
	p := &problem.Problem{Windows: []placement.Loads{window, window}, Replicas: 10, Groups: 4, Topology: placement.Topology{GPUs: 2, Nodes: 2}}
	p.Options.Locality = eplb.Free
	s, err := solve(context.Background(), p, "none", &copies.Flags{})
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
	var answer struct {
		Report struct {
			Locality struct {
				Home     [][]int
				Free     float64   `json:"free_imbalance_mean"`
				Replicas []int     `json:"off_node_replicas"`
				Share    []float64 `json:"off_node_share"`
				Mean     float64   `json:"off_node_share_mean"`
			}
		}
	}
	if err := json.Unmarshal(b, &answer); err != nil {
		t.Fatal(err)
	}
	k := answer.Report.Locality
	if !reflect.DeepEqual(k.Home, s.result.Locality.Home) || k.Free != 1.2 || !slices.Equal(k.Replicas, []int{0, 2}) || !slices.Equal(k.Share, []float64{0, .1}) || k.Mean != .05 {
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
