package main

import (
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

func TestEstimate(t *testing.T) {
	type estimate struct {
		Step    float64 `json:"step_seconds"`
		Node    float64 `json:"tokens_per_second_per_node"`
		Request float64 `json:"tokens_per_second_per_request"`
		Stages  map[string]struct {
			Seconds float64
			Times   int
		}
	}
	ask := func(args ...string) estimate {
		return decode[estimate](t, call(t, "", append([]string{"estimate", "--json"}, args...)...).want(t, exitDone).stdout)
	}
	online := []string{"--phase", "decode", "--gpu", "h800", "--nodes", "18", "--batch", "88", "--kv", "4989"}
	e := ask(online...)
	for _, c := range []struct {
		name              string
		got, want, within float64
	}{
		{"decode", e.Node, 14800, .10}, {"a request", e.Request, 21, .12},
		{"EP72", ask("--phase", "decode", "--gpu", "h100", "--nodes", "9", "--batch", "256", "--kv", "2050").Node, 22282, .10},
		{"prefill", ask("--phase", "prefill", "--tokens", "16384", "--prompt", "4096", "--hit", "0").Node, 62713, .10},
		{"prefill, nothing fitted", ask("--phase", "prefill", "--factors", "tables").Node, 62713, .10},
		{"step", e.Node * e.Step, 88 * 8, 1e-9},
	} {
		if math.Abs(c.got/c.want-1) > c.within {
			t.Errorf("%s: %.1f, want %.1f within %v", c.name, c.got, c.want, c.within)
		}
	}
	if len(e.Stages) < 8 {
		t.Errorf("%d stages", len(e.Stages))
	}
	for _, c := range []struct {
		flag      string
		low, high float64
	}{{"--imbalance-kv", .01, .05}, {"--imbalance-requests", .005, .04}, {"--imbalance-experts", .005, .05}, {"--imbalance-tokens", .005, .04}} {
		if x := 1 - ask(append(online, c.flag, "1.1")...).Node/e.Node; x < c.low || x > c.high {
			t.Errorf("%s 1.1 costs %.1f%%", c.flag, 100*x)
		}
	}
	// What was fitted is said, and only of what was.
	table := call(t, "", append([]string{"estimate"}, online...)...).want(t, exitDone).stdout
	for _, name := range []string{"decode_experts", "decode_comm"} {
		if !regexp.MustCompile(`(?m)^  ` + name + ` .*FITTED`).MatchString(table) {
			t.Errorf("the table does not say that %s was fitted", name)
		}
	}
	if n := strings.Count(table, "FITTED"); n != 2 {
		t.Errorf("%d factors are said to be fitted", n)
	}
	if free := call(t, "", "estimate", "--phase", "decode", "--factors", "tables").want(t, exitDone).stdout; strings.Contains(free, "FITTED") || !strings.Contains(free, "No factor was fitted") {
		t.Errorf("fitted factors are used:\n%s", free)
	}
}

func TestPublishedDay(t *testing.T) {
	type day struct {
		Mean    float64 `json:"nodes_mean"`
		Peak    float64 `json:"nodes_peak"`
		Cost    float64 `json:"cost_usd"`
		Income  float64 `json:"income_usd"`
		Margin  float64 `json:"margin_percent"`
		Prefill float64 `json:"prefill_tokens_per_second_per_node"`
		Decode  float64 `json:"decode_tokens_per_second_per_node"`
		Request float64 `json:"output_tokens_per_second_per_request"`
		Hours   []struct {
			Hour   int
			Nodes  float64
			Cost   float64 `json:"cost_usd"`
			Income float64 `json:"income_usd"`
		}
	}
	d := decode[day](t, call(t, "", "simulate", "--scenario", "deepseek-day", "--json").want(t, exitDone).stdout)
	cost, income, nodes := 0.0, 0.0, 0.0
	for _, h := range d.Hours {
		cost, income, nodes = cost+h.Cost, income+h.Income, nodes+h.Nodes/24
	}
	for _, c := range []struct {
		name              string
		got, want, within float64
	}{
		{"nodes", d.Mean, 226.75, 0}, {"peak", d.Peak, 278, 0}, {"cost", d.Cost, 87072, 0}, {"income", d.Income, 562027, 1e-3}, {"margin", d.Margin, 545, 2e-3},
		{"prefill", d.Prefill, 73700, 5e-3}, {"decode", d.Decode, 14800, 5e-3}, {"hourly cost", cost, d.Cost, 1e-6}, {"hourly income", income, d.Income, 1e-6}, {"hourly nodes", nodes, d.Mean, 1e-6},
	} {
		if math.Abs(c.got/c.want-1) > c.within {
			t.Errorf("%s: %v, want %v within %v", c.name, c.got, c.want, c.within)
		}
	}
	dear := decode[day](t, call(t, "", "simulate", "--scenario", "deepseek-day", "--json", "--price-gpu-hour", "4").want(t, exitDone).stdout)
	if dear.Cost != 2*d.Cost || dear.Income != d.Income {
		t.Errorf("at twice the price the day costs %v", dear.Cost)
	}
}

func TestSimulate(t *testing.T) {
	if testing.Short() {
		t.Skip("short: simulations take seconds, and minutes under the race detector")
	}
	trace := &strings.Builder{}
	for i := range 400 {
		fmt.Fprintf(trace, `{"timestamp": %d, "input_length": %d, "output_length": %d, "hash_ids": [%d, %d, %d]}`+"\n", 20*i, 1100+i%300, 20+i%50, i%7, 100+i%40, 1000+i)
	}
	file := write(t, "trace.jsonl", trace.String())
	html := filepath.Join(t.TempDir(), "page.html")
	args := []string{"simulate", "--trace", file, "--seconds", "10", "--html", html, "--json"}
	a := call(t, "", args...).want(t, exitDone)
	if long.Tests() {
		if b := call(t, "", args...).want(t, exitDone); a.stdout != b.stdout {
			t.Error("a second run differs")
		}
	}
	out := decode[struct {
		Hit      float64
		Rate     float64 `json:"requests_per_second"`
		Policies []struct {
			Label, Prefill, Decode, Experts string
			Tokens                          float64 `json:"tokens_per_second"`
			TTFT50                          float64 `json:"ttft_p50"`
			TTFT99                          float64 `json:"ttft_p99"`
			TPOT50                          float64 `json:"tpot_p50"`
			TPOT99                          float64 `json:"tpot_p99"`
			Idle                            float64
			Unstable                        bool
			Carries                         float64 `json:"carries_requests_per_second"`
			USD                             float64 `json:"usd_per_million_tokens"`
		}
	}](t, a.stdout)
	if len(out.Policies) != 10 || out.Hit <= 0 {
		t.Fatalf("%d policies, %v of the prompts' tokens cached", len(out.Policies), out.Hit)
	}
	for _, p := range out.Policies {
		// A fleet that does not carry the load has no latency, but says what it carries.
		late := p.TTFT50 > 0 && p.TTFT99 >= p.TTFT50 && p.TPOT50 > 0 && p.TPOT99 >= p.TPOT50
		if p.Unstable {
			late = p.TTFT50 == 0 && p.TTFT99 == 0 && p.TPOT50 == 0 && p.TPOT99 == 0 && p.Carries < out.Rate
		}
		if p.Prefill == "" || p.Decode == "" || p.Experts == "" || !(p.Tokens > 0 && late && p.Carries > 0 && p.Idle > 0 && p.Idle < 1 && p.USD > 0) {
			t.Errorf("%+v", p)
		}
	}
	page, err := os.ReadFile(html)
	if err != nil {
		t.Fatal(err)
	}
	if outside := regexp.MustCompile(`(?i)(src|href)\s*=|https?://|@import`).Find(page); outside != nil {
		t.Errorf("the page needs more than itself: %s", outside)
	}
	missing := call(t, "", "simulate", "--trace", filepath.Join(t.TempDir(), "none")).want(t, exitFailed)
	if !strings.Contains(missing.stderr, "none") {
		t.Error(missing.stderr)
	}
}

// TestSimulateAsks: what is assumed is asked for, and what cannot be is refused
// before anything runs.
func TestSimulateAsks(t *testing.T) {
	azure := write(t, "azure.csv", "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:59:59.75,374,44\n")
	mooncake := write(t, "mooncake.jsonl", `{"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}`)
	for _, c := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"--trace", azure}, exitUsage, "--hit"},
		{[]string{"--scenario", "servegen-day"}, exitUsage, "--hit"},
		{[]string{"--trace", mooncake, "--hit", ".5"}, exitUsage, "says itself"},
		{[]string{"--trace", mooncake, "--block-tokens", "16"}, exitFailed, "line 1: hash_ids: 2 for an input of 600 tokens"},
		{[]string{"--trace", mooncake, "--block-tokens", "-1"}, exitUsage, "--block-tokens"},
		{[]string{"--trace", azure, "--hit", "0", "--block-tokens", "16"}, exitUsage, "name no blocks"},
		{[]string{"--block-tokens", "16"}, exitUsage, "--trace"},
		{[]string{"--fail", "9-3"}, exitUsage, "FROM-UNTIL:PHASE:UNIT"},
		{[]string{"--fail", "3-9:decode:0:"}, exitUsage, "FROM-UNTIL:PHASE:UNIT"},
		{[]string{"--fail", "3-9:both:0"}, exitUsage, "FROM-UNTIL:PHASE:UNIT"},
		{[]string{"--fail", "3-9:decode:0:node18"}, exitUsage, "of 18"},
		{[]string{"--fail", "3-9:prefill:0:30-32"}, exitUsage, "of 32"},
		{[]string{"--fail", "3-9:prefill:0", "--scenario", "published-day"}, exitUsage, "--fail does not go with --scenario published-day"},
		{[]string{"--rps", "0"}, exitUsage, "--rps"},
		{[]string{"--rps", "5", "--load", ".5"}, exitUsage, "--rps"},
		{[]string{"--decode-policy", "nobody"}, exitUsage, "known are moelb, "},
		{[]string{"--experts-policy", "moelb"}, exitUsage, "known are optimal, deepseek, none"},
		{[]string{"--prefill-policy", "moelb", "--html", filepath.Join(t.TempDir(), "x.html")}, exitUsage, "--html"},
	} {
		if got := call(t, "", append([]string{"simulate"}, c.args...)...).want(t, c.exit); !strings.Contains(got.stderr, c.want) {
			t.Errorf("%v: %s, want %q", c.args, got.stderr, c.want)
		}
	}
}

