package workload

import (
	"os"
	"path/filepath"
	"testing"
)

func TestESFT(t *testing.T) {
	dir, err := DataDir()
	if err != nil {
		t.Skip(err)
	}
	domains, err := ESFT(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(domains) != 3 {
		t.Fatalf("%d domains, want intent, law, translation", len(domains))
	}
	for i, name := range []string{"intent", "law", "translation"} {
		d := domains[i]
		if d.Name != name || len(d.Windows) != 16 {
			t.Errorf("domain %d is %s with %d windows, want %s with 16", i, d.Name, len(d.Windows), name)
		}
		for _, w := range d.Windows {
			if len(w) != 26 || w.Experts() != 64 {
				t.Fatalf("%s: %d layers of %d experts", d.Name, len(w), w.Experts())
			}
			for l, row := range w {
				sum := 0.0
				for _, v := range row {
					sum += v
				}
				if sum != 6*512 {
					t.Errorf("%s: layer %d: %v tokens, want six experts for each of 512", d.Name, l, sum)
				}
			}
		}
	}
}

func TestESFTRefusesWhatIsNoSuchFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := ESFT(dir); err == nil {
		t.Error("no error without the file")
	}
	if err := os.WriteFile(filepath.Join(dir, "esft_deepseek_v2_lite_expert_counts_steps.jsonl.gz"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ESFT(dir); err == nil {
		t.Error("no error for a file that is not gzip")
	}
}
