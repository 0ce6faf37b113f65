package simulate

import (
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/prefill"
)

// Aim is what a fleet shall do: serve so many requests a second, the share
// Percentile of them with their first token within TTFT seconds and each further
// one within TPOT.
type Aim struct {
	Rate, TTFT, TPOT, Percentile float64
}

// Validate returns an error that names the field.
func (a *Aim) Validate() error {
	switch {
	case !(a.Rate > 0 && a.Rate <= 1e6):
		return fmt.Errorf("rate: %v is not between 0 and 10^6 requests a second", a.Rate)
	case !(a.TTFT > 0 && a.TTFT <= 1e5) || !(a.TPOT > 0 && a.TPOT <= 1e5):
		return fmt.Errorf("aim: first token within %v s and others within %v s: both must be above 0", a.TTFT, a.TPOT)
	case !(a.Percentile > 0 && a.Percentile < 1):
		return fmt.Errorf("percentile: %v is not between 0 and 1", a.Percentile)
	}
	return nil
}

// Trial is a fleet and how it did.
type Trial struct {
	Fleet Fleet
	Result
	Holds bool // it keeps the aim
}

// Sized is the smallest fleet for an aim, and what one unit less of each phase
// does: it does not keep it.
type Sized struct {
	Aim
	Trial
	LessPrefill, LessDecode Trial // Fleet 0 where there is no unit less
	MeanInput, MeanOutput   float64
	PrefillTP               int // GPUs that share attention in prefill
	GPUs                    int
	USDPerMillion           float64 // a million generated tokens, at so much a GPU and hour
	Searched                int     // runs
}

// Check simulates a fleet under an aim, as Smallest does.
func Check(c Config, t Traffic, a Aim, f Fleet) (Trial, error) {
	s, _, err := newSizing(c, t, a)
	if err != nil {
		return Trial{}, err
	}
	return s.run(f, both, a.Rate)
}

func newSizing(c Config, t Traffic, a Aim) (*sizing, demand, error) {
	if err := a.Validate(); err != nil {
		return nil, demand{}, err
	}
	c.TTFT, c.TPOT, c.Percentile = a.TTFT, a.TPOT, a.Percentile
	c.Plan = []PlanStep{{0, Fleet{1, 1}}}
	if err := c.Validate(); err != nil {
		return nil, demand{}, err
	}
	c.setTopics(c.Seconds)
	p, err := newPace(&c, t)
	if err != nil {
		return nil, demand{}, err
	}
	d := sample(t)
	return &sizing{config: c, traffic: t, aim: a, pace: p, demand: d, top: room(&c.Decode, p.kv, c.MaxRequests)}, d, nil
}

// ImpossibleError says that no fleet keeps an aim, however large.
type ImpossibleError struct {
	Phase string
	Best  float64 // seconds at the percentile, at its best
	Aim   float64
}

func (e *ImpossibleError) Error() string {
	return fmt.Sprintf("no fleet keeps the aim: %s of %.3g s at best, %.3g s is asked for", e.Phase, e.Best, e.Aim)
}

// Smallest searches the fewest units of each phase that keep an aim. The phases
// are searched apart, on the same requests, and so is one unit less of each; the
// fleet that is found is then simulated as a whole. c says all but the fleet.
func Smallest(c Config, t Traffic, a Aim, usdHour float64) (Sized, error) {
	s, d, err := newSizing(c, t, a)
	if err != nil {
		return Sized{}, err
	}
	out := Sized{Aim: a, MeanInput: d.input, MeanOutput: d.output}
	if x := s.pace.tpot(1); x > a.TPOT {
		return out, &ImpossibleError{"time a token", x, a.TPOT}
	}
	f := Fleet{}
	if f.Prefill, out.LessPrefill, err = s.prefill(); err != nil {
		return out, err
	}
	if f.Decode, out.LessDecode, err = s.fewest(s.leastDecode(), cfgDecode); err != nil {
		return out, err
	}
	if err := s.settle(&out, f); err != nil {
		return out, err
	}
	out.Searched, out.PrefillTP = s.runs, max(1, s.config.Prefill.TP)
	out.GPUs = out.Fleet.Prefill*c.Prefill.Ranks() + out.Fleet.Decode*c.Decode.Ranks()
	out.USDPerMillion = float64(out.GPUs) * usdHour / 3600 / (a.Rate * d.output) * 1e6
	return out, nil
}

