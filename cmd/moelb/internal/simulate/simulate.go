// Package simulate is moelb simulate and moelb estimate: the whole system on a
// workload, and one step of one unit.
package simulate

import (
	"bytes"
	"errors"
	"fmt"
	"math"

	"github.com/schollz/progressbar/v3"
	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
)

// simulateFlags are moelb simulate's flags as given.
type simulateFlags struct {
	hardware
	trace, scenario, data, html string
	queries                     int
	acceptance                  float64
	prefill, decode, experts    string // policies
	load, rate, seconds, hit    float64
	visits                      visits
	aim                         simulate.Aim
	ttft, tpot                  seconds
	prefillTP                   int
	spread                      float64
	blockTokens                 int
	fleet                       simulate.Fleet
	maxTokens                   int64
	maxRequests                 int
	seed                        uint64
	prices                      simulate.Prices
	fail                        failures
	asJSON                      bool
}

// The scenarios, by name.
const (
	steadyScenario   = "steady"
	dayScenario      = "day"
	serveGenScenario = "servegen-day"
	deepSeekScenario = "deepseek-day"
	livedScenario    = "published-day"
)

func SimulateCommand(c *console.Console) *cobra.Command {
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
day: nodes, cost, income), published-day (that day simulated, hour by hour, on its
fleet and at its demand: the rates that come out, and what the spread of prompts'
lengths, --spread, does to them; with --data ServeGen's lengths). --trace FILE replays a public trace instead, at the rate
that the load asks for: never faster than it was recorded, but as often side by
side, each copy shifted against the others and with prefixes of its own.

Where more comes than a fleet carries, waiting times grow for as long as it does:
the row says unstable and what the fleet carries, and no latency.

--prefill-policy, --decode-policy and --experts-policy run these alone.

--fail 120-300:decode:0:node1 takes a node of a decode unit away from second 120 to
300; RANKS are 3, 8-15 or node1, without them the whole unit. What the ranks held is
prefilled and placed again, and experts are planned anew on what lives.

--rps with --slo-ttft and --slo-tpot asks for a fleet: the fewest units of each
phase whose requests have their first token and each further one in that time, but
for one in a hundred (--slo-percentile); their ratio, goodput and dollars a million
tokens, for each kind of GPU (--gpu h800,h200). The answer is simulated, and so is
one unit less of each phase. With --prefill-units and --decode-units that fleet is
simulated alone. Where one GPU is too slow for the longest prompts, GPUs share
attention in prefill (--prefill-tp).`,
		Example: `  moelb simulate
  moelb simulate --scenario deepseek-day
  moelb simulate --scenario day --html day.html
  moelb simulate --rps 400 --slo-ttft 2 --slo-tpot 0.05 --gpu h800,h200
  moelb simulate --trace mooncake_conversation_trace.jsonl.gz --json
  moelb simulate --trace azure.csv --hit 0.4 --decode-policy vllm-new`,
		Args: console.AtMost(0),
		RunE: func(cmd *cobra.Command, _ []string) error { return f.run(cmd, c) },
	}
	l := cmd.Flags()
	l.SortFlags = false
	l.StringVar(&f.trace, "trace", "", "replay this file: Mooncake, Bailian, Azure, BurstGPT or Vidur; gzip is unpacked")
	l.IntVar(&f.blockTokens, "block-tokens", 0, "tokens of a block of the trace's hash_ids; 0 = 512 of Mooncake's, 16 of Bailian's")
	l.StringVar(&f.scenario, "scenario", steadyScenario, "steady, day, servegen-day, deepseek-day or published-day")
	l.StringVar(&f.data, "data", "", "the folder of ServeGen's files; \"\" = $MOELB_DATA")
	l.Float64Var(&f.spread, "spread", 0.9, "published-day: spread of prompts' lengths, the deviation of their logarithm")
	l.Float64Var(&f.load, "load", .85, "requests that come, as a share of what the fleet serves with all balancers on")
	l.Float64Var(&f.rate, "rps", 0, "requests a second, in place of --load")
	f.ttft, f.tpot = 2, 0.05
	l.Var(&f.ttft, "slo-ttft", "with --rps: seconds to the first token, at most")
	l.Var(&f.tpot, "slo-tpot", "with --rps: seconds a further token, at most")
	l.Float64Var(&f.aim.Percentile, "slo-percentile", 99, "percentage of requests that shall keep both")
	l.IntVar(&f.prefillTP, "prefill-tp", 0, "GPUs that share attention in prefill; 0 = --tp, or as an aim needs")
	l.StringVar(&f.prefill, "prefill-policy", "moelb", "run this balancer of prompts alone: moelb, or one that others run")
	l.StringVar(&f.decode, "decode-policy", "moelb", "the same for requests that generate")
	l.StringVar(&f.experts, "experts-policy", "optimal", "the same for experts: optimal, deepseek or none")
	l.Float64Var(&f.seconds, "seconds", 0, "simulated seconds; 0 = 600, for a day 1800")
	l.IntVar(&f.fleet.Decode, "decode-units", 0, "decode units; 0 = 1, for a day 2")
	l.IntVar(&f.fleet.Prefill, "prefill-units", 0, "prefill units; 0 = as many as keep up with decode")
	f.hardware.flags(cmd)
	l.IntVar(&f.queries, "mtp", 1, "tokens that a decode step verifies for a request")
	l.Float64Var(&f.acceptance, "acceptance", 0.85, "chance that a token beyond the first is accepted")
	f.visits.flags(cmd)
	l.Float64Var(&f.hit, "hit", .563, "share of prompt tokens in the store of prefixes; to be given for traces that do not name theirs")
	l.Int64Var(&f.maxTokens, "max-tokens", 16384, "new tokens that a prefill GPU takes in one step")
	l.IntVar(&f.maxRequests, "max-requests", 1024, "requests that a decode GPU holds, at most: fewer where their KV has no room or tokens would take longer than --slo-tpot")
	l.Var(&f.fail, "fail", "ranks that die and return, with the seconds: "+failureForm+"; may be given often")
	l.Uint64Var(&f.seed, "seed", 1, "seed of what is random")
	l.Float64Var(&f.prices.GPUHour, "price-gpu-hour", f.prices.GPUHour, "dollars a GPU and hour; where it is not given, what is assumed of the GPU's kind")
	l.Float64Var(&f.prices.Hit, "price-hit", f.prices.Hit, "dollars a million prompt tokens in the store")
	l.Float64Var(&f.prices.Miss, "price-miss", f.prices.Miss, "dollars a million prompt tokens not in the store")
	l.Float64Var(&f.prices.Output, "price-output", f.prices.Output, "dollars a million generated tokens")
	l.BoolVar(&f.asJSON, "json", false, "print JSON instead of a table")
	l.StringVar(&f.html, "html", "", "write the run as a page with pictures to this file")
	return cmd
}

func (f *simulateFlags) run(cmd *cobra.Command, c *console.Console) error {
	if err := f.prices.Validate(); err != nil {
		return refused(cmd, err)
	}
	aimed := f.aimed(cmd)
	if err := f.suits(cmd, aimed); err != nil {
		return err
	}
	if aimed {
		return f.size(cmd, c)
	}
	unit, err := f.hardware.unit(cmd, c)
	if err != nil {
		return err
	}
	if f.scenario == deepSeekScenario {
		return f.day(cmd, unit)
	}
	if f.scenario == livedScenario {
		return f.live(cmd, c)
	}
	s, err := f.study(cmd, c, unit)
	if err != nil {
		return err
	}
	if f.html != "" {
		page, err := f.page(s)
		if err == nil {
			err = console.WriteFile("--html", f.html, page)
		}
		if err != nil {
			return err
		}
	}
	b := s.table()
	if f.asJSON {
		if b, err = s.json(); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

// simulated is a study and what it was run on.
type simulated struct {
	simulate.Study
	config simulate.Config
}

// config is the system that the flags ask for, and whether it lives a day.
func (f *simulateFlags) config(cmd *cobra.Command, unit cost.Unit) (simulate.Config, bool, error) {
	config := simulate.Default(simulate.Policy{})
	for _, u := range []*cost.Unit{&config.Prefill, &config.Decode} {
		unit.Phase, unit.Nodes = u.Phase, publishedNodes(u.Phase, &unit.GPU)
		*u = unit
		if u.Phase == cost.PrefillPhase && f.prefillTP > 0 {
			u.TP = f.prefillTP
		}
		if err := u.Validate(); err != nil {
			return config, false, fmt.Errorf("%v unit: %w", u.Phase, refused(cmd, err))
		}
	}
	config.Queries, config.Acceptance, config.TPOT = f.queries, f.acceptance, float64(f.tpot)
	for _, u := range []*cost.Unit{&config.Prefill, &config.Decode} {
		f.visits.set(u)
		if err := u.Validate(); err != nil {
			return config, false, refused(cmd, err)
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
		return config, false, console.Usagef("--seconds %v: between 10 and 86400 are possible", config.Seconds)
	}
	config.Warm = config.Seconds / 5
	if long {
		config.Warm = config.Seconds / 24
	}
	return config, long, nil
}

// study runs every policy.
func (f *simulateFlags) study(cmd *cobra.Command, c *console.Console, unit cost.Unit) (*simulated, error) {
	config, long, err := f.config(cmd, unit)
	if err != nil {
		return nil, err
	}
	if f.fleet.Decode == 0 && long {
		f.fleet.Decode = 2
	}
	for _, x := range []struct {
		flag        string
		given, most int
	}{{"decode-units", f.fleet.Decode, 64}, {"prefill-units", f.fleet.Prefill, 256}, {"prefill-tp", f.prefillTP, 1 << 10}} {
		if x.given < 0 || x.given > x.most {
			return nil, console.Usagef("--%s %d: between 0 and %d are possible", x.flag, x.given, x.most)
		}
	}
	if !(f.load > 0 && f.load <= 10) {
		return nil, console.Usagef("--load %v: above 0 and at most 10 is needed", f.load)
	}
	if cmd.Flags().Changed("rps") && (cmd.Flags().Changed("load") || !(f.rate > 0 && f.rate <= 1e6)) {
		return nil, console.Usagef("--rps %v: above 0 and at most 10^6 is needed, and no --load", f.rate)
	}
	t, err := f.traffic(&config, cmd.Flags().Changed("hit"))
	if err != nil {
		return nil, err
	}
	o := simulate.StudyOptions{Load: f.load, Rate: f.rate, Fleet: f.fleet, Prices: f.prices, Rows: simulate.Choices()}
	if !cmd.Flags().Changed("price-gpu-hour") {
		o.Prices.GPUHour = unit.GPU.USDHour
	}
	for _, name := range []string{"prefill-policy", "decode-policy", "experts-policy"} {
		if !cmd.Flags().Changed(name) {
			continue
		}
		if f.html != "" {
			return nil, console.Usagef("--html compares all policies: it does not go with --%s", name)
		}
		p, err := simulate.FindPolicy(f.prefill, f.decode, f.experts)
		if err != nil {
			return nil, refused(cmd, err)
		}
		o.Rows = []simulate.Choice{{Label: "as asked", Policy: p}}
	}
	probe := config
	probe.Policy = o.Rows[0].Policy
	if err := probe.Validate(); err != nil {
		return nil, refused(cmd, err)
	}
	if config.Failures, err = f.fail.of(&config); err != nil {
		return nil, err
	}
	bar := progressbar.DefaultSilent(1000)
	if console.Terminal(c.Stderr) {
		bar = progressbar.NewOptions(1000, progressbar.OptionSetWriter(c.Stderr), progressbar.OptionClearOnFinish(), progressbar.OptionSetDescription("simulating"), progressbar.OptionSetPredictTime(true))
	}
	o.Progress = func(done float64) { bar.Set(int(1000 * done)) }
	study, err := simulate.Compare(config, t, o)
	bar.Finish()
	var bad *simulate.FailureError
	if errors.As(err, &bad) {
		return nil, console.Usagef("--fail, number %d: %s", bad.Index, bad.Detail)
	}
	if err != nil {
		return nil, err
	}
	return &simulated{study, config}, nil
}

// day prints the reckoning of the published day.
func (f *simulateFlags) day(cmd *cobra.Command, u cost.Unit) error {
	u.Phase, u.Nodes = cost.DecodePhase, publishedNodes(cost.DecodePhase, &u.GPU)
	d, err := simulate.PublishedDay(f.prices, u)
	if err != nil {
		return err
	}
	b := dayTable(&d)
	if f.asJSON {
		if b, err = dayJSON(&d); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

func dayTable(d *simulate.Day) []byte {
	b := &bytes.Buffer{}
	b.WriteString("DeepSeek's published day: its node plan and its tokens are given, the rest follows\n\n")
	g := human.Table{}
	g.Add("the day", "here", "published")
	g.Add("nodes, mean", fmt.Sprintf("%.2f", d.NodesMean), "226.75")
	g.Add("nodes, peak", fmt.Sprintf("%.0f", d.NodesPeak), "278")
	g.Add("cost", fmt.Sprintf("$%.0f", d.CostUSD), "$87072")
	g.Add("income", fmt.Sprintf("$%.0f", d.IncomeUSD), "$562027")
	g.Add("margin", fmt.Sprintf("%.1f%%", d.Margin), "545%")
	g.Add("prompt tokens/s a prefill node", fmt.Sprintf("%.0f", d.PrefillPerNode), "73.7k")
	g.Add("generated tokens/s a decode node", fmt.Sprintf("%.0f", d.DecodePerNode), "14.8k")
	g.Add("tokens/s a request, by the cost model", fmt.Sprintf("%.1f", d.PerRequest), "20-22")
	g.Write(b, "  ")
	b.WriteByte('\n')
	h := human.Table{}
	h.Add("hour", "nodes", "cost", "income", "tokens/s a decode node", "requests a GPU", "tokens/s a request")
	for _, x := range d.Hours {
		h.Add(fmt.Sprintf("%02d:00", x.Hour), fmt.Sprintf("%.1f", x.Nodes), fmt.Sprintf("$%.0f", x.CostUSD), fmt.Sprintf("$%.0f", x.IncomeUSD), fmt.Sprintf("%.0f", x.PerNode), fmt.Sprintf("%.0f", x.Requests), fmt.Sprintf("%.1f", x.PerRequest))
	}
	h.Write(b, "  ")
	b.WriteString("\nEach step of the plan is a whole number of one decode unit (18 nodes) and three prefill units (4 nodes each).\n")
	return b.Bytes()
}

// cents rounds dollars, exactly what is counted in minutes.
func cents(x float64) float64 { return math.Round(100*x) / 100 }

func exactly(x float64) float64 { return math.Round(1e6*x) / 1e6 }
