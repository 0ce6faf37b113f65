package simulate

import (
	"fmt"

	"github.com/moelb/moelb/bench/cost"
)

// Prices are what a GPU costs and what tokens earn, in dollars.
type Prices struct {
	GPUHour           float64
	Hit, Miss, Output float64 // a million tokens: of a prompt in the cache, not in it, generated
}

// PublishedPrices are those of DeepSeek-R1 and of the published reckoning.
func PublishedPrices() Prices { return Prices{GPUHour: 2, Hit: .14, Miss: .55, Output: 2.19} }

// Validate returns an error for a price that is none.
func (p *Prices) Validate() error {
	for _, x := range []struct {
		name  string
		value float64
	}{{"gpu-hour", p.GPUHour}, {"hit", p.Hit}, {"miss", p.Miss}, {"output", p.Output}} {
		if !(x.value >= 0 && x.value < 1e9) {
			return fmt.Errorf("price %s: %v is not between 0 and 10^9 dollars", x.name, x.value)
		}
	}
	return nil
}

// Income is what tokens earn.
func (p *Prices) Income(hit, miss, output float64) float64 {
	return (float64(hit*p.Hit) + float64(miss*p.Miss) + float64(output*p.Output)) / 1e6
}

// Fleet is how many units run.
type Fleet struct{ Prefill, Decode int }

// Nodes counts the nodes of a fleet of published units: 4 a prefill unit, 18 a
// decode unit.
func (f Fleet) Nodes() int { return 4*f.Prefill + 18*f.Decode }

// PlanStep says that from a time on a fleet is wanted.
type PlanStep struct {
	Second float64 // after the plan's start
	Fleet  Fleet
}

// publishedSteps is the published day's node count, read off its picture to the
// minute from 12:00 on. Each step is a whole number of one decode unit and three
// prefill units.
var publishedSteps = []struct{ minute, nodes int }{
	{0, 278}, {12 * 60, 218}, {13*60 + 15, 188}, {14 * 60, 158}, {14*60 + 45, 128}, {15 * 60, 98}, {15*60 + 30, 68},
	{18*60 + 30, 98}, {19 * 60, 128}, {19*60 + 30, 188}, {20 * 60, 218}, {20*60 + 30, 278},
}

// publishedIncome is the published day's income by hour from 12:00 on, in
// thousand dollars, read off its picture (their sum is 0.1% above the total).
var publishedIncome = [24]float64{27.0, 28.5, 30.5, 30.9, 30.5, 27.8, 26.8, 29.6, 30.7, 30.8, 31.1, 29.8, 21.7, 18.0, 13.1, 8.0, 6.4, 6.4, 8.0, 13.7, 23.1, 29.4, 30.5, 29.9}

// The published day's tokens: of prompts, in the cache and not, and generated.
const (
	publishedHit    = 342e9
	publishedMiss   = 266e9
	publishedOutput = 168e9
	publishedKV     = 4989 // tokens of KV behind each generated one, on average
)

// PublishedFleet is the fleet of so many nodes on the published day.
func PublishedFleet(nodes int) Fleet {
	k := (nodes - 68) / 30
	return Fleet{Prefill: 8 + 3*k, Decode: 2 + k}
}

// PublishedPlan is the published day's plan, from 12:00 to 12:00.
func PublishedPlan() []PlanStep {
	out := make([]PlanStep, len(publishedSteps))
	for i, s := range publishedSteps {
		out[i] = PlanStep{60 * float64(s.minute), PublishedFleet(s.nodes)}
	}
	return out
}

// PublishedDemand is each hour's share of the published day's tokens, from 12:00
// on.
func PublishedDemand() [24]float64 {
	sum := 0.0
	for _, x := range publishedIncome {
		sum += x
	}
	out := publishedIncome
	for h := range out {
		out[h] /= sum
	}
	return out
}

