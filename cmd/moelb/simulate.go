package main

import (
	"bytes"
	"fmt"
	"math"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/internal/wire"
)

// simulateFlags are moelb simulate's flags as given.
type simulateFlags struct {
	trace, scenario, data, gpu, html string
	load, seconds, hit, visits       float64
	fleet                            simulate.Fleet
	maxTokens                        int64
	maxRequests                      int
	seed                             uint64
	prices                           simulate.Prices
	asJSON                           bool
}

// The scenarios, by name.
const (
	steadyScenario   = "steady"
	dayScenario      = "day"
	serveGenScenario = "servegen-day"
	deepSeekScenario = "deepseek-day"
)

func simulateCommand(c *console) *cobra.Command {
	f := &simulateFlags{prices: simulate.PublishedPrices()}
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Simulate the whole system: what each balancer is worth",
		Long: `Simulate the published system on a workload: prefill units and decode units, each
with a balancer of requests and one of experts, and an external store of
prefixes. One table compares all three balancers on, each off in turn, all off,
and the usual or published policy in the place of each.

Every policy sees the same requests. Tokens a second, latencies and idle GPUs are
measured at --load, a share of what the fleet serves with all balancers on; nodes
and dollars are what each policy needs when its units are full.

Scenarios: steady (built-in requests like those of DeepSeek's published day, at
one rate), day (the same over a day, with units that join and leave; an hour lasts
a 24th of --seconds), servegen-day (a day of DeepSeek-R1 in production, from
ServeGen's files in --data), deepseek-day (the reckoning of DeepSeek's published
day: nodes, cost, income). --trace FILE replays a public trace instead, again and
again at the rate that the load asks for.`,
		Example: `  moelb simulate
  moelb simulate --scenario deepseek-day
  moelb simulate --scenario day --html day.html
  moelb simulate --trace mooncake_conversation_trace.jsonl.gz --json`,
		Args: atMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, c) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	l.StringVar(&f.trace, "trace", "", "replay this file: Mooncake, Azure, BurstGPT or Vidur; gzip is unpacked")
	l.StringVar(&f.scenario, "scenario", steadyScenario, "steady, day, servegen-day or deepseek-day")
	l.StringVar(&f.data, "data", "", "the folder of ServeGen's files; \"\" = $MOELB_DATA")
	l.Float64Var(&f.load, "load", .85, "requests that come, as a share of what the fleet serves with all balancers on")
	l.Float64Var(&f.seconds, "seconds", 0, "simulated seconds; 0 = 600, for a day 1800")
	l.IntVar(&f.fleet.Decode, "decode-units", 0, "decode units; 0 = 1, for a day 2")
	l.IntVar(&f.fleet.Prefill, "prefill-units", 0, "prefill units; 0 = as many as keep up with decode")
	l.StringVar(&f.gpu, "gpu", "h800", "kind of GPU: "+gpuNames())
	l.Float64Var(&f.visits, "nodes-per-token", 0, "nodes that a token visits in prefill, as moelb plan --routes reports them; 0 = as group-limited routing makes them")
	l.Float64Var(&f.hit, "hit", .563, "share of prompt tokens in the store of prefixes, where the requests do not name their blocks")
	l.Int64Var(&f.maxTokens, "max-tokens", 16384, "new tokens that a prefill GPU takes in one step")
	l.IntVar(&f.maxRequests, "max-requests", 128, "requests that a decode GPU holds")
	l.Uint64Var(&f.seed, "seed", 1, "seed of what is random")
	l.Float64Var(&f.prices.GPUHour, "price-gpu-hour", f.prices.GPUHour, "dollars a GPU and hour")
	l.Float64Var(&f.prices.Hit, "price-hit", f.prices.Hit, "dollars a million prompt tokens in the store")
	l.Float64Var(&f.prices.Miss, "price-miss", f.prices.Miss, "dollars a million prompt tokens not in the store")
	l.Float64Var(&f.prices.Output, "price-output", f.prices.Output, "dollars a million generated tokens")
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	l.StringVar(&f.html, "html", "", "write the run as a page with pictures to this file")
	return cmd
}

