package formats

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moelb/moelb/placement"
)

// dataFile is a public file of the data folder, which is not part of the project.
func dataFile(t *testing.T, name string) string {
	t.Helper()
	dir := os.Getenv("MOELB_DATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data")
	}
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Skipf("data absent: %v (MOELB_DATA names the folder)", err)
	}
	return path
}

func TestDataOmni(t *testing.T) {
	for _, c := range []struct {
		name        string
		gpus, slots int
		empty       int
	}{
		{"omni_dsv3_placement_32dev_supersuperrr4.json", 32, 288, 8},
		{"omni_dsv3_placement_64die_320slot_rand0411.json", 64, 320, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := ReadPlacement(dataFile(t, c.name), 0)
			if err != nil {
				t.Fatal(err)
			}
			empty := 0
			for _, row := range p.PhysicalToLogical {
				for _, e := range row {
					if e < 0 {
						empty++
					}
				}
			}
			if p.GPUs != c.gpus || p.Experts != 256 || len(p.PhysicalToLogical) != 58 || p.Slots() != c.slots || p.GPUSlots != nil || empty != c.empty {
				t.Errorf("%d GPUs, %d experts, %d layers, %d slots, %d empty", p.GPUs, p.Experts, len(p.PhysicalToLogical), p.Slots(), empty)
			}
		})
	}
}

func TestDataESFT(t *testing.T) {
	s, err := ReadStats(dataFile(t, "esft_deepseek_v2_lite_expert_counts_steps.jsonl.gz"))
	if err != nil {
		t.Fatal(err)
	}
	m := placement.DeepSeekV2Lite()
	if len(s.Windows) != 48 || len(s.Windows[0]) != m.Layers || s.Windows[0].Experts() != m.Experts || s.Format != "json-lines" {
		t.Fatalf("%s: %d windows of %d layers of %d experts", s.Format, len(s.Windows), len(s.Windows[0]), s.Windows[0].Experts())
	}
	for w, loads := range s.Windows {
		for l, row := range loads {
			sum := 0.0
			for _, v := range row {
				sum += v
			}
			if sum != 3072 {
				t.Errorf("window %d, layer %d: %v assignments, want 512 tokens of 6", w, l, sum)
			}
		}
	}
}
