package workload

import (
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/moelb/moelb/placement"
)

// DataDir is the folder of the measured files: the environment's MOELB_DATA,
// else ../shared/data beside the module, where it has them. The error says how to get there.
func DataDir() (string, error) {
	dir := os.Getenv("MOELB_DATA")
	if dir == "" {
		root, err := os.Getwd()
		if err != nil {
			return "", err
		}
		for !exists(filepath.Join(root, "go.mod")) {
			up := filepath.Dir(root)
			if up == root {
				return "", errors.New("no measured data: set MOELB_DATA to its folder")
			}
			root = up
		}
		dir = filepath.Join(root, "..", "shared", "data")
		if !exists(filepath.Join(dir, esftFile)) {
			return "", fmt.Errorf("no measured data at %s: set MOELB_DATA to its folder", dir)
		}
	}
	if !exists(dir) {
		return "", fmt.Errorf("no measured data at %s: set MOELB_DATA to its folder", dir)
	}
	return dir, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// Domain is one kind of text and the loads measured on it, window by window.
type Domain struct {
	Name    string
	Windows []placement.Loads
}

// esftFile is what ESFT reads, of the data folder.
const esftFile = "esft_deepseek_v2_lite_expert_counts_steps.jsonl.gz"

// ESFT reads the measured routing of DeepSeek-V2-Lite in dir: 16 windows of 512
// tokens for each of three domains, 26 layers of 64 experts, in the order of
// the file. Derived from github.com/deepseek-ai/ESFT.
func ESFT(dir string) ([]Domain, error) {
	f, err := os.Open(filepath.Join(dir, esftFile))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", esftFile, err)
	}
	var domains []Domain
	d := json.NewDecoder(z)
	for record := 1; ; record++ {
		var w struct {
			Domain string
			Counts [][]int
		}
		if err := d.Decode(&w); err == io.EOF {
			return domains, nil
		} else if err != nil {
			return nil, fmt.Errorf("%s: record %d: %w", esftFile, record, err)
		}
		loads, err := placement.LoadsOf(w.Counts)
		if err != nil {
			return nil, fmt.Errorf("%s: record %d: %w", esftFile, record, err)
		}
		if n := len(domains); n == 0 || domains[n-1].Name != w.Domain {
			domains = append(domains, Domain{Name: w.Domain})
		}
		last := &domains[len(domains)-1]
		last.Windows = append(last.Windows, loads)
	}
}
