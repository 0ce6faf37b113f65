package formats

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement/formats/internal/guard"
)

func TestPlacements(t *testing.T) {
	const ascend = `{"moe_layer_count":1,"layer_list":[{"layer_id":0,"device_count":2,"device_list":[{"device_id":0,"device_expert":[7,2,0,3,5]},{"device_id":1,"device_expert":[6,1,4,7,2]}]}]}`
	const want = "[[7 2 0 3 5 6 1 4 7 2]]"
	for _, c := range []struct {
		name, in string
		gpus     int
		want     string
	}{
		{"vllm-ascend", ascend, 0, want},
		{"sglang", `{"physical_to_logical_map": [[7,2,0,3,5,6,1,4,7,2]]}`, 2, want},
		{"plan output", `{"version":1,"policy":"optimal","physical_to_logical_map":[[7,2,0,3,5,6,1,4,7,2]],"logical_count":[[1,1,2,1,1,1,1,2]],"report":{"layers":[{"status":"optimal"}]}}`, 2, want},
		{"plan output, uneven", `{"version":1,"gpu_slots":[1,2],"physical_to_logical_map":[[1,0,1]]}`, 0, "[[1 0 1]]"},
		{"tensorrt-llm", "# a comment\n---\nnum_slots: 4\ninitial_global_assignments:\n  4: [1, 0,\n      2, 0]  # over two lines\n  3:\n  - 0\n  - 1\n  - 2\n  - 0\nlayer_updates_per_iter: 0\n", 2, "[[0 1 2 0] [1 0 2 0]]"},
		{"omni json", `{"devices":2,"moe_layers":2,"experts":3,"slots_per_layer":[4,3],"device_experts":[[[0,2],[1,2]],[[1],[2,0]]]}`, 0, "[[0 2 1 2] [1 -1 2 0]]"},
		{"omni array", `[[[1,0,1],[0,1,0]],[[0,1,1],[1,0,1]]]`, 0, "[[0 2 1 2] [1 -1 0 2]]"},
		{"omni npy of floats", string(npyFileOf("<f8", []float64{1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1}, 2, 2, 3)), 0, "[[0 2 1 2] [1 -1 0 2]]"},
		{"vllm-proposed", "[[7,2,0,3,5, 6,1,4,7,2]]", 2, want},
		{"vllm-proposed, two layers", "[[0,1],\n[1,0]]", 2, "[[0 1] [1 0]]"},
		{"fastdeploy", `{"tokens_per_expert_stats_list":[[1,2]],"ep_rank_to_expert_id_list":[[0,1,0,1]],"expert_id_to_ep_rank_array":[[[2,0],[1,3]]],"expert_in_rank_num_list":[[2,2]]}`, 2, "[[0 1 0 1]]"},
	} {
		for _, buffer := range []int{16, 64 << 10} {
			lim := guard.Standard
			lim.Buffer = buffer
			p, err := decodePlacement(strings.NewReader(c.in), c.gpus, &lim)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
			} else if got := fmt.Sprint(p.PhysicalToLogical); got != c.want {
				t.Errorf("%s: %s, want %s", c.name, got, c.want)
			}
		}
	}
	p, err := DecodePlacement(strings.NewReader(`{"ep_rank_to_expert_id_list":[[0,1,0,1]],"expert_id_to_ep_rank_array":[[[2,0],[1,3]]]}`), 2)
	if err != nil || fmt.Sprint(p.LogicalToPhysical()) != "[[[2 0] [1 3]]]" {
		t.Errorf("the order of replicas is lost: %v %v", p.LogicalToPhysical(), err)
	}
}

