package simulate

import (
	"fmt"

	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/workload"
)

// LivedHour is an hour of the published day, simulated at its demand on its fleet.
type LivedHour struct {
	Hour     int // 0 to 23
	Fleet    Fleet
	Rate     float64 // requests a second that come
	Prefill  Result
	Decode   Result
	Carries  float64 // the share of the demand that is served, at most 1
	PerToken float64 // seconds a token of the median request
}

// Lived is the published day, simulated hour by hour: what its fleet serves of its
// demand, and how fast.
type Lived struct {
	Hours          []LivedHour
	PrefillPerNode float64 // prompt tokens a second and mean node of prefill, cached ones counted
	DecodePerNode  float64
	PerRequest     float64 // generated tokens a second of one request, mean over tokens
	MeanInput      float64
	MeanOutput     float64
	MeanKV         float64
	HitRate        float64
}

// PublishedRates are what DeepSeek published of the day: prompt tokens a second and
// prefill node, generated ones a decode node, and a request's (20 to 22).
func PublishedRates() (prefill, decode, request float64) { return 73.7e3, 14.8e3, 21 }

// PublishedScale is what the published day says of its requests: tokens of KV behind
// a generated one, and prompt tokens for each.
func PublishedScale() (kv, inputPerOutput float64) {
	return publishedKV, (publishedHit + publishedMiss) / publishedOutput
}

// publishedFleetAt is the fleet that is up longest in hour h after 12:00.
func publishedFleetAt(h int) Fleet {
	plan := PublishedPlan()
	best, most := Fleet{}, 0.0
	for i, s := range plan {
		end := 86400.0
		if i+1 < len(plan) {
			end = plan[i+1].Second
		}
		if x := min(float64(3600*(h+1)), end) - max(float64(3600*h), s.Second); x > most {
			best, most = s.Fleet, x
		}
	}
	return best
}

// Live simulates the published day: for each hour, in real time, a few units of each
// phase at their share of its demand; c.Seconds of it are simulated, of which
// c.Warm are not measured. Nothing of it is fitted to the day's rates: the plan of
// its nodes, its tokens by hour and the lengths of t's requests are given.
func Live(c Config, t Traffic, progress func(float64)) (Lived, error) {
	a := Aim{Rate: 1, TTFT: 1e5, TPOT: 1e5, Percentile: .5}
	s, d, err := newSizing(c, t, a)
	if err != nil {
		return Lived{}, err
	}
	out := Lived{MeanInput: d.input, MeanOutput: d.output, MeanKV: d.kv}
	demand := PublishedDemand()
	served := [2]float64{}
	speed, hits, input := 0.0, 0.0, 0.0
	for h := range demand {
		x := LivedHour{Hour: (12 + h) % 24, Fleet: publishedFleetAt(h), Rate: publishedOutput * demand[h] / 3600 / d.output}
		if err := s.live(&x); err != nil {
			return out, err
		}
		out.Hours = append(out.Hours, x)
		served[0] += float64(demand[h] * min(1, x.share(&x.Prefill)))
		served[1] += float64(demand[h] * x.Carries)
		speed += float64(demand[h] * x.Carries / x.PerToken)
		hits, input = hits+float64(x.Prefill.HitTokens), input+float64(x.Prefill.InputTokens)
		if progress != nil {
			progress(float64(h+1) / float64(len(demand)))
		}
	}
	prefill, decode := publishedNodes()
	out.PrefillPerNode = served[0] * (publishedHit + publishedMiss) / 86400 / prefill
	out.DecodePerNode = served[1] * publishedOutput / 86400 / decode
	out.PerRequest, out.HitRate = speed/max(served[1], 1e-9), hits/max(input, 1)
	return out, nil
}

// publishedNodes is the day's mean nodes of prefill and of decode.
func publishedNodes() (prefill, decode float64) {
	plan := PublishedPlan()
	for i, s := range plan {
		end := 86400.0
		if i+1 < len(plan) {
			end = plan[i+1].Second
		}
		share := (end - s.Second) / 86400
		prefill, decode = prefill+float64(share*float64(4*s.Fleet.Prefill)), decode+float64(share*float64(18*s.Fleet.Decode))
	}
	return prefill, decode
}

