package simulate

import (
	"fmt"

	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

// traffic is the workload that the flags ask for. hit says whether --hit was given.
func (f *simulateFlags) traffic(config *simulate.Config, hit bool) (simulate.Traffic, error) {
	if f.trace == "" && f.blockTokens != 0 {
		return simulate.Traffic{}, console.Usagef("--block-tokens goes with --trace")
	}
	if f.trace != "" {
		return f.replayed(config, hit)
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
		if !hit {
			return simulate.Traffic{}, console.Usagef("ServeGen's files do not say which prompts share prefixes: give --hit, the share of prompt tokens that is cached (DeepSeek published 0.563; 0 = none)")
		}
		dir := f.data
		if dir == "" {
			var err error
			if dir, err = workload.DataDir(); err != nil {
				return simulate.Traffic{}, fmt.Errorf("--data: %w", err)
			}
		}
		day, err := workload.ReadServeGenDay(dir)
		if err != nil {
			return simulate.Traffic{}, fmt.Errorf("--data: %w", err)
		}
		profile, top := day.Profile(), 0.0
		for _, x := range profile {
			top = max(top, x)
		}
		return simulate.Traffic{Name: "ServeGen's day of DeepSeek-R1", Profile: profile, New: func(rate float64) simulate.Source {
			return day.Requests(rate/top, seconds, f.seed)
		}}, nil
	}
	return simulate.Traffic{}, console.Usagef("--scenario %.40q: steady, day, servegen-day, deepseek-day or published-day", f.scenario)
}

// replayed is a trace.
func (f *simulateFlags) replayed(config *simulate.Config, hit bool) (simulate.Traffic, error) {
	if f.blockTokens < 0 {
		return simulate.Traffic{}, console.Usagef("--block-tokens %d: at least 1 is needed", f.blockTokens)
	}
	trace, err := workload.ReadTraceFile(f.trace, f.blockTokens)
	if err != nil {
		return simulate.Traffic{}, fmt.Errorf("--trace: %w", err)
	}
	switch {
	case trace.BlockTokens == 0 && f.blockTokens != 0:
		return simulate.Traffic{}, console.Usagef("--block-tokens: the requests of %s name no blocks", f.trace)
	case trace.BlockTokens == 0 && !hit:
		return simulate.Traffic{}, console.Usagef("%s does not say which prompts share prefixes: give --hit, the share of prompt tokens that is cached (0 = none)", f.trace)
	case trace.BlockTokens > 0 && hit:
		return simulate.Traffic{}, console.Usagef("--hit: %s says itself which prompts share prefixes", f.trace)
	}
	if trace.BlockTokens > 0 {
		config.BlockTokens = trace.BlockTokens
	}
	kept := trace.Requests[:0]
	for _, q := range trace.Requests {
		if q.Input > 0 && q.Output > 0 { // others failed
			kept = append(kept, q)
		}
	}
	if len(kept) == 0 {
		return simulate.Traffic{}, fmt.Errorf("%s: no request has both prompt and generated tokens", f.trace)
	}
	return simulate.Traffic{Name: fmt.Sprintf("%s (%s, %d requests)", f.trace, trace.Format, len(kept)), New: func(rate float64) simulate.Source {
		return workload.NewReplay(kept, rate)
	}}, nil
}
