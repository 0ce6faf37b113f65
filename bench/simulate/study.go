package simulate

import (
	"fmt"

	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/prefill"
)

// Traffic is a workload that can be asked for at any rate.
type Traffic struct {
	Name string
	// New returns the requests at so many a second on average, the same each time.
	New func(perSecond float64) Source
	// Profile is how the rate goes over the run, 1 = the mean; nil = steady. New
	// follows it.
	Profile []float64
}

// Row is one policy of a study.
type Row struct {
	Label string // what is off
	Result
	// What one unit of each phase serves when more waits than it can: requests a
	// second.
	PrefillCapacity, DecodeCapacity float64
	// NodesPerThousand is the nodes that serve 1,000 requests a second, both
	// phases at their capacity; USDPerMillion what a million generated tokens cost
	// on them.
	NodesPerThousand, USDPerMillion float64
	// Carries is how many requests a second the fleet serves.
	Carries float64
}

// Study is what policies are worth on one workload.
type Study struct {
	Traffic      string
	Fleet        Fleet // at the start
	Rate         float64
	Load         float64
	MeanInput    float64
	MeanOutput   float64
	HitRate      float64
	PrefillNodes int
	DecodeNodes  int
	Rows         []Row
}

// StudyOptions say how a study is run.
type StudyOptions struct {
	// Load is how many requests come, as a share of what the fleet serves with all
	// balancers on; Rate how many come a second, in place of Load.
	Load, Rate float64
	// Fleet is the units; 0 = one for decode, and as many for prefill as keep up
	// with it, at most 32.
	Fleet    Fleet
	Rows     []Choice
	Prices   Prices
	Progress func(done float64) // share of the study
}

// Choice is a policy with the words for it.
type Choice struct {
	Label string
	Policy
}

// Choices are the policies that a study compares: all balancers on, each one off
// in turn, all off, and what engines run or was published in the place of each.
func Choices() []Choice {
	p, d := PrefillPolicies(), DecodePolicies()
	on, off := Policy{p[0], d[0], experts.Optimal}, Policy{p[len(p)-1], d[len(d)-1], experts.Alone}
	out := []Choice{
		{"all on", on},
		{"prefill off", Policy{off.Prefill, on.Decode, on.Experts}},
		{"decode off", Policy{on.Prefill, off.Decode, on.Experts}},
		{"experts off", Policy{on.Prefill, on.Decode, off.Experts}},
		{"all off", off},
	}
	for _, x := range p[1 : len(p)-1] {
		out = append(out, Choice{"prefill by " + x.Name, Policy{x, on.Decode, on.Experts}})
	}
	for _, x := range d[1 : len(d)-1] {
		out = append(out, Choice{"decode by " + x.Name, Policy{on.Prefill, x, on.Experts}})
	}
	return append(out, Choice{"published experts", Policy{on.Prefill, on.Decode, experts.DeepSeek}})
}