// live simulates an hour.
func (s *sizing) live(x *LivedHour) error {
	for _, only := range []phaseOnly{cfgPrefill, cfgDecode} {
		n := x.Fleet.Prefill
		if only == cfgDecode {
			n = x.Fleet.Decode
		}
		units := min(n, map[phaseOnly]int{cfgPrefill: 4, cfgDecode: 2}[only])
		f := Fleet{units, units}
		t, err := s.run(f, only, x.Rate*float64(units)/float64(n))
		if err != nil {
			return fmt.Errorf("hour %d: %w", x.Hour, err)
		}
		if only == cfgPrefill {
			x.Prefill = t.Result
		} else {
			x.Decode = t.Result
		}
	}
	x.Carries = min(1, x.share(&x.Prefill), x.share(&x.Decode))
	x.PerToken = x.Decode.TPOT50
	return nil
}

// share is the part of the demand that a phase serves: all where its queue does not
// grow.
func (x *LivedHour) share(r *Result) float64 {
	if r.Served > .98 {
		return 1
	}
	return r.Served
}

// publishedTopics is how many kinds of text the published day is taken to mix: 1 by
// the sum of the squares of the shares of ServeGen's 73 clients of DeepSeek-R1, 9.5.
const publishedTopics = 9

// PublishedSystem is the system of the published day, on requests that hit the store
// as often.
func PublishedSystem() Config {
	p := PrefillPolicies()
	d := DecodePolicies()
	c := Default(Policy{p[0], d[0], experts.Optimal})
	c.Hit = publishedHit / (publishedHit + publishedMiss)
	c.Seconds, c.Warm, c.MaxRequests, c.Topics = 60, 20, 256, publishedTopics
	return c
}

// PublishedTraffic is requests like those of the published day: lognormal lengths,
// prompts with a deviation of the logarithm of spread, scaled to its KV behind a
// generated token and to its prompt tokens for each.
func PublishedTraffic(spread float64, seed uint64) Traffic {
	steady := func(rate float64) *workload.Traffic {
		t := workload.Steady(rate, seed)
		t.Spread = spread
		return t
	}
	var sample []workload.Request
	source := steady(1)
	for range 1 << 16 {
		q, _ := source.Next()
		sample = append(sample, q)
	}
	kv, ratio := PublishedScale()
	scaled := workload.Rescale(sample, kv, ratio)
	return Traffic{Name: fmt.Sprintf("lognormal lengths, spread %g", spread), New: func(rate float64) Source { return scaled(steady(rate)) }}
}

// PrefillReach is the prompt tokens a second, cached ones counted, that a node of a
// full prefill unit computes of a traffic: what lengths do to it.
func PrefillReach(c Config, t Traffic) (float64, error) {
	c.setTopics(c.Seconds)
	x, err := saturate(c, t, cfgPrefill, 0, map[string]capacity{}, nil)
	return x.perSecond * x.input / float64(c.Prefill.Nodes), err
}

// ServeGenTraffic is requests with the lengths of ServeGen's clients of DeepSeek-R1,
// from the files in dir, input and output as they go together, scaled as
// PublishedTraffic is.
func ServeGenTraffic(dir string, seed uint64) (Traffic, error) {
	sample, err := workload.ServeGen(dir, 1<<17, seed)
	if err != nil {
		return Traffic{}, err
	}
	kv, ratio := PublishedScale()
	scaled := workload.Rescale(sample, kv, ratio)
	return Traffic{Name: "ServeGen's lengths of DeepSeek-R1", New: func(rate float64) Source {
		return scaled(&timed{requests: sample, times: workload.Steady(rate, seed)})
	}}, nil
}

// timed is requests at the times of others.
type timed struct {
	requests []workload.Request
	times    *workload.Traffic
	next     int
}

func (t *timed) Next() (workload.Request, bool) {
	at, ok := t.times.Next()
	q := t.requests[t.next]
	t.next = (t.next + 1) % len(t.requests)
	q.Arrival = at.Arrival
	return q, ok
}
