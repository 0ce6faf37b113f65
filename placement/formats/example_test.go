package formats_test

import (
	"fmt"
	"os"
	"strings"

	"github.com/moelb/moelb/placement/formats"
)

// Statistics that SGLang has recorded, and a placement of vllm-ascend's that is
// written for TensorRT-LLM.
func Example() {
	stats, err := formats.DecodeStats(strings.NewReader(`{"logical_count": [[[3, 1, 0]], [[2, 0, 4]]]}`))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(stats.Format, len(stats.Windows), stats.Sum())

	p, err := formats.DecodePlacement(strings.NewReader(`{"moe_layer_count": 1, "layer_list": [{"layer_id": 0, "device_count": 2,
		"device_list": [{"device_id": 0, "device_expert": [0, 2]}, {"device_id": 1, "device_expert": [1, 0]}]}]}`), 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := formats.EncodePlacement(os.Stdout, formats.TensorRTLLM, &p, formats.EncodeOptions{FirstLayer: 3}); err != nil {
		fmt.Println(err)
	}
	// Output:
	// sglang-json 2 [[5 1 4]]
	// num_slots: 4
	// initial_global_assignments:
	//   3: [0, 2, 1, 0]
	// layer_updates_per_iter: 0
}

// An error names the field, the window, the layer and the index.
func ExampleDecodeStats() {
	_, err := formats.DecodeStats(strings.NewReader(`[[[1, 2]], [[3, -4]]]`))
	fmt.Println(err)
	// Output: loads, window 1: layer 0, index 1: -4 is negative
}