// TestSimulateOverload: a fleet that does not carry the load says so and what it
// carries, and no latency.
func TestSimulateOverload(t *testing.T) {
	if testing.Short() {
		t.Skip("short: simulations take seconds")
	}
	args := []string{"simulate", "--seconds", "20", "--experts-policy", "none", "--decode-units", "1", "--prefill-units", "1", "--rps"}
	table := call(t, "", append(args, "900")...).want(t, exitDone).stdout
	if !regexp.MustCompile(`(?m)^  as asked .* unstable  `).MatchString(table) || !strings.Contains(table, "Unstable: fewer than the 900 requests") {
		t.Errorf("900 requests a second on one unit of each are not called unstable:\n%s", table)
	}
	// A node and another GPU die and return: nothing is lost, and what it cost is said.
	table = call(t, "", append(args, "40", "--fail", "12-15:decode:0:node1", "--fail", "14-16:prefill:0:3-4")...).want(t, exitDone).stdout
	if strings.Contains(strings.ToLower(table), "unstable") {
		t.Errorf("40 requests a second on one unit of each are called unstable:\n%s", table)
	}
	if !regexp.MustCompile(`(?m)^  as asked +10 +[1-9]\d* +[1-9]\d*$`).MatchString(table) || !regexp.MustCompile(`as asked: (\d+) requests entered and left, with \d+ prompt tokens, [1-9]\d* of them cached, and \d+ generated; [1-9]\d* tokens were prefilled again`).MatchString(table) {
		t.Errorf("the table does not say what failures cost:\n%s", table)
	}
}

