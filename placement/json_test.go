package placement

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestJSONRoundTrip(t *testing.T) {
	const seed = 6
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 1000 {
		p := random(rng)
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var q Placement
		if err := json.Unmarshal(text, &q); err != nil {
			t.Fatalf("seed %d, case %d: %v in %s", seed, n, err, text)
		}
		if d := cmp.Diff(p.LogicalToPhysical(), q.LogicalToPhysical()); d != "" {
			t.Fatalf("seed %d, case %d:\n%s", seed, n, d)
		}
		p.ReplicaRank, q.ReplicaRank = nil, nil // nil and slot order are the same
		if d := cmp.Diff(p, q); d != "" {
			t.Fatalf("seed %d, case %d:\n%s", seed, n, d)
		}
	}
}

func TestJSONText(t *testing.T) {
	p := Placement{Experts: 2, GPUs: 2, GPUSlots: []int{2, 1}, PhysicalToLogical: [][]int{{1, 0, 1}}, ReplicaRank: [][]int{{1, 0, 0}}}
	const want = `{"version":1,"num_experts":2,"num_gpus":2,"gpu_slots":[2,1],"physical_to_logical_map":[[1,0,1]],"logical_to_physical_map":[[[1,-1],[2,0]]],"logical_count":[[1,2]]}`
	text, err := json.Marshal(&p)
	if err != nil || string(text) != want {
		t.Errorf("%s, %v", text, err)
	}
	if _, err := json.Marshal(Placement{}); err == nil {
		t.Error("an invalid placement was written")
	}
}

func TestJSONHostile(t *testing.T) {
	const start = `{"version":1,"num_experts":2,"num_gpus":1,"physical_to_logical_map":[[0,1,1]]`
	for _, c := range []struct{ name, in, want string }{
		{"nothing", ``, "EOF"},
		{"not an object", `[1]`, "cannot unmarshal array"},
		{"no version", `{"num_experts":1,"num_gpus":1,"physical_to_logical_map":[[0]]}`, "version: 0"},
		{"version 2", `{"version":2}`, "version: 2"},
		{"unknown field", start + `,"num_gpu":1}`, `unknown field "num_gpu"`},
		{"other case", start + `,"GPU_slots":[3]}`, `"GPU_slots" stands twice or is not a field`},
		{"key twice", start + `,"num_gpus":1}`, `"num_gpus" stands twice`},
		{"two values", start + `} {}`, "more than one JSON value"},
		{"fraction", `{"version":1,"num_experts":2,"num_gpus":1,"physical_to_logical_map":[[0,1.5]]}`, "cannot unmarshal number 1.5"},
		{"string", `{"version":1,"num_experts":2,"num_gpus":1,"physical_to_logical_map":[[0,"1"]]}`, "cannot unmarshal string"},
		{"null expert", `{"version":1,"num_experts":2,"num_gpus":1,"physical_to_logical_map":[[null,1]]}`, "null at byte"},
		{"null", `null`, "null at byte 0"},
		{"deep", `{"version":[[[[[[[[`, "unexpected EOF"},
		{"expert too large", `{"version":1,"num_experts":2,"num_gpus":1,"physical_to_logical_map":[[0,1,2]]}`, "layer 0, index 2: expert 2"},
		{"expert too large for an int", `{"version":1,"num_experts":2,"num_gpus":1,"physical_to_logical_map":[[0,99999999999999999999]]}`, "cannot unmarshal number"},
		{"counts of other layers", start + `,"logical_count":[]}`, "logical_count: 0 layers"},
		{"counts of other experts", start + `,"logical_count":[[1]]}`, "logical_count: layer 0: 1 experts"},
		{"other counts", start + `,"logical_count":[[1,1]]}`, "logical_count: layer 0, index 1: 1, but physical_to_logical_map has 2"},
		{"map of other layers", start + `,"logical_to_physical_map":[]}`, "logical_to_physical_map: 0 layers"},
		{"map of other experts", start + `,"logical_to_physical_map":[[[0]]]}`, "layer 0: 1 experts"},
		{"map: slot of another expert", start + `,"logical_to_physical_map":[[[1],[0,2]]]}`, "layer 0, index 0: slot 1 does not agree"},
		{"map: slot twice", start + `,"logical_to_physical_map":[[[0,-1],[1,1]]]}`, "layer 0, index 1: slot 1 does not agree"},
		{"map: slot missing", start + `,"logical_to_physical_map":[[[0],[2]]]}`, "1 slots of physical_to_logical_map are missing"},
		{"map: no such slot", start + `,"logical_to_physical_map":[[[0],[2,7]]]}`, "slot 7"},
		{"map: slot -2", start + `,"logical_to_physical_map":[[[0],[2,-2]]]}`, "slot -2"},
		{"map: a gap", start + `,"logical_to_physical_map":[[[-1,0],[1,2]]]}`, "slot 0 does not agree"},
	} {
		p := Placement{Experts: 77}
		wantError(t, c.name, p.UnmarshalJSON([]byte(c.in)), nil, c.want)
		if p.Experts != 77 || p.PhysicalToLogical != nil {
			t.Errorf("%s: the placement was changed: %+v", c.name, p)
		}
	}
}

func FuzzPlacementJSON(f *testing.F) {
	f.Add([]byte(`{"version":1,"num_experts":2,"num_gpus":2,"gpu_slots":[2,1],"physical_to_logical_map":[[1,0,1]],"logical_to_physical_map":[[[1,-1],[2,0]]],"logical_count":[[1,2]]}`))
	f.Add([]byte(`{"version":1,"num_experts":1,"num_gpus":1,"physical_to_logical_map":[[0,-1]]}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		var p Placement
		if json.Unmarshal(in, &p) != nil {
			return
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		var q Placement
		if err := json.Unmarshal(text, &q); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(p, q) {
			t.Fatalf("%+v became %+v", p, q)
		}
	})
}
