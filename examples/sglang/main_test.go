package main

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// The recording is generated loads in the form of SGLang's JSON: 3 steps of 4
// layers of 64 experts.
const recorded = "testdata/recorded.json"

func TestRun(t *testing.T) {
	var out, messages bytes.Buffer
	if err := run([]string{"-gpus", "8", "-replicas", "72", recorded}, &out, &messages); err != nil {
		t.Fatal(err)
	}
	var file map[string][][]int // SGLang fails where there is any other key
	if err := json.Unmarshal(out.Bytes(), &file); err != nil || len(file) != 1 || len(file["physical_to_logical_map"]) != 4 {
		t.Fatalf("%v: %d keys, %d layers", err, len(file), len(file["physical_to_logical_map"]))
	}
	p, err := formats.DecodePlacement(&out, 8)
	if err != nil {
		t.Fatal(err)
	}
	stats, err := formats.ReadStats(recorded)
	if err != nil {
		t.Fatal(err)
	}
	for w, loads := range append(slices.Clone(stats.Windows), stats.Sum()) {
		scores, err := p.ScoreLayers(loads, placement.Topology{GPUs: 8})
		if err != nil {
			t.Fatal(err)
		}
		for l, s := range scores {
			if s.Imbalance > 1.2 {
				t.Errorf("window %d, layer %d: imbalance %.3f", w, l, s.Imbalance)
			}
		}
	}
	if n := p.Duplicates(); n != 0 {
		t.Errorf("%d experts are twice on one GPU", n)
	}
	if !strings.Contains(messages.String(), "sglang-json: 3 windows of 4 layers x 64 experts") {
		t.Errorf("said %q", messages.String())
	}
}

func TestMerge(t *testing.T) {
	var windows []placement.Loads
	for i := range 20 {
		windows = append(windows, placement.Loads{{float64(i), 1}})
	}
	merged := merge(windows, 8)
	total, count := 0.0, 0.0
	for _, w := range merged {
		total += w[0][0]
		count += w[0][1]
	}
	if len(merged) != 8 || total != 190 || count != 20 {
		t.Errorf("%d windows with %v tokens of %v windows, want 8 with 190 of 20", len(merged), total, count)
	}
	if len(merge(windows[:3], 8)) != 3 {
		t.Error("few windows are merged")
	}
}

func TestBadInput(t *testing.T) {
	for _, args := range [][]string{{}, {"a", "b"}, {"testdata/none.json"}, {"-gpus", "0", recorded}, {"-replicas", "10", recorded}} {
		var out, messages bytes.Buffer
		if err := run(args, &out, &messages); err == nil || out.Len() > 0 {
			t.Errorf("%q: error %v, %d bytes written", args, err, out.Len())
		}
	}
}