// TestEstimatePublished: the comparison names every system's conditions and source,
// and its figures are those that the model gives.
func TestEstimatePublished(t *testing.T) {
	out := decode[struct {
		Median  float64 `json:"median_error"`
		Worst   float64 `json:"worst_error"`
		Systems []struct {
			Name, Conditions, Source, Standing string
			Published                          float64 `json:"published_tokens_per_second_per_gpu"`
			Estimated                          float64 `json:"estimated_tokens_per_second_per_gpu"`
			Error                              float64
		}
	}](t, call(t, "", "estimate", "--published", "--json").want(t, exitDone).stdout)
	counted := 0
	for _, s := range out.Systems {
		if s.Name == "" || s.Conditions == "" || s.Source == "" || math.Abs(s.Estimated/s.Published-1-s.Error) > 1e-9 {
			t.Errorf("%+v", s)
		}
		if s.Standing == "counts" {
			counted++
			if math.Abs(s.Error) > out.Worst {
				t.Errorf("%s is off by %v, the worst is said to be %v", s.Name, s.Error, out.Worst)
			}
		}
	}
	if counted < 15 || !(out.Median > 0 && out.Median <= .10 && out.Worst <= .25) {
		t.Errorf("%d systems count: median error %v, worst %v", counted, out.Median, out.Worst)
	}
	table := call(t, "", "estimate", "--published").want(t, exitDone).stdout
	for _, s := range out.Systems {
		if !strings.Contains(table, s.Name) || !strings.Contains(table, s.Source) {
			t.Errorf("the table lacks %s", s.Name)
		}
	}
	call(t, "", "estimate", "--published", "--gpu", "h100").want(t, exitUsage)
}

