package simulate

import (
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/bench/simulate/lockstep"
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
	case !(a.TTFT > 0 && a.TTFT <= 1e5):
		return fmt.Errorf("ttft: %v is not between 0 and 10^5 seconds", a.TTFT)
	case !(a.TPOT > 0 && a.TPOT <= 1e5):
		return fmt.Errorf("tpot: %v is not between 0 and 10^5 seconds", a.TPOT)
	case !(a.Percentile > 0 && a.Percentile < 1):
		return fmt.Errorf("percentile: %v is not between 0 and 1", a.Percentile)
	}
	return nil
}

// Trial is a fleet and how it did.
type Trial struct {
	Fleet     Fleet
	PrefillTP int // GPUs that share attention in prefill
	Result
	Holds bool // it keeps the aim
}

// Sized is a fleet for an aim, and of the smallest one what one unit less of each
// phase does, on the same requests: it does not keep the aim.
type Sized struct {
	Aim
	Trial
	LessPrefill, LessDecode Trial // Fleet 0 where there is no unit less
	MeanInput, MeanOutput   float64
	GPUs                    int
	USDPerMillion           float64 // a million generated tokens, at so much a GPU and hour
	Searched                int     // runs
}

// Check simulates a fleet under an aim, as Smallest does: what it says of the fleet
// that it finds, and of a unit less, Check says too.
func Check(c Config, t Traffic, a Aim, f Fleet, usdHour float64) (Sized, error) {
	s, _, err := newSizing(c, t, a)
	if err != nil {
		return Sized{}, err
	}
	if s.teams, err = s.quickEnough(); err != nil {
		s.teams = []int{max(1, s.config.Prefill.TP)} // the last that was looked at
	}
	out, err := s.whole(f)
	return s.priced(Sized{Trial: out}, usdHour), err
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
	if c.topics[0] == nil {
		c.setTopics(c.Seconds)
	}
	p, err := newPace(&c, t)
	if err != nil {
		return nil, demand{}, err
	}
	d := sample(t)
	return &sizing{config: c, traffic: t, aim: a, pace: p, demand: d, top: room(&c.Decode, p.kv, c.MaxRequests), known: map[Fleet]Trial{}, first: map[team]Trial{}}, d, nil
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

// Smallest searches the fewest units of each phase that keep an aim: of each phase
// alone first, on a few units, then of prefill alone on all of them, and from there of
// both together. c says all but the fleet.
func Smallest(c Config, t Traffic, a Aim, usdHour float64) (Sized, error) {
	s, _, err := newSizing(c, t, a)
	if err != nil {
		return Sized{}, err
	}
	if x := s.pace.tpot(1); x > a.TPOT {
		return Sized{Aim: a}, &ImpossibleError{"time a token", x, a.TPOT}
	}
	f := Fleet{}
	if f.Prefill, err = s.prefill(); err != nil {
		return Sized{Aim: a}, err
	}
	if f.Decode, err = s.fewest(s.leastDecode(), cfgDecode); err != nil {
		return Sized{Aim: a}, err
	}
	if f, err = s.begin(f); err != nil {
		return Sized{Aim: a}, err
	}
	out, err := s.settle(f)
	return s.priced(out, usdHour), err
}

// priced says of a fleet what it takes.
func (s *sizing) priced(out Sized, usdHour float64) Sized {
	out.Aim, out.MeanInput, out.MeanOutput, out.Searched = s.aim, s.demand.input, s.demand.output, s.runs
	out.GPUs = out.Fleet.Prefill*s.config.Prefill.Ranks() + out.Fleet.Decode*s.config.Decode.Ranks()
	out.USDPerMillion = float64(out.GPUs) * usdHour / 3600 / (s.aim.Rate * s.demand.output) * 1e6
	return out
}

// quickEnough is how many GPUs may share attention in prefill, the most first: what
// Prefill.TP says, and where that is 0 the two least with which the longest prompts
// are in time when nothing else is there; an *ImpossibleError where none are.
func (s *sizing) quickEnough() ([]int, error) {
	all := []int{s.config.Prefill.TP}
	if all[0] == 0 {
		for all[0] = 1; 2*all[len(all)-1] <= s.config.Prefill.GPU.Node; {
			all = append(all, 2*all[len(all)-1])
		}
	}
	var out []int
	var impossible error
	for _, tp := range all {
		unit := s.config.Prefill
		unit.TP = tp
		if unit.Validate() != nil || len(out) == 2 {
			continue
		}
		s.config.Prefill = unit
		if alone := s.alone(); alone > s.aim.TTFT {
			impossible = &ImpossibleError{"time to the first token", alone, s.aim.TTFT}
			continue
		}
		out = append([]int{tp}, out...)
	}
	if len(out) == 0 {
		return nil, impossible
	}
	return out, nil
}

// prefill is the fewest prefill units, on a few, with attention shared by as many
// GPUs as take fewest, which are then config's.
func (s *sizing) prefill() (best int, err error) {
	if s.teams, err = s.quickEnough(); err != nil {
		return 0, err
	}
	quick := 0
	for _, tp := range s.teams {
		s.config.Prefill.TP = tp
		n, e := s.fewest(s.leastPrefill(), cfgPrefill)
		if _, impossible := e.(*ImpossibleError); impossible {
			err = e
			continue
		}
		if e != nil {
			return 0, e
		}
		if best == 0 || n < best {
			best, quick = n, tp
		}
	}
	if best > 0 {
		s.config.Prefill.TP, err = quick, nil
	}
	return best, err
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
			cached = int64(draw.hit(&lockstep.Request{Prompt: int32(q.Input), Input: int32(q.Input)}))
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
	teams   []int // how many GPUs may share attention in prefill
	known   map[Fleet]Trial
	first   map[team]Trial // of prefill alone
}

// team is a fleet and the GPUs that share attention in prefill.
type team struct {
	Fleet
	tp int
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

// run simulates a fleet, or one phase of it, at so many requests a second, for as long
// as they come.
func (s *sizing) run(f Fleet, only phaseOnly, rate float64) (Trial, error) {
	c := s.config
	c.Plan = []PlanStep{{0, f}}
	c.cut = true
	c.PrefillOnly, c.DecodeOnly = only == cfgPrefill || only == prompting, only == cfgDecode
	if only != cfgPrefill {
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
	if !c.PrefillOnly {
		t.Holds = t.Holds && r.TPOTAim <= s.aim.TPOT
	}
	return t, nil
}

// pastLives is how many times the mean life requests may have begun before the run.
const pastLives = 8

// phase runs one phase at the share of the rate that a few of its n units have, or n
// where those are fewer.
func (s *sizing) phase(n int, only phaseOnly) (Trial, error) {
	const few = 4
	units := min(n, few)
	f := Fleet{units, 1}
	if only == cfgDecode {
		f = Fleet{1, units}
	}
	return s.run(f, only, s.aim.Rate*float64(units)/float64(n))
}

// fewest is the fewest units of one phase, from least on, of which a few keep their
// part of the aim: steps that double, then halving between.
func (s *sizing) fewest(least int, only phaseOnly) (int, error) {
	fails, holds, step := least-1, 0, max(1, least/8)
	best := math.Inf(1)
	for n := least; ; step *= 2 {
		t, err := s.phase(n, only)
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
		t, err := s.phase(n, only)
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

// both stands for the whole system, prompting for its prefill alone on the same
// requests: first tokens come as in the whole, where none returns from decode.
const (
	both phaseOnly = -1 - iota
	prompting
)

// prompts runs a fleet's prefill, once.
func (s *sizing) prompts(f Fleet, tp int) (Trial, error) {
	at := team{f, tp}
	t, ok := s.first[at]
	if ok {
		return t, nil
	}
	s.config.Prefill.TP = tp
	t, err := s.run(f, prompting, s.aim.Rate)
	if err == nil {
		s.first[at] = t
	}
	return t, err
}

// more is how many times a fleet grows.
const more = 8

// begin grows a fleet's prefill, with config's attention, until it is in time alone:
// fewer would not do for both phases either, and a run of it takes a small part of
// theirs.
func (s *sizing) begin(f Fleet) (Fleet, error) {
	for range more {
		if t, err := s.prompts(f, s.config.Prefill.TP); err != nil || t.Holds {
			return f, err
		}
		f.Prefill++
	}
	return f, nil
}

// share is how many GPUs share attention in a fleet's prefill: as many as may, where
// first tokens are late then fewer, and the number that is least late where all are.
func (s *sizing) share(f Fleet) (int, error) {
	best, least := s.teams[0], math.Inf(1)
	for _, tp := range s.teams {
		if len(s.teams) == 1 {
			break
		}
		t, err := s.prompts(f, tp)
		if err != nil || t.Holds {
			return tp, err
		}
		if t.TTFTAim < least {
			best, least = tp, t.TTFTAim
		}
	}
	return best, nil
}

// whole runs a fleet, once, with attention shared as its prefill alone asks for.
func (s *sizing) whole(f Fleet) (Trial, error) {
	if t, ok := s.known[f]; ok {
		return t, nil
	}
	tp, err := s.share(f)
	if err != nil {
		return Trial{}, err
	}
	s.config.Prefill.TP = tp
	t, err := s.run(f, both, s.aim.Rate)
	if err != nil {
		return t, err
	}
	t.PrefillTP = tp
	s.known[f] = t
	return t, nil
}

// settle grows a fleet until it keeps the aim, then takes units away for as long as
// it does without.
func (s *sizing) settle(f Fleet) (out Sized, err error) {
	for range more {
		if out.Trial, err = s.whole(f); err != nil || out.Holds {
			break
		}
		if out.TPOTAim > s.aim.TPOT {
			f.Decode++
		}
		if out.TTFTAim > s.aim.TTFT || out.TPOTAim <= s.aim.TPOT {
			f.Prefill++
		}
	}
	if err == nil && !out.Holds {
		err = fmt.Errorf("no fleet was found: %d prefill and %d decode units do not keep the aim together", f.Prefill, f.Decode)
	}
	for fewer := true; fewer && err == nil; {
		fewer = false
		for _, x := range []struct {
			less *Trial
			take Fleet
		}{{&out.LessPrefill, Fleet{1, 0}}, {&out.LessDecode, Fleet{0, 1}}} {
			*x.less = Trial{}
			g := Fleet{out.Fleet.Prefill - x.take.Prefill, out.Fleet.Decode - x.take.Decode}
			if g.Prefill < 1 || g.Decode < 1 || err != nil {
				continue
			}
			if *x.less, err = s.whole(g); x.less.Holds {
				out.Trial, fewer = *x.less, true
			}
		}
	}
	return out, err
}
