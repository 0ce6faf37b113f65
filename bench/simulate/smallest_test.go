package simulate

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moelb/moelb/internal/long"
)

// TestSmallest: the fleet that is found keeps the aim, and one unit less of either
// phase does not, in the search and asked for alone; a tighter aim takes no fewer GPUs.
func TestSmallest(t *testing.T) {
	type system struct {
		Config
		Traffic
		rate, tpot float64
		aims       []float64 // of the first token, the looser first
	}
	all := []system{{planned(brief(ours(), 1.2)), Traffic{New: func(rate float64) Source { return tinyRequests(rate, 1) }}, 6000, .005, []float64{.05}}}
	if long.Tests() {
		all[0].aims = []float64{.08, .05, .025}
		c := Default(ours())
		c.Seconds, c.Warm, c.MaxRequests = 20, 5, 512
		all = append(all, system{c, builtIn(), 150, .05, []float64{3, 2}})
	}
	for i, x := range all {
		gpus, rate := 0, x.rate
		for _, ttft := range x.aims {
			s, err := Smallest(x.Config, x.Traffic, Aim{Rate: rate, TTFT: ttft, TPOT: x.tpot, Percentile: .99}, 2)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%.0f/s, TTFT %v: %+v, %d GPUs, $%.3f, TTFT %.2f TPOT %.4f good %.0f, %d runs; less prefill %+v unstable %v TTFT %.2f; less decode unstable %v TPOT %.4f", rate, ttft, s.Fleet, s.GPUs, s.USDPerMillion, s.TTFTAim, s.TPOTAim, s.GoodPerSecond, s.Searched, s.LessPrefill.Fleet, s.LessPrefill.Unstable, s.LessPrefill.TTFTAim, s.LessDecode.Unstable, s.LessDecode.TPOTAim)
			single := s.Fleet.Decode == 1
			if !s.Holds || s.LessPrefill.Holds || s.LessDecode.Holds || s.LessPrefill.Fleet.Prefill != s.Fleet.Prefill-1 || s.LessDecode.Fleet.Decode != s.Fleet.Decode-1 && !single {
				t.Errorf("%.0f/s: %+v does %v, one unit less %v and %v", rate, s.Fleet, s.Holds, s.LessPrefill.Holds, s.LessDecode.Holds)
			}
			if s.TTFTAim > ttft || s.TPOTAim > x.tpot || s.GoodPerSecond < .9*rate {
				t.Errorf("%.0f/s: TTFT %v, TPOT %v, %v good a second", rate, s.TTFTAim, s.TPOTAim, s.GoodPerSecond)
			}
			if s.GPUs < gpus {
				t.Errorf("a tighter aim takes %d GPUs, a looser one %d", s.GPUs, gpus)
			}
			gpus = s.GPUs
			// Asked for alone, each fleet does what the search says.
			fleets := []Trial{s.Trial, s.LessPrefill, s.LessDecode}
			if i > 0 {
				fleets = fleets[:1] // of larger units, which take longer
			}
			for _, want := range fleets {
				if want.Fleet == (Fleet{}) {
					continue
				}
				got, err := Check(x.Config, x.Traffic, s.Aim, want.Fleet, 2)
				if err != nil {
					t.Fatal(err)
				}
				if d := cmp.Diff(want, got.Trial, alike); d != "" || got.MeanOutput != s.MeanOutput {
					t.Errorf("%+v alone: %s", want.Fleet, d)
				}
				if want.Fleet == s.Fleet && (got.GPUs != s.GPUs || got.USDPerMillion != s.USDPerMillion) {
					t.Errorf("%+v alone: %d GPUs at $%v, by the search %d at $%v", want.Fleet, got.GPUs, got.USDPerMillion, s.GPUs, s.USDPerMillion)
				}
			}
		}
	}
	var impossible *ImpossibleError
	c, traffic := all[0].Config, all[0].Traffic
	if _, err := Smallest(c, traffic, Aim{Rate: 100, TTFT: 2, TPOT: .0001, Percentile: .99}, 2); !errors.As(err, &impossible) {
		t.Errorf("a token in a tenth of a millisecond: %v", err)
	}
	for _, a := range []Aim{{0, 2, .05, .99}, {10, 0, .05, .99}, {10, 2, -1, .99}, {10, 2, .05, 1}} {
		if _, err := Smallest(c, traffic, a, 2); err == nil {
			t.Errorf("%+v accepted", a)
		}
	}
}