// TestEstimateHardware: models and GPUs by name and from files, and what does not
// fit is an error, in the table and in JSON.
func TestEstimateHardware(t *testing.T) {
	gpu := write(t, "gpu.json", `{"name":"mine","sms":100,"fp8_flops":1e15,"bf16_flops":5e14,"memory_bandwidth":3e12,"memory_bytes":2e11,"nvlink_bandwidth":2e11,"rdma_bandwidth":5e10,"gpus_per_node":8}`)
	model := write(t, "model.json", `{"name":"mine","layers":10,"experts":64,"top_k":4,"hidden":2048,"intermediate":1024,"vocabulary":32000,"heads":16,"kv_heads":4,"head_dim":128}`)
	small := write(t, "small.json", `{"name":"small","sms":100,"fp8_flops":1e15,"bf16_flops":5e14,"memory_bandwidth":3e12,"memory_bytes":2e10,"nvlink_bandwidth":2e11,"rdma_bandwidth":5e10,"gpus_per_node":8}`)
	base := []string{"estimate", "--phase", "decode", "--nodes", "4"}
	for _, args := range [][]string{
		{"--model", "kimi-k2", "--gpu", "gb200", "--nodes", "16"}, {"--model", "gpt-oss-120b", "--gpu", "mi300x"}, {"--model", "deepseek-v3.2", "--kv-bits", "8", "--mtp", "2"},
		{"--model-file", model, "--gpu-file", gpu}, {"--gpu", "b200", "--expert-bits", "4", "--overlap", "none"}, {"--tp", "8", "--gpu", "h200", "--overlap", "single-batch", "--batch", "16"},
	} {
		for _, format := range [][]string{nil, {"--json"}} {
			call(t, "", append(append(base, args...), format...)...).want(t, exitDone)
		}
	}
	for _, c := range []struct {
		args []string
		exit int
		want string
	}{
		{[]string{"--batch", "300"}, exitFailed, "memory: the batch keeps 1496700 tokens"},
		{[]string{"--nodes", "1"}, exitUsage, "do not fit"},
		{[]string{"--model", "gpt-5"}, exitUsage, "known are"},
		{[]string{"--gpu-file", model}, exitFailed, "model.json: gpu"},
		{[]string{"--gpu-file", gpu, "--gpu", "h200"}, exitUsage, "--gpu and --gpu-file"},
		{[]string{"--model-file", model, "--model", "kimi-k2"}, exitUsage, "--model and --model-file"},
		{[]string{"--model-file", "-", "--gpu-file", "-"}, exitUsage, "only one of them"},
		{[]string{"--model-file", "-"}, exitFailed, "standard input: model: a JSON object"},
		{[]string{"--gpu-file", t.TempDir()}, exitFailed, "is a folder"},
		{[]string{"--gpu-file", small}, exitUsage, "do not fit 20 GB"},
		{[]string{"--acceptance", ".5"}, exitUsage, "--mtp"},
		{[]string{"--slice-experts", "--slots", "3"}, exitUsage, "--slots does not go with --slice-experts"},
		{[]string{"--slice-experts", "--tp", "8"}, exitUsage, "all 32 of a decode unit"},
		{[]string{"--model-file", filepath.Join(t.TempDir(), "none")}, exitFailed, "none"},
		{[]string{"--overlap", "much"}, exitUsage, "two-batch"},
		{[]string{"--kv-bits", "4"}, exitUsage, "--kv-bits"},
		{[]string{"--tp", "5"}, exitUsage, "tp"},
	} {
		for _, format := range [][]string{nil, {"--json"}} {
			got := call(t, "", append(append(base, c.args...), format...)...).want(t, c.exit)
			if !strings.Contains(got.stderr, c.want) || got.stdout != "" {
				t.Errorf("%v: %s, want %q", c.args, got.stderr, c.want)
			}
		}
	}
}