func (f *simulateFlags) run(cmd *cobra.Command, c *console) error {
	if f.trace != "" && cmd.Flags().Changed("scenario") {
		return usagef("--trace and --scenario exclude each other")
	}
	if err := f.prices.Validate(); err != nil {
		return usageError{err}
	}
	gpu, err := cost.FindGPU(f.gpu)
	if err != nil {
		return usageError{err}
	}
	if f.scenario == deepSeekScenario {
		if f.html != "" {
			return usagef("--html does not go with --scenario %s", deepSeekScenario)
		}
		if f.visits != 0 {
			return usagef("--nodes-per-token does not go with --scenario %s, which reckons with published rates", deepSeekScenario)
		}
		return f.day(cmd, gpu)
	}
	s, err := f.study(cmd, c, gpu)
	if err != nil {
		return err
	}
	if f.html != "" {
		page, err := f.page(s)
		if err == nil {
			err = writeFile(f.html, page)
		}
		if err != nil {
			return err
		}
	}
	b := s.table()
	if f.asJSON {
		b = s.json()
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// simulated is a study and what it was run on.
type simulated struct {
	simulate.Study
	config simulate.Config
}

// study runs every policy.
func (f *simulateFlags) study(cmd *cobra.Command, c *console, gpu cost.GPU) (*simulated, error) {
	config := simulate.Default(simulate.Policy{})
	for _, u := range []*cost.Unit{&config.Prefill, &config.Decode} {
		u.Nodes = u.Nodes * u.GPU.Node / gpu.Node
		u.GPU = gpu
	}
	if config.Prefill.NodesPerToken = f.visits; f.visits != 0 {
		if err := config.Prefill.Validate(); err != nil {
			return nil, usageError{err}
		}
	}
	config.MaxTokens, config.MaxRequests, config.Hit, config.Seed, config.Series = f.maxTokens, f.maxRequests, f.hit, f.seed, 240
	long := f.scenario == dayScenario || f.scenario == serveGenScenario
	config.Seconds = f.seconds
	if f.seconds == 0 {
		config.Seconds = 600
		if long {
			config.Seconds = 1800
		}
	}
	if !(config.Seconds >= 10 && config.Seconds <= 86400) {
		return nil, usagef("--seconds %v: between 10 and 86400 are possible", config.Seconds)
	}
	config.Warm = config.Seconds / 5
	if long {
		config.Warm = config.Seconds / 24
	}
	if f.fleet.Decode == 0 && long {
		f.fleet.Decode = 2
	}
	if f.fleet.Decode < 0 || f.fleet.Decode > 64 || f.fleet.Prefill < 0 || f.fleet.Prefill > 256 {
		return nil, usagef("units: at most 64 for decode and 256 for prefill")
	}
	if !(f.load > 0 && f.load <= 10) {
		return nil, usagef("--load %v: above 0 and at most 10 is needed", f.load)
	}
	t, err := f.traffic(&config)
	if err != nil {
		return nil, err
	}
	o := simulate.StudyOptions{Load: f.load, Fleet: f.fleet, Prices: f.prices, Rows: simulate.Choices()}
	probe := config
	probe.Policy = o.Rows[0].Policy
	if err := probe.Validate(); err != nil {
		return nil, usageError{err}
	}
	bar := progressbar.DefaultSilent(1000)
	if terminal(c.stderr) {
		bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(c.stderr), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("simulating"), progressbar.OptionSetPredictTime(true))
	}
	o.Progress = func(done float64) { bar.Set(int(1000 * done)) }
	study, err := simulate.Compare(config, t, o)
	bar.Finish()
	if err != nil {
		return nil, err
	}
	return &simulated{study, config}, nil
}

// traffic is the workload that the flags ask for.
func (f *simulateFlags) traffic(config *simulate.Config) (simulate.Traffic, error) {
	if f.trace != "" {
		requests, format, err := workload.ReadTraceFile(f.trace)
		if err != nil {
			return simulate.Traffic{}, err
		}
		kept := requests[:0]
		for _, q := range requests {
			if q.Input > 0 && q.Output > 0 { // others failed
				kept = append(kept, q)
			}
		}
		if len(kept) == 0 {
			return simulate.Traffic{}, fmt.Errorf("%s: no request has both prompt and generated tokens", f.trace)
		}
		return simulate.Traffic{Name: fmt.Sprintf("%s (%s, %d requests)", f.trace, format, len(kept)), New: func(rate float64) simulate.Source {
			r := &simulate.Replay{Requests: kept}
			r.Speed = rate / r.Rate()
			return r
		}}, nil
	}
	seconds := config.Seconds
	switch f.scenario {
	case steadyScenario:
		return simulate.Traffic{Name: "built-in requests", New: func(rate float64) simulate.Source { return workload.Steady(rate, f.seed) }}, nil
	case dayScenario:
		demand := simulate.PublishedDemand()
		profile := make([]float64, len(demand))
		top := 0.0
		for h, x := range demand {
			profile[h] = x * float64(len(demand))
			top = max(top, profile[h])
		}
		return simulate.Traffic{Name: "built-in day", Profile: profile, New: func(rate float64) simulate.Source {
			return &workload.Traffic{Peak: rate, Seed: f.seed, PerSecond: func(t float64) float64 {
				return rate * profile[int(t/seconds*float64(len(profile)))%len(profile)] / top
			}}
		}}, nil
	case serveGenScenario:
		dir := f.data
		if dir == "" {
			var err error
			if dir, err = workload.DataDir(); err != nil {
				return simulate.Traffic{}, err
			}
		}
		day, err := workload.ReadServeGenDay(dir)
		if err != nil {
			return simulate.Traffic{}, err
		}
		profile, top := day.Profile(), 0.0
		for _, x := range profile {
			top = max(top, x)
		}
		return simulate.Traffic{Name: "ServeGen's day of DeepSeek-R1", Profile: profile, New: func(rate float64) simulate.Source {
			return day.Requests(rate/top, seconds, f.seed)
		}}, nil
	}
	return simulate.Traffic{}, usagef("--scenario %.40q: steady, day, servegen-day or deepseek-day", f.scenario)
}

// day prints the reckoning of the published day.
func (f *simulateFlags) day(cmd *cobra.Command, gpu cost.GPU) error {
	u := cost.Unit{Model: cost.DeepSeekV3(), GPU: gpu, Factors: cost.Calibrated(), Phase: cost.DecodePhase, Nodes: 144 / gpu.Node}
	d, err := simulate.PublishedDay(f.prices, u)
	if err != nil {
		return err
	}
	b := dayTable(&d)
	if f.asJSON {
		b = dayJSON(&d)
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

func dayTable(d *simulate.Day) []byte {
	b := &bytes.Buffer{}
	b.WriteString("DeepSeek's published day: its node plan and its tokens are given, the rest follows\n\n")
	g := grid{}
	g.add("the day", "here", "published")
	g.add("nodes, mean", fmt.Sprintf("%.2f", d.NodesMean), "226.75")
	g.add("nodes, peak", fmt.Sprintf("%.0f", d.NodesPeak), "278")
	g.add("cost", fmt.Sprintf("$%.0f", d.CostUSD), "$87072")
	g.add("income", fmt.Sprintf("$%.0f", d.IncomeUSD), "$562027")
	g.add("margin", fmt.Sprintf("%.1f%%", d.Margin), "545%")
	g.add("prompt tokens/s a prefill node", fmt.Sprintf("%.0f", d.PrefillPerNode), "73.7k")
	g.add("generated tokens/s a decode node", fmt.Sprintf("%.0f", d.DecodePerNode), "14.8k")
	g.add("tokens/s a request, by the cost model", fmt.Sprintf("%.1f", d.PerRequest), "20-22")
	g.write(b, "  ")
	b.WriteByte('\n')
	h := grid{}
	h.add("hour", "nodes", "cost", "income", "tokens/s a decode node", "requests a GPU", "tokens/s a request")
	for _, x := range d.Hours {
		h.add(fmt.Sprintf("%02d:00", x.Hour), fmt.Sprintf("%.1f", x.Nodes), fmt.Sprintf("$%.0f", x.CostUSD), fmt.Sprintf("$%.0f", x.IncomeUSD), fmt.Sprintf("%.0f", x.PerNode), fmt.Sprintf("%.0f", x.Requests), fmt.Sprintf("%.1f", x.PerRequest))
	}
	h.write(b, "  ")
	b.WriteString("\nEach step of the plan is a whole number of one decode unit (18 nodes) and three prefill units (4 nodes each).\n")
	return b.Bytes()
}

func dayJSON(d *simulate.Day) []byte {
	o := &wire.Encoder{}
	number := func(name string, x float64) { o.Field(name); o.Float(x) }
	o.Raw(`{"version":1,"scenario":"deepseek-day"`)
	number("nodes_mean", exactly(d.NodesMean))
	number("nodes_peak", d.NodesPeak)
	number("cost_usd", cents(d.CostUSD))
	number("income_usd", cents(d.IncomeUSD))
	number("margin_percent", d.Margin)
	number("prefill_tokens_per_second_per_node", d.PrefillPerNode)
	number("decode_tokens_per_second_per_node", d.DecodePerNode)
	number("output_tokens_per_second_per_request", d.PerRequest)
	o.Field("hours")
	wire.List(o, d.Hours, func(h simulate.Hour) {
		o.Raw("\n" + `{"hour":`)
		o.Int(int64(h.Hour))
		number("nodes", exactly(h.Nodes))
		number("cost_usd", cents(h.CostUSD))
		number("income_usd", cents(h.IncomeUSD))
		number("decode_tokens_per_second_per_node", h.PerNode)
		number("requests_per_gpu", h.Requests)
		number("output_tokens_per_second_per_request", h.PerRequest)
		o.Raw("}")
	})
	o.Raw("}\n")
	return o.B
}

// cents rounds dollars, exactly what is counted in minutes.
func cents(x float64) float64   { return math.Round(100*x) / 100 }
func exactly(x float64) float64 { return math.Round(1e6*x) / 1e6 }