// Hour is one hour of a day.
type Hour struct {
	Hour                int // 0 to 23
	Nodes               float64
	CostUSD, IncomeUSD  float64
	Output              float64 // tokens
	PerNode, PerRequest float64 // generated tokens a second
	Requests            float64 // a decode GPU holds
}

// Day is a day's reckoning.
type Day struct {
	NodesMean, NodesPeak       float64
	CostUSD, IncomeUSD, Margin float64 // margin is income less cost, as a percentage of cost
	PrefillPerNode             float64 // prompt tokens a second and mean node of prefill, cached ones counted
	DecodePerNode              float64 // generated tokens a second and mean node of decode
	PerRequest                 float64 // generated tokens a second of one request
	Hours                      []Hour
}

// PublishedDay reckons the published day: its node plan and its tokens are
// given, its costs, income and rates follow. How fast one request is follows from
// the cost model, at as many requests a GPU as yield each hour's tokens.
func PublishedDay(p Prices, u cost.Unit) (Day, error) {
	if err := p.Validate(); err != nil {
		return Day{}, err
	}
	if u.Phase != cost.DecodePhase {
		return Day{}, fmt.Errorf("unit: %v is not a decode unit", u.Phase)
	}
	const hours = 24
	d := Day{Hours: make([]Hour, hours)}
	plan, demand := PublishedPlan(), PublishedDemand()
	var prefill, decode [hours]float64 // mean nodes
	for h := range hours {
		from, to := 3600*float64(h), 3600*float64(h+1)
		for i, s := range plan {
			end := 3600.0 * hours
			if i+1 < len(plan) {
				end = plan[i+1].Second
			}
			share := max(0, min(to, end)-max(from, s.Second)) / 3600
			prefill[h] += share * float64(4*s.Fleet.Prefill)
			decode[h] += share * float64(18*s.Fleet.Decode)
			d.NodesPeak = max(d.NodesPeak, float64(s.Fleet.Nodes()))
		}
	}
	prefills, decodes, weighed := 0.0, 0.0, 0.0
	for h := range d.Hours {
		x := &d.Hours[h]
		x.Hour = (12 + h) % 24
		x.Nodes = prefill[h] + decode[h]
		x.CostUSD = x.Nodes * 8 * p.GPUHour
		x.Output = publishedOutput * demand[h]
		x.IncomeUSD = p.Income(publishedHit*demand[h], publishedMiss*demand[h], x.Output)
		x.PerNode = x.Output / 3600 / decode[h]
		var err error
		if x.Requests, x.PerRequest, err = requestsFor(u, x.PerNode); err != nil {
			return Day{}, err
		}
		prefills, decodes = prefills+prefill[h]/hours, decodes+decode[h]/hours
		d.CostUSD, d.IncomeUSD = d.CostUSD+x.CostUSD, d.IncomeUSD+x.IncomeUSD
		weighed += x.PerRequest * demand[h]
	}
	d.NodesMean = prefills + decodes
	if d.CostUSD > 0 {
		d.Margin = 100 * (d.IncomeUSD/d.CostUSD - 1)
	}
	d.PrefillPerNode = (publishedHit + publishedMiss) / (3600 * hours) / prefills
	d.DecodePerNode = publishedOutput / (3600 * hours) / decodes
	d.PerRequest = weighed
	return d, nil
}

// requestsFor is how many requests a GPU yield so many tokens a second and node,
// and how many each of them gets.
func requestsFor(u cost.Unit, perNode float64) (requests, each float64, err error) {
	low, high := 1.0, min(512, .99*float64(u.KVRoom())/publishedKV)
	for range 40 {
		requests = (low + high) / 2
		e, err := u.Estimate(cost.Batch{Requests: requests, KV: publishedKV, Queries: 1, Attention: 1, Senders: 1, Experts: 1})
		if err != nil {
			return 0, 0, err
		}
		each = e.TokensPerRequest
		if e.TokensPerNode < perNode {
			low = requests
		} else {
			high = requests
		}
	}
	return requests, each, nil
}
