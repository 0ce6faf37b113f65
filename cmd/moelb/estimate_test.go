package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
)

// Where a placement's tokens go is counted from files, and is what the flags of the
// same name would say.
func TestEstimateFromFiles(t *testing.T) {
	const gpus, experts = 32, 256
	// Tokens choose eight experts in a row; under the trivial placement of 9 slots a
	// GPU these are on one GPU or two.
	routes := "token,L1\n"
	for i := range experts / 8 {
		row := make([]string, 8)
		for k := range row {
			row[k] = fmt.Sprint(8*i + k)
		}
		routes += fmt.Sprintf("%d,%s\n", i, strings.Join(row, " "))
	}
	at := placement.Trivial(1, experts, 288, gpus)
	text, err := json.Marshal(at)
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"--placement", write(t, "plan.json", string(text)), "--routes", write(t, "tokens.csv", routes)}
	type figures struct {
		Tokens  float64 `json:"tokens_per_second_per_node"`
		USD     float64 `json:"usd_per_million_tokens"`
		Hour    float64 `json:"usd_per_gpu_hour"`
		Nodes   float64 `json:"nodes_per_token"`
		GPUs    float64 `json:"gpus_per_token"`
		Copies  float64 `json:"copies_off_node"`
		Experts float64 `json:"imbalance_experts"`
	}
	ask := func(args ...string) (f figures) {
		a := call(t, "", append([]string{"estimate", "--json"}, args...)...).want(t, exitDone)
		if err := json.Unmarshal([]byte(a.stdout), &f); err != nil {
			t.Fatal(err)
		}
		return f
	}
	prefill := []string{"--phase", "prefill", "--overlap", "none"}
	for _, c := range []struct {
		unit []string
		flag string
		read func(figures) float64
	}{
		{append(prefill[:4:4], "--nodes", "4"), "nodes-per-token", func(f figures) float64 { return f.Nodes }},
		{append(prefill[:4:4], "--nodes", "8", "--gpu", "gb200"), "gpus-per-token", func(f figures) float64 { return f.GPUs }},
		{[]string{"--phase", "decode", "--overlap", "none", "--nodes", "4", "--batch", "32", "--kv", "2000"}, "copies-off-node", func(f figures) float64 { return f.Copies }},
	} {
		plain := ask(c.unit...)
		counted := ask(append(c.unit, files...)...)
		x := c.read(counted)
		told := ask(append(c.unit, "--"+c.flag, fmt.Sprint(x), "--imbalance-experts", fmt.Sprint(counted.Experts))...)
		if x == 0 || counted.Tokens != told.Tokens || counted.USD != told.USD || counted.Experts <= 1 {
			t.Errorf("%v: counted %+v, told %+v", c.unit, counted, told)
		}
		even := ask(append(append(c.unit, files...), "--imbalance-experts", "1")...)
		if even.Tokens <= plain.Tokens || even.USD >= plain.USD || even.Experts != 1 {
			t.Errorf("%v: from files %+v, of experts anywhere %+v", c.unit, even, plain)
		}
		if dear := ask(append(c.unit, "--price-gpu-hour", "7")...); dear.Hour != 7 || dear.Tokens != plain.Tokens || dear.USD <= plain.USD {
			t.Errorf("%v: at $7 %+v", c.unit, dear)
		}
	}
	for _, args := range [][]string{files[:2], files[2:], append(files, "--nodes", "5"), append(files, "--model", "qwen3-235b"), append(files, "--nodes-per-token", "2"), append(files, "--gpus-per-token", "2")} {
		if a := call(t, "", append([]string{"estimate", "--phase", "prefill"}, args...)...); a.code == exitDone {
			t.Errorf("%v accepted", args)
		}
	}
}