// TestEstimateNamesFlags: what follows from a flag is refused by that flag's name.
func TestEstimateNamesFlags(t *testing.T) {
	for _, c := range [][2]string{
		{"--gpus 2147483647", "--gpus: 2147483647: at most 4096 nodes of 8"},
		{"--gpus 32769", "--gpus: 32769: at most"},
		{"--gpus 5", "--gpus: the weights on 5 GPUs"},
		{"--gpus 5 --nodes 1", "--nodes: the weights on 5 GPUs"},
		{"--slice-experts --gpus 5", "--slice-experts: 5 does not divide 5 GPUs and 128 heads"},
		{"--slice-experts --gpus 5 --tp 5", "--tp: 5 does not divide"},
	} {
		got := call(t, "", append([]string{"estimate", "--phase", "decode"}, strings.Fields(c[0])...)...).want(t, exitUsage)
		if !strings.Contains(got.stderr, c[1]) {
			t.Errorf("%s: %s, want %q", c[0], got.stderr, c[1])
		}
	}
}

// TestEstimateDefaults: no nodes are those of the published units, said or not, and a
// model comes from standard input as from a file.
func TestEstimateDefaults(t *testing.T) {
	const model = `{"name":"mine","layers":10,"experts":64,"top_k":4,"hidden":2048,"intermediate":1024,"vocabulary":32000,"heads":16,"kv_heads":4,"head_dim":128}`
	for _, phase := range []string{"prefill", "decode"} {
		nodes := map[string]string{"prefill": "4", "decode": "18"}[phase]
		want := call(t, "", "estimate", "--phase", phase, "--model-file", write(t, "model.json", model), "--nodes", nodes).want(t, exitDone).stdout
		for _, more := range [][]string{nil, {"--nodes", "0"}} {
			if got := call(t, model, append([]string{"estimate", "--phase", phase, "--model-file", "-"}, more...)...).want(t, exitDone).stdout; got != want {
				t.Errorf("%s %v: %s, want %s", phase, more, got, want)
			}
		}
	}
}