// prefill is the fewest prefill units, with attention shared by as few GPUs as the
// longest prompts allow: where TP is 0, the two least that could do are tried.
func (s *sizing) prefill() (int, Trial, error) {
	own := s.config.Prefill.TP > 0
	var impossible error
	best, at, tried := 0, 0, 0
	for tp := 1; tp <= s.config.Prefill.GPU.Node && tried < 2; tp *= 2 {
		if own && tp > 1 {
			break
		}
		if !own {
			s.config.Prefill.TP = tp
		}
		if s.config.Prefill.Validate() != nil {
			continue
		}
		if alone := s.alone(); alone > s.aim.TTFT {
			impossible = &ImpossibleError{"time to the first token", alone, s.aim.TTFT}
			continue
		}
		tried++
		n, err := s.onFew(s.leastPrefill(), cfgPrefill)
		if _, ok := err.(*ImpossibleError); ok {
			impossible = err
			continue
		}
		if err != nil {
			return 0, Trial{}, err
		}
		if best == 0 || n < best {
			best, at = n, s.config.Prefill.TP
		}
	}
	if best == 0 {
		return 0, Trial{}, impossible
	}
	s.config.Prefill.TP = at
	return s.onAll(best, cfgPrefill)
}

// alone is the seconds that the aim's percentile of prompts takes with a rank to
// itself.
func (s *sizing) alone() float64 {
	k, err := prefillCost(&s.config.Prefill, s.config.MaxTokens)
	if err != nil {
		return math.Inf(1)
	}
	source := s.traffic.New(1e4)
	var all []float64
	draw := sim{Config: s.config, draw: s.config.Seed}
	for range 1 << 13 {
		q, ok := source.Next()
		if !ok {
			break
		}
		cached := int64(0)
		if q.Blocks == nil {
			cached = int64(draw.hit(&flight{prompt: int32(q.Input), input: int32(q.Input)}))
		}
		n := int64(q.Input) - cached
		all = append(all, k.Step+float64(k.Token*float64(n))+float64(k.Pair*float64(prefill.WorkOf(n, cached).Pairs)))
	}
	slices.Sort(all)
	return all[int(s.aim.Percentile*float64(len(all)-1))]
}

// sizing is a search under way.
type sizing struct {
	config  Config
	traffic Traffic
	aim     Aim
	pace    *pace
	demand  demand
	top     int
	runs    int
}

// leastPrefill and leastDecode are fewer units than can serve the rate, by the cost
// model: with all even and, in prefill, as much cached as Hit says.
func (s *sizing) leastPrefill() int {
	cached := s.config.Hit
	each := s.config.evenRate(s.traffic) / 1.2 / (1 - min(.95, cached))
	return max(1, int(.6*s.aim.Rate/each))
}

func (s *sizing) leastDecode() int {
	n := most(s.top, func(n int) bool { return s.pace.tpot(n) <= s.aim.TPOT })
	each := float64(n*s.config.Decode.Ranks()) / (s.demand.output * s.pace.tpot(n))
	return max(1, int(.95*s.aim.Rate/each))
}

// run simulates a fleet, or one phase of it, at so many requests a second.
func (s *sizing) run(f Fleet, only phaseOnly, rate float64) (Trial, error) {
	c := s.config
	c.Plan = []PlanStep{{0, f}}
	c.PrefillOnly, c.DecodeOnly = only == cfgPrefill, only == cfgDecode
	if !c.PrefillOnly {
		c.PastTPOT = s.pace.settle(rate, s.demand.output, f.Decode*c.Decode.Ranks(), s.top)
		c.Past = min(pastLives*s.demand.output*c.PastTPOT, maxSeconds)
	}
	s.runs++
	r, err := Run(c, s.traffic.New(rate))
	if err != nil {
		return Trial{}, err
	}
	t := Trial{Fleet: f, Result: r, Holds: !r.Unstable}
	if only != cfgDecode {
		t.Holds = t.Holds && r.TTFTAim <= s.aim.TTFT
	}
	if only != cfgPrefill {
		t.Holds = t.Holds && r.TPOTAim <= s.aim.TPOT
	}
	return t, nil
}

// pastLives is how many times the mean life requests may have begun before the run.
const pastLives = 8