// Compare runs every policy on the same requests. The first row sets the fleet
// and the rate. c says all but policies, plan and traffic.
func Compare(c Config, t Traffic, o StudyOptions) (Study, error) {
	if len(o.Rows) == 0 {
		o.Rows = Choices()
	}
	if err := o.Prices.Validate(); err != nil {
		return Study{}, err
	}
	if !(o.Load > 0 && o.Load <= 10) && o.Rate == 0 {
		return Study{}, fmt.Errorf("load: %v is not between 0 and 10", o.Load)
	}
	if !(o.Rate >= 0 && o.Rate <= 1e6) {
		return Study{}, fmt.Errorf("rate: %v is not between 0 and 10^6 requests a second", o.Rate)
	}
	s := Study{Traffic: t.Name, Load: o.Load, PrefillNodes: c.Prefill.Nodes, DecodeNodes: c.Decode.Nodes}
	known, tapes := map[string]capacity{}, tapes{}
	// Capacity is that of units without failures.
	failures := c.Failures
	c.Policy, c.Failures = o.Rows[0].Policy, nil
	if err := c.Validate(); err != nil {
		return Study{}, err
	}
	if c.topics[0] == nil {
		c.setTopics(c.Seconds)
	}
	// What every policy may hold is what keeps the aim under the first.
	hold, err := concurrency(&c, t)
	if err != nil {
		return Study{}, err
	}
	for i, row := range o.Rows {
		c.Policy = row.Policy
		step := func(part, parts int) func(float64) {
			return func(x float64) {
				if o.Progress != nil {
					o.Progress((float64(i) + (float64(part)+x)/float64(parts)) / float64(len(o.Rows)))
				}
			}
		}
		a, err := saturate(c, t, cfgPrefill, hold, known, step(0, 3))
		if err != nil {
			return Study{}, err
		}
		b, err := saturate(c, t, cfgDecode, hold, known, step(1, 3))
		if err != nil {
			return Study{}, err
		}
		if i == 0 {
			s.MeanInput, s.HitRate, s.MeanOutput = a.input, a.hit, b.output
			s.Fleet = o.Fleet
			if s.Fleet.Decode == 0 {
				s.Fleet.Decode = 1
			}
			if s.Fleet.Prefill == 0 {
				s.Fleet.Prefill = min(32, int(b.perSecond*float64(s.Fleet.Decode)/a.perSecond)+1)
			}
			s.Rate = o.Load * min(a.perSecond*float64(s.Fleet.Prefill), b.perSecond*float64(s.Fleet.Decode))
			if o.Rate > 0 {
				s.Load = o.Rate / s.Rate * o.Load
				s.Rate = o.Rate
			}
		}
		run := c
		run.Concurrency, run.Failures = hold, failures
		run.Plan = planFor(s.Fleet, t.Profile, c.Seconds)
		run.Progress = step(2, 3)
		r, err := tapes.run(run, t, s.Rate)
		if err != nil {
			return Study{}, err
		}
		x := Row{Label: row.Label, Result: r, PrefillCapacity: a.perSecond, DecodeCapacity: b.perSecond}
		x.Carries = min(a.perSecond*float64(s.Fleet.Prefill), b.perSecond*float64(s.Fleet.Decode))
		// A short run can end with more waiting than it began with by accident, or too
		// early for the queue to show.
		x.Unstable = r.Unstable && x.Carries < s.Rate || t.Profile == nil && x.Carries < .95*s.Rate
		x.NodesPerThousand = 1000 * (float64(c.Prefill.Nodes)/a.perSecond + float64(c.Decode.Nodes)/b.perSecond)
		hour := float64(c.Prefill.GPU.Node) * o.Prices.GPUHour
		x.USDPerMillion = x.NodesPerThousand / 1000 * hour / 3600 / s.MeanOutput * 1e6
		s.Rows = append(s.Rows, x)
	}
	if o.Progress != nil {
		o.Progress(1)
	}
	return s, nil
}

// planFor scales a fleet to the rate's profile: never more than fleet, never
// fewer than one unit of each, and a little ahead of what is due.
func planFor(f Fleet, profile []float64, seconds float64) []PlanStep {
	if len(profile) == 0 {
		return []PlanStep{{0, f}}
	}
	top := 0.0
	for _, x := range profile {
		top = max(top, x)
	}
	var out []PlanStep
	for i, x := range profile {
		next := profile[(i+1)%len(profile)]
		share := max(x, next) / top
		up := func(n int) int { return min(n, max(1, int(float64(n)*share+.999))) }
		g := Fleet{up(f.Prefill), up(f.Decode)}
		if len(out) == 0 || out[len(out)-1].Fleet != g {
			out = append(out, PlanStep{seconds * float64(i) / float64(len(profile)), g})
		}
	}
	return out
}

// capacity is what one unit of one phase serves.
type capacity struct {
	perSecond, input, output, hit float64
}

// kvShare is how much of a decode GPU's KV room requests may take on average;
// usualTPOT the seconds a token that they may take where nobody says: those of the
// published 20 to 22 tokens a second.
const (
	kvShare   = .75
	usualTPOT = .05
)

// concurrency is how many requests a rank shall hold: as many as their KV has room
// for and as keep Config.TPOT.
func concurrency(c *Config, t Traffic) (float64, error) {
	p, err := newPace(c, t)
	if err != nil {
		return 0, err
	}
	aim := c.TPOT
	if aim == 0 {
		aim = usualTPOT
	}
	return float64(most(room(&c.Decode, p.kv, c.MaxRequests), func(n int) bool { return p.tpot(n) <= aim })), nil
}

