package simulate

import (
	"math"
)

// usage is what has been used up to a time.
type usage struct {
	prefill, decode float64 // GPU-seconds up
	computed        [2]float64
	// Sums over steps: most and mean pairs, tokens (prefill), KV, requests (decode).
	uneven          [8]float64
	queued, entered int64 // requests
	left, work      int64 // prompt tokens that are not computed yet, and all that were to be
}

// marks are the times between which a run is measured.
func (s *sim) marks() [2]int64 { return [2]int64{s.from, s.to} }

// snapshot is the usage so far. What a running step will have computed counts
// already: a step is short against the measured time.
func (s *sim) snapshot() usage {
	x := usage{queued: s.queued, entered: s.count.entered.requests, work: s.count.entered.input + s.count.again - s.count.cached}
	x.left = x.work - s.count.computed
	for _, u := range s.prefill {
		x.prefill += u.seconds(s.now) * float64(s.Prefill.Ranks())
		x.computed[0] += u.computed
		for i, y := range [4]float64{u.clock.maxPairs, u.clock.meanPairs, u.clock.maxTokens, u.clock.meanTokens} {
			x.uneven[i] += y
		}
	}
	for _, u := range s.decode {
		x.decode += u.seconds(s.now) * float64(s.Decode.Ranks())
		x.computed[1] += u.computed
		for i, y := range [4]float64{u.clock.maxKV, u.clock.meanKV, u.clock.maxN, u.clock.meanN} {
			x.uneven[4+i] += y
		}
	}
	if len(s.taken) == 1 { // at the end of the measured time
		s.heat = s.picture()
	}
	return x
}

// seconds is how long a unit has been up.
func (u *unitState) seconds(now int64) float64 {
	ns := u.alive
	if u.up {
		ns += now - u.since
	}
	return float64(ns) / second
}

func (s *sim) picture() Heat {
	h := Heat{Prefill: s.experts[0].Heat(), Experts: s.experts[1].Heat()}
	u := s.decode[0]
	sum := 0.0
	for _, kv := range u.KV {
		sum += float64(kv)
	}
	for r, kv := range u.KV {
		h.KV = append(h.KV, ratio(float64(kv)*float64(len(u.KV)), sum))
		h.Requests = append(h.Requests, ratio(float64(u.N[r])*float64(len(u.KV)), float64(u.Total)))
	}
	return h
}

// seriesCell is what happened in one stretch of the time series.
type seriesCell struct {
	output, input, first, waited int64
	inFlight, queued             int64
	up                           [2]int // units
	maxKV, meanKV                float64
}

// cell is the stretch that now is in, nil = none.
func (s *sim) cell() *seriesCell {
	if len(s.series) == 0 || s.now >= s.to {
		return nil
	}
	return &s.series[int(float64(s.now)/float64(s.to)*float64(len(s.series)))]
}

// observe notes the state of the system at the end of a decode step.
func (c *seriesCell) observe(s *sim, u *decodeUnit) {
	c.inFlight, c.queued = s.inFlight, s.queued
	for phase, units := range s.units {
		c.up[phase] = 0
		for _, u := range units {
			if u.up {
				c.up[phase]++
			}
		}
	}
	top, sum := int64(0), int64(0)
	for _, kv := range u.KV {
		top, sum = max(top, kv), sum+kv
	}
	c.maxKV += float64(top)
	c.meanKV += float64(sum) / float64(len(u.KV))
}

// ratio is a/b, 0 where there is nothing.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}

// grew says whether a queue became longer while so many came: by more than one in
// fifty of them, and by more than chance would have it.
func grew(by, came float64) bool { return by > came/50+4*math.Sqrt(came) }

// result checks that nothing was lost and sums the run up.
func (s *sim) result() (Result, error) {
	end := s.now
	if err := s.turnTo(max(s.now, s.to)); err != nil {
		return Result{}, err
	}
	if s.fault == forgeToken {
		s.count.generated++
	}
	if err := s.conserved(); err != nil {
		return Result{}, err
	}
	t := float64(s.to-s.from) / second
	r := Result{
		Policy: s.Policy, Seconds: t, End: float64(end) / second,
		Requests: s.count.entered.requests, InputTokens: s.count.entered.input, HitTokens: s.count.cached, OutputTokens: s.count.generated,
		LeftOut: s.leftOut, Failures: s.failures, Returned: s.returned, AgainTokens: s.count.again, Evictions: s.evictions, PeakInFlight: s.peak, Heat: s.heat,
		TokensPerSecond: float64(s.measured.out) / t, InputPerSecond: float64(s.measured.in) / t, ServedPerSecond: float64(s.measured.served) / t,
		TTFT50: s.ttft.quantile(.5), TTFT99: s.ttft.quantile(.99), TPOT50: s.tpot.quantile(.5), TPOT99: s.tpot.quantile(.99),
		PrefillExperts: s.experts[0].MeanImbalance(), DecodeExperts: s.experts[1].MeanImbalance(),
		Moves: s.experts[0].Moves() + s.experts[1].Moves(), MoveSeconds: s.experts[0].MoveSeconds() + s.experts[1].MoveSeconds(),
	}
	r.GoodPerSecond = r.ServedPerSecond * ratio(float64(s.measured.good), float64(s.measured.judged))
	if s.Percentile > 0 {
		r.TTFTAim, r.TPOTAim = s.ttft.quantile(s.Percentile), s.tpot.quantile(s.Percentile)
	}
	a, b := s.taken[0], s.taken[1]
	r.Served = 1 - ratio(float64(max(0, b.queued-a.queued)), float64(b.entered-a.entered))
	if s.PrefillOnly {
		r.Served = 1 - ratio(float64(max(0, b.left-a.left)), float64(b.work-a.work))
	}
	r.Unstable = grew(float64(b.queued-a.queued), float64(b.entered-a.entered))
	prefill, decode := b.prefill-a.prefill, b.decode-a.decode
	r.PrefillIdle = 1 - ratio(b.computed[0]-a.computed[0], prefill)
	r.DecodeIdle = 1 - ratio(b.computed[1]-a.computed[1], decode)
	r.Idle = 1 - ratio(b.computed[0]-a.computed[0]+b.computed[1]-a.computed[1], prefill+decode)
	steps := [2]*int64{&r.PrefillSteps, &r.DecodeSteps}
	for phase, nodes := range [2]int{s.Prefill.Nodes, s.Decode.Nodes} {
		for _, u := range s.units[phase] {
			r.NodeSeconds += u.seconds(s.now) * float64(nodes)
			*steps[phase] += u.steps
		}
	}
	x := b.uneven
	for i := range x {
		x[i] -= a.uneven[i]
	}
	r.PairsImbalance, r.TokensImbalance = ratio(x[0], x[1]), ratio(x[2], x[3])
	r.KVImbalance, r.RequestsImbalance = ratio(x[4], x[5]), ratio(x[6], x[7])
	r.PrefillStep, r.DecodeStep = s.meanStep(0), s.meanStep(1)
	width := float64(s.to) / second / float64(max(len(s.series), 1))
	for i, c := range s.series {
		r.Series = append(r.Series, Point{
			Second: (float64(i) + .5) * width, Output: float64(c.output) / width, Input: float64(c.input) / width,
			InFlight: float64(c.inFlight), Queued: float64(c.queued), PrefillUnits: float64(c.up[0]), DecodeUnit: float64(c.up[1]),
			KVImbalance: ratio(c.maxKV, c.meanKV), TTFT: ratio(float64(c.waited)/second, float64(c.first)),
		})
	}
	return r, nil
}