// TestTeams: attention is shared by as many GPUs as are quick enough for the longest
// prompts, the most first, and by fewer where a fleet is in time with those only; of
// fleets that are late either way the less late is told.
func TestTeams(t *testing.T) {
	traffic := Traffic{New: func(rate float64) Source { return tinyRequests(rate, 1) }}
	for i, x := range []struct {
		rate, ttft float64
		own, tp    int
		holds      bool
	}{{3000, .05, 0, 2, true}, {6000, .065, 0, 1, true}, {6000, .05, 0, 1, false}, {6000, .065, 2, 2, false}} {
		if i == 3 && !long.Tests() {
			break
		}
		c := planned(brief(ours(), 1.2))
		c.Prefill.TP = x.own
		s, err := Check(c, traffic, Aim{Rate: x.rate, TTFT: x.ttft, TPOT: .005, Percentile: .99}, Fleet{1, 3}, 2)
		if err != nil {
			t.Fatal(err)
		}
		if s.PrefillTP != x.tp || s.Holds != x.holds {
			t.Errorf("%v a second in %v s, TP %d: shared by %d, TTFT %v, holds %v; want %d, %v", x.rate, x.ttft, x.own, s.PrefillTP, s.TTFTAim, s.Holds, x.tp, x.holds)
		}
	}
}

// TestSettle: from too many units and from too few of either phase the same fleet is
// settled on.
func TestSettle(t *testing.T) {
	traffic := Traffic{New: func(rate float64) Source { return tinyRequests(rate, 1) }}
	s, _, err := newSizing(planned(brief(ours(), .8)), traffic, Aim{Rate: 8000, TTFT: .05, TPOT: .005, Percentile: .99})
	if err != nil {
		t.Fatal(err)
	}
	s.teams = []int{1}
	for _, from := range []Fleet{{3, 4}, {1, 2}} {
		got, err := s.settle(from)
		if err != nil {
			t.Fatal(err)
		}
		if want := (Fleet{2, 3}); got.Fleet != want || !got.Holds || got.LessPrefill.Fleet != (Fleet{1, 3}) || got.LessPrefill.Holds || got.LessDecode.Fleet != (Fleet{2, 2}) || got.LessDecode.Holds {
			t.Errorf("from %v to %v, holds %v; one unit less %v %v, %v %v", from, got.Fleet, got.Holds, got.LessPrefill.Fleet, got.LessPrefill.Holds, got.LessDecode.Fleet, got.LessDecode.Holds)
		}
	}
	if s.runs != len(s.known) {
		t.Errorf("%d runs of %d fleets", s.runs, len(s.known))
	}
}

// TestCut: a run that ends with its requests measures what one that serves them to
// their end does, and prefill alone has the first tokens of the whole; what is lost on
// the way is found.
func TestCut(t *testing.T) {
	traffic := Traffic{New: func(rate float64) Source { return tinyRequests(rate, 1) }}
	s, _, err := newSizing(planned(brief(ours(), .8)), traffic, Aim{Rate: 8000, TTFT: .05, TPOT: .005, Percentile: .99})
	if err != nil {
		t.Fatal(err)
	}
	s.teams = []int{1}
	f := Fleet{2, 3}
	cut, err := s.whole(f)
	if err != nil {
		t.Fatal(err)
	}
	c := s.config
	c.Plan = []PlanStep{{0, f}}
	c.PastTPOT = s.pace.settle(8000, s.demand.output, 3*c.Decode.Ranks(), s.top)
	c.Past = pastLives * s.demand.output * c.PastTPOT
	all, err := Run(c, traffic.New(8000))
	if err != nil {
		t.Fatal(err)
	}
	type figures [11]float64
	of := func(r *Result) figures {
		return figures{r.TTFT50, r.TTFTAim, r.TPOT50, r.TPOTAim, r.GoodPerSecond, r.TokensPerSecond, r.InputPerSecond, r.ServedPerSecond, r.Served, r.Idle, r.KVImbalance}
	}
	if got, want := of(&cut.Result), of(&all); got != want || cut.Unstable != all.Unstable || cut.End >= all.End || cut.DecodeSteps >= all.DecodeSteps {
		t.Errorf("cut at %.2f s after %d steps %v, at its end, %.2f s and %d steps, %v", cut.End, cut.DecodeSteps, got, all.End, all.DecodeSteps, want)
	}
	alone, err := s.prompts(f, 1)
	if err != nil || alone.TTFTAim != cut.TTFTAim || alone.DecodeSteps != 0 {
		t.Errorf("prefill alone: first tokens within %v s, of the whole %v; %v", alone.TTFTAim, cut.TTFTAim, err)
	}
	runs := s.runs
	if got, err := s.begin(Fleet{1, 3}); got != f || err != nil || s.runs != runs+1 {
		t.Errorf("begins with %v after %d more runs, %v", got, s.runs-runs, err)
	}
	c.cut, c.Past = true, 0
	for _, x := range []fault{dropRequest, twice} {
		run, err := newSim(c, traffic.New(8000))
		if err != nil {
			t.Fatal(err)
		}
		run.fault = x
		var lost *ConservationError
		if _, err := run.run(); !errors.As(err, &lost) {
			t.Errorf("fault %d was not found: %v", x, err)
		}
	}
}