// What saturate keeps waiting for a rank, and for how long it runs.
const (
	backlogPrompts   = 16
	backlogRequests  = 2
	saturatedSeconds = 420
	saturatedWarm    = 240
)

type phaseOnly int

const (
	cfgPrefill phaseOnly = iota
	cfgDecode
)

// saturate measures one unit of one phase while more requests wait than it
// serves.
func saturate(c Config, t Traffic, phase phaseOnly, hold float64, known map[string]capacity, progress func(float64)) (capacity, error) {
	key := fmt.Sprint(phase, c.Policy.Experts, c.Policy.Prefill.Name)
	if phase == cfgDecode {
		key = fmt.Sprint(phase, c.Policy.Experts, c.Policy.Decode.Name)
	}
	if x, ok := known[key]; ok {
		return x, nil
	}
	c.Plan = []PlanStep{{0, Fleet{1, 1}}}
	c.Series, c.Progress = 0, progress
	c.Seconds, c.Warm = min(c.Seconds, saturatedSeconds), min(c.Warm*saturatedWarm/120, saturatedWarm, c.Seconds/2)
	c.PrefillOnly, c.DecodeOnly = phase == cfgPrefill, phase == cfgDecode
	c.Backlog = backlogPrompts * c.Prefill.Groups()
	if c.DecodeOnly {
		c.Backlog, c.Concurrency = backlogRequests*c.Decode.Ranks(), hold
	}
	x, err := c.overloaded(t)
	if err != nil {
		return capacity{}, err
	}
	if !(x.perSecond > 0) {
		return capacity{}, fmt.Errorf("seconds: nothing is served within %v", c.Seconds)
	}
	known[key] = x
	return x, nil
}

// overloaded runs a phase on more than it serves. Where the requests name their
// prefixes they come in their own time, as many times over as are too many:
// whether a prefix is cached depends on what came before it. Elsewhere they all
// come at once.
func (c Config) overloaded(t Traffic) (capacity, error) {
	source := t.New(1e4)
	q, _ := source.Next()
	inTime := q.Blocks != nil && c.PrefillOnly
	rate := c.evenRate(t)
	const tries = 12
	for range tries {
		source = &flood{source: t.New(1e4)}
		if inTime {
			source = t.New(rate)
		}
		r, err := Run(c, source)
		if err != nil {
			return capacity{}, err
		}
		if r.Requests == 0 {
			return capacity{}, fmt.Errorf("seconds: no request comes within %v", c.Seconds)
		}
		x := capacity{input: float64(r.InputTokens) / float64(r.Requests), output: float64(r.OutputTokens) / float64(r.Requests), hit: float64(r.HitTokens) / float64(r.InputTokens)}
		x.perSecond = r.InputPerSecond / x.input
		if c.DecodeOnly {
			x.perSecond = r.TokensPerSecond / x.output
		}
		if !inTime || x.perSecond < .95*rate {
			return x, nil
		}
		rate *= 1.5
	}
	return capacity{}, fmt.Errorf("a prefill unit serves more than %.0f requests a second: no end was found", rate)
}

// evenRate is a little more than a prefill unit serves if all is even and nothing
// is cached.
func (c *Config) evenRate(t Traffic) float64 {
	k, err := prefillCost(&c.Prefill, c.MaxTokens)
	if err != nil {
		return 1
	}
	source, work, n := t.New(1e4), 0.0, 0
	for ; n < 1<<14; n++ {
		q, ok := source.Next()
		if !ok {
			break
		}
		work += float64(k.Token*float64(q.Input)) + float64(k.Pair*float64(prefill.WorkOf(int64(q.Input), 0).Pairs))
	}
	return 1.2 * float64(c.Prefill.Groups()) * float64(n) / max(work, 1e-9)
}

// flood is a source whose requests all come at once.
type flood struct{ source Source }

func (f *flood) Next() (workload.Request, bool) {
	q, ok := f.source.Next()
	q.Arrival = 0
	return q, ok
}