func TestPlacementsHostile(t *testing.T) {
	for _, c := range []struct {
		name, in string
		gpus     int
		want     string
	}{
		{"nothing", "", 0, "the input is empty"},
		{"one list for all layers", "[0,1,2]", 1, "one list for all layers: a list a layer is expected"},
		{"lists and GPUs unknown", "[[0,1]]", 0, "num_gpus: format vllm-proposed does not say"},
		{"lists of other lengths", "[[0,1],[1]]", 1, "physical_to_logical_map: layer 1"},
		{"a list without an expert", "[[0,2,2]]", 1, "layer 0: expert 1 has no replica"},
		{"counts", "[[10,0,3]]", 1, "the largest of a row of 3 numbers is 10: these are statistics, not a placement"},
		{"lists cut short", "[[0,1],", 1, "line 1, column 8"},
		{"a list after the end", "[[0,1]][", 1, "the end of the input"},
		{"sglang without GPUs", `{"physical_to_logical_map":[[0]]}`, 0, "num_gpus: format sglang does not say"},
		{"negative GPUs", `{"physical_to_logical_map":[[0]]}`, -1, "num_gpus: -1"},
		{"GPUs that do not divide", `{"physical_to_logical_map":[[0,1,0]]}`, 2, "3 slots cannot be shared evenly by 2 GPUs"},
		{"sglang with another key", `{"physical_to_logical_map":[[0]],"logical_cuont":1}`, 1, `"logical_cuont": beside physical_to_logical_map`},
		{"half an expert", `{"physical_to_logical_map":[[0,0.5]]}`, 1, "layer 0, index 1: 0.5 is not a whole number"},
		{"a huge expert", `{"physical_to_logical_map":[[0,1e300]]}`, 1, "layer 0, index 1: 1e+300 is not a whole number"},
		{"expert beyond the limit", `{"physical_to_logical_map":[[0,70000]]}`, 1, "num_experts: 70001"},
		{"expert -2", `{"physical_to_logical_map":[[0,-2]]}`, 1, "layer 0, index 1: expert -2"},
		{"expert missing", `{"physical_to_logical_map":[[0,2]]}`, 1, "layer 0: expert 1 has no replica"},
		{"null", `{"physical_to_logical_map":[[0,null]]}`, 1, "layer 0, index 1: null"},
		{"null row", `{"physical_to_logical_map":[null]}`, 1, "layer 0: expected '[', found 'n'"},
		{"empty", `{"physical_to_logical_map":[]}`, 1, "no layers"},
		{"empty row", `{"physical_to_logical_map":[[]]}`, 1, "no slots"},
		{"ragged", `{"physical_to_logical_map":[[0,1],[1]]}`, 1, "layer 1: 1 slots, but layer 0 has 2"},
		{"version 2", `{"version":2,"physical_to_logical_map":[[0]]}`, 1, "version: 2"},
		{"wrong counts", `{"version":1,"physical_to_logical_map":[[0]],"logical_count":[[2]]}`, 1, "logical_count: layer 0, index 0: 2"},
		{"wrong other map", `{"version":1,"physical_to_logical_map":[[0]],"logical_to_physical_map":[[[1]]]}`, 1, "logical_to_physical_map: layer 0, index 0: slot 1"},
		{"other GPUs", `{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,0]]}`, 1, "num_gpus: the file says 2, but 1 are asked for"},
		{"statistics", `{"logical_count":[[1]]}`, 1, "makes this statistics"},
		{"two formats", `{"physical_to_logical_map":[[0]],"device_experts":[[[0]]]}`, 1, "device_experts: beside physical_to_logical_map"},
		{"ascend: wrong layer", `{"moe_layer_count":1,"layer_list":[{"layer_id":1,"device_list":[{"device_expert":[0]}]}]}`, 0, "layer_id: layer 0: 1 stands where 0"},
		{"ascend: wrong device", `{"layer_list":[{"device_list":[{"device_id":3,"device_expert":[0]}]}]}`, 0, "device_id: layer 0, index 0: 3 stands where 0"},
		{"ascend: wrong count", `{"moe_layer_count":2,"layer_list":[{"device_list":[{"device_expert":[0]}]}]}`, 0, "moe_layer_count: 2, but layer_list has 1"},
		{"ascend: wrong devices", `{"layer_list":[{"device_count":2,"device_list":[{"device_expert":[0]}]}]}`, 0, "device_count: layer 0: 2, but device_list has 1"},
		{"ascend: no layers", `{"layer_list":[]}`, 0, "no layers"},
		{"ascend: no experts", `{"layer_list":[{"device_list":[{}]}]}`, 0, "device_expert: layer 0, index 0: missing"},
		{"ascend: unknown", `{"layer_list":[{"x":1}]}`, 0, `"x": layer 0: not a field`},
		{"ascend: expert missing", `{"layer_list":[{"device_list":[{"device_expert":[0,2]}]}]}`, 0, "device_list: layer 0: expert 1 has no replica"},
		{"ascend: uneven layers", `{"layer_list":[{"device_list":[{"device_expert":[0]}]},{"device_list":[{"device_expert":[0,0]}]}]}`, 0, "device_list: layer 1, index 0: 2 experts, but in layer 0"},
		{"omni: wrong slots", `{"slots_per_layer":[2],"device_experts":[[[0]]]}`, 0, "slots_per_layer: layer 0: 2, but device_experts fills 1"},
		{"omni: empty", `{"device_experts":[[[]]]}`, 0, "no experts"},
		{"omni: no devices", `{"device_experts":[[]]}`, 0, "no experts"},
		{"omni: 2", `[[[1,2]]]`, 0, "device 0: layer 0, index 1: 2 is neither 0 nor 1"},
		{"omni: 2-D npy", string(npyFileOf("<i4", []int32{1}, 1, 1)), 0, "is [device][layer][expert]"},
		{"fastdeploy: other slots", `{"ep_rank_to_expert_id_list":[[0]],"expert_id_to_ep_rank_array":[[[5]]]}`, 1, "expert_id_to_ep_rank_array: layer 0, index 0"},
		{"fastdeploy: other counts", `{"ep_rank_to_expert_id_list":[[0]],"expert_in_rank_num_list":[[5]]}`, 1, "expert_in_rank_num_list: layer 0, index 0"},
		{"yaml: anchor", "initial_global_assignments: &a\n", 1, "line 1: initial_global_assignments: one line a layer"},
		{"yaml: alias", "initial_global_assignments:\n  3: *a\n", 1, "line 2: layer 3: '[' is expected"},
		{"yaml: tag", "initial_global_assignments:\n  3: !!python/object:os.system [0]\n", 1, "line 2: layer 3: '[' is expected"},
		{"yaml: string", "initial_global_assignments:\n  3: [0, \"1\"]\n", 1, "line 2"},
		{"yaml: unknown key", "num_slots: 1\nslots: 2\n", 1, `line 2: "slots" is not a key`},
		{"yaml: key twice", "num_slots: 1\nnum_slots: 1\n", 1, `line 2: the key "num_slots" stands there twice`},
		{"yaml: layer twice", "initial_global_assignments:\n  3: [0]\n  3: [0]\n", 1, "line 3: layer 3 stands there twice"},
		{"yaml: other slots", "num_slots: 2\ninitial_global_assignments:\n  3: [0]\n", 1, "layer 3: 1 slots, but num_slots is 2"},
		{"yaml: no assignments", "num_slots: 2\n", 1, "YAML without initial_global_assignments"},
		{"yaml: no layers", "initial_global_assignments:\n", 1, "no layers"},
		{"yaml: open list", "initial_global_assignments:\n  3: [0, 1\n", 1, "layer 3: the list does not end"},
		{"yaml: two commas", "initial_global_assignments:\n  3: [0,, 1]\n", 1, "line 2: layer 3, index 1: a comma"},
		{"yaml: no comma", "initial_global_assignments:\n  3: [0 1]\n", 1, "line 2: layer 3, index 1: a comma"},
		{"yaml: after the list", "initial_global_assignments:\n  3: [0] 1\n", 1, "after the list"},
		{"yaml: brackets", "initial_global_assignments:\n  3: " + strings.Repeat("[", 1<<20) + "\n", 1, "line 2"},
		{"yaml: missing expert", "initial_global_assignments:\n  3: [0]\n  7: [0]\n  5: [1]\n", 1, "layer 3: expert 1 has no replica"},
		{"yaml: negative slots", "num_slots: -2\n", 1, "num_slots -2"},
		{"yaml: tab", "initial_global_assignments:\n\t3: [0]\n", 1, "a tab in the indent"},
		{"yaml: empty lines", "num_slots: 1" + strings.Repeat("\n", 1<<22+2), 1, "more than 4194304 lines"},
		{"words", "hello", 1, `line 1: "key: value" is expected`},
		{"zip", "PK\x03\x04", 1, "not a valid zip file"},
	} {
		_, err := DecodePlacement(strings.NewReader(c.in), c.gpus)
		wantError(t, c.name, err, c.want)
	}
}