// TestSimulateFlags: a flag that would change nothing is refused with what it is for,
// in every mode.
func TestSimulateFlags(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"--scenario deepseek-day --seconds 30", "--seconds does not go with --scenario deepseek-day"},
		{"--scenario deepseek-day --decode-policy moelb", "--decode-policy does not go"},
		{"--scenario deepseek-day --nodes-per-token 2", "--nodes-per-token does not go"},
		{"--scenario published-day --mtp 2", "--mtp does not go with --scenario published-day"},
		{"--scenario published-day --gpu h200", "--gpu does not go"},
		{"--price-hit 1", "--price-hit does not go with a comparison"},
		{"--spread 1", "--spread does not go"},
		{"--data x", "--data: only with --scenario servegen-day"},
		{"--acceptance .5", "--mtp"},
		{"--block-tokens 5", "--block-tokens goes with --trace"},
		{"--slo-ttft 2 --rps 9 --load .5", "--load does not go with --slo-ttft"},
		{"--slo-ttft 2 --rps 9 --html x", "--html does not go"},
		{"--slo-ttft 2 --rps 9 --fail 1-2:decode:0", "--fail does not go"},
		{"--slo-ttft 2 --rps 9 --price-output 3", "--price-output does not go"},
		{"--slo-ttft 2 --rps 9 --gpu h800,h200 --model-file -", "standard input is read once"},
		{"--gpu h200 --gpu-file x", "--gpu and --gpu-file exclude each other"},
	} {
		if got := call(t, "", append([]string{"simulate"}, strings.Fields(c.args)...)...).want(t, exitUsage); !strings.Contains(got.stderr, c.want) {
			t.Errorf("%s: %s, want %q", c.args, got.stderr, c.want)
		}
	}
	for _, flag := range []string{"--phase=decode", "--factors=tables", "--nodes=4", "--mtp=2", "--placement=x", "--price-gpu-hour=3", "--tp=2"} {
		if got := call(t, "", "estimate", "--published", flag).want(t, exitUsage); !strings.Contains(got.stderr, "does not go with --published") {
			t.Errorf("%s: %s", flag, got.stderr)
		}
	}
}

// TestSimulateAim: a fleet for an aim is found, and the same command with one unit
// less says that it does not keep it.
func TestSimulateAim(t *testing.T) {
	if testing.Short() {
		t.Skip("short: simulations take seconds")
	}
	type trial struct {
		Holds bool
	}
	type fleets struct {
		Fleets []struct {
			GPU     string
			Prefill int     `json:"prefill_units"`
			Decode  int     `json:"decode_units"`
			TP      int     `json:"prefill_tp"`
			USD     float64 `json:"usd_per_million_tokens"`
			Fleet   trial
			Less    trial `json:"one_prefill_unit_less"`
		}
	}
	aim := []string{"simulate", "--json", "--seconds", "15", "--rps", "120", "--slo-ttft", "2s", "--slo-tpot", "50ms"}
	x := decode[fleets](t, call(t, "", aim...).want(t, exitDone).stdout).Fleets[0]
	if !x.Fleet.Holds || x.Less.Holds || x.Prefill < 2 || x.Decode < 1 || !(x.USD > 0) {
		t.Errorf("%+v", x)
	}
	given := append(aim, "--decode-units", fmt.Sprint(x.Decode), "--prefill-units")
	if y := decode[fleets](t, call(t, "", append(given, fmt.Sprint(x.Prefill))...).want(t, exitDone).stdout).Fleets[0]; !y.Fleet.Holds || y.TP != x.TP || y.USD != x.USD {
		t.Errorf("the fleet that was found, %+v, is not as good alone: %+v", x, y)
	}
	if y := decode[fleets](t, call(t, "", append(given, fmt.Sprint(x.Prefill-1))...).want(t, exitDone).stdout).Fleets[0]; y.Fleet.Holds {
		t.Errorf("one prefill unit less keeps the aim: %+v", y)
	}
	for _, args := range [][]string{{"simulate", "--slo-ttft", "2"}, {"simulate", "--rps", "5", "--slo-tpot", "soon"}, {"simulate", "--rps", "5", "--slo-percentile", "100"}, {"simulate", "--rps", "5", "--slo-ttft", "2", "--prefill-units", "3"}, {"simulate", "--rps", "5", "--slo-ttft", "2", "--scenario", "day"}} {
		call(t, "", args...).want(t, exitUsage)
	}
	if got := call(t, "", "simulate", "--rps", "5", "--slo-tpot", "1ms").want(t, exitFailed); !strings.Contains(got.stderr, "no fleet keeps the aim") {
		t.Error(got.stderr)
	}
}