// phase runs one phase on n units; few are as many of them as tell about all, at
// their share of the rate.
func (s *sizing) phase(n int, only phaseOnly, all bool) (Trial, error) {
	const few = 4
	units, rate := n, s.aim.Rate
	if !all && n > few {
		units, rate = few, s.aim.Rate*few/float64(n)
	}
	f := Fleet{units, 1}
	if only == cfgDecode {
		f = Fleet{1, units}
	}
	return s.run(f, only, rate)
}

// fewest is the fewest units of one phase that keep its part of the aim, from
// least on: steps that double, then halving between, all on a few units; then
// one by one on all of them.
func (s *sizing) fewest(least int, only phaseOnly) (holds int, less Trial, err error) {
	if holds, err = s.onFew(least, only); err != nil {
		return 0, less, err
	}
	return s.onAll(holds, only)
}

// onFew is fewest on a few units.
func (s *sizing) onFew(least int, only phaseOnly) (int, error) {
	fails, holds, step := least-1, 0, max(1, least/8)
	best := math.Inf(1)
	for n := least; ; step *= 2 {
		t, err := s.phase(n, only, false)
		if err != nil {
			return 0, err
		}
		if t.Holds {
			holds = n
			break
		}
		if !t.Unstable {
			// More units no longer help: the longest request alone takes that long.
			at, phase, aim := t.TPOTAim, "time a token", s.aim.TPOT
			if only == cfgPrefill {
				at, phase, aim = t.TTFTAim, "time to the first token", s.aim.TTFT
			}
			if at > .97*best {
				return 0, &ImpossibleError{phase, best, aim}
			}
			best = at
		}
		fails = n
		if n += step; n > maxUnits {
			return 0, fmt.Errorf("units: more than %d are needed", maxUnits)
		}
	}
	for fails+1 < holds && fails+holds >= 2 {
		n := (fails + holds) / 2
		t, err := s.phase(n, only, false)
		if err != nil {
			return 0, err
		}
		if t.Holds {
			holds = n
		} else {
			fails = n
		}
	}
	return holds, nil
}

// onAll is fewest on all units, from what a few say: as many more as they need, or
// one less while that will do.
func (s *sizing) onAll(holds int, only phaseOnly) (int, Trial, error) {
	var less Trial
	t, err := s.phase(holds, only, true)
	if err != nil {
		return 0, less, err
	}
	for !t.Holds {
		holds, less = holds+1, t
		if t, err = s.phase(holds, only, true); err != nil {
			return 0, less, err
		}
	}
	for less.Fleet == (Fleet{}) && holds > 1 {
		if t, err = s.phase(holds-1, only, true); err != nil {
			return 0, less, err
		}
		if !t.Holds {
			less = t
			break
		}
		holds--
	}
	return holds, less, nil
}

// both stands for the whole system.
const both phaseOnly = -1

// settle runs the whole fleet, with a unit more of a phase where both together
// need it: then what the phase alone did with one less says nothing, and the whole
// is run with it.
func (s *sizing) settle(out *Sized, f Fleet) error {
	const more = 8
	grown := Fleet{}
	for range more {
		t, err := s.run(f, both, s.aim.Rate)
		if err != nil {
			return err
		}
		if out.Trial = t; t.Holds {
			break
		}
		if t.TPOTAim > s.aim.TPOT {
			f.Decode, grown.Decode = f.Decode+1, grown.Decode+1
		}
		if t.TTFTAim > s.aim.TTFT || t.TPOTAim <= s.aim.TPOT {
			f.Prefill, grown.Prefill = f.Prefill+1, grown.Prefill+1
		}
	}
	if !out.Holds {
		return fmt.Errorf("no fleet was found: %d prefill and %d decode units do not keep the aim together", f.Prefill, f.Decode)
	}
	for _, x := range []struct {
		less  *Trial
		take  Fleet
		grown int
	}{{&out.LessPrefill, Fleet{1, 0}, grown.Prefill}, {&out.LessDecode, Fleet{0, 1}, grown.Decode}} {
		g := Fleet{out.Fleet.Prefill - x.take.Prefill, out.Fleet.Decode - x.take.Decode}
		if g.Prefill < 1 || g.Decode < 1 {
			*x.less = Trial{}
			continue
		}
		if x.grown == 0 {
			x.less.Fleet = g
			continue
		}
		t, err := s.run(g, both, s.aim.Rate)
		if err != nil {
			return err
		}
		if *x.less = t; t.Holds { // one unit less does after all
			out.Trial, *x.less = t, Trial{}
		}
	}
	return nil
}
