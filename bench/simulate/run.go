package simulate

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/bench/simulate/prefixes"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

const (
	second = 1e9
	never  = math.MaxInt64
)

// kvFill is how much of a rank's KV policies fill: what is left is for requests
// to grow.
const kvFill = .95

// sim is a run.
type sim struct {
	Config
	source  Source
	now     int64
	flights []lockstep.Request
	free    []int32
	prefill []*prefillUnit
	decode  []*decodeUnit
	units   [2][]*unitState // of prefill and decode
	store   *prefixes.Store
	experts [2]*experts.Experts
	plan    int // the step in force
	window  int64
	turn    [2]int // round robin over units
	pending workload.Request
	most    int64 // tokens of one request
	leftOut int64
	draw    uint64 // of the requests' hits
	cost    prefill.Cost

	from, to   int64 // measured time
	inFlight   int64
	held       queue // at the API server
	prompts    int64 // in prefill units
	queued     int64
	peak       int64
	ttft, tpot histogram
	count      counts
	measured   struct{ out, in, served, judged, good int64 }
	evictions  int64
	series     []seriesCell
	batch      []int32
	requests   []decode.Request // of batch
	placed     []int
	heat       Heat
	fault      fault
	failed     error    // of a policy
	outages    []outage // to come
	failures   int64    // of ranks
	returned   int64    // requests that lost their KV
	unknown    bool     // the policy has forgotten the requests that are removed
	arrived    []int32  // requests in order, for a tape
	taken      []usage  // at the marks that have passed
	reported   int64
}

// Run simulates a system on the requests of a source. Its errors are a bad
// Config, a bad request, and a *ConservationError where anything was lost.
func Run(c Config, source Source) (Result, error) {
	s, err := newSim(c, source)
	if err != nil {
		return Result{}, err
	}
	return s.run()
}

func newSim(c Config, source Source) (*sim, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	s := &sim{Config: c, outages: outages(c.Failures), source: source, store: prefixes.New(int(c.StoreTokens / int64(c.BlockTokens))), from: int64(c.Warm * second), to: int64(c.Seconds * second), draw: c.Seed}
	var err error
	if c.topics[0] == nil {
		s.setTopics(c.Seconds)
	}
	for i, u := range []*cost.Unit{&s.Prefill, &s.Decode} {
		policy := c.Policy.Experts
		if i == 0 && c.DecodeOnly || i == 1 && c.PrefillOnly {
			policy = experts.Alone // never asked
		}
		first := &s.starts[i][policy]
		if *first == nil {
			if *first, err = experts.New(u, policy, s.topics[i]); err != nil {
				return nil, err
			}
		}
		s.experts[i] = (*first).Clone(u)
	}
	if c.Series > 0 {
		s.series = make([]seriesCell, c.Series)
	}
	if s.cost, err = prefillCost(&s.Prefill, c.MaxTokens); err != nil {
		return nil, err
	}
	s.most = min(s.kvCapacity(), maxTokens)
	if past, ok := source.(interface {
		Warm(int, func([]int64, int64))
	}); ok {
		past.Warm(2*s.store.Capacity(), s.store.Add)
	}
	if err := s.apply(c.Plan[0].Fleet); err != nil {
		return nil, err
	}
	return s, s.enterRunning()
}

// kvCapacity is the KV tokens of a rank that requests may take when they come.
func (s *sim) kvCapacity() int64 { return int64(kvFill * float64(s.Decode.KVRoom())) }

// apply makes the fleet in force: the first units of each phase are active,
// others drain.
func (s *sim) apply(f Fleet) error {
	for i := len(s.prefill); i < f.Prefill; i++ {
		u := &prefillUnit{unitState: unitState{index: i, next: never}, PrefillUnit: lockstep.NewPrefillUnit(s.Prefill.Groups(), &s.flights)}
		var err error
		if u.Former, err = s.newFormer(i); err != nil {
			return err
		}
		u.dead = make([]bool, s.Prefill.Groups())
		u.clock = newPrefillClock(&s.Prefill, s.experts[0], s.MaxTokens, s.Seed<<20+uint64(i))
		s.prefill, s.units[0] = append(s.prefill, u), append(s.units[0], &u.unitState)
	}
	for i := len(s.decode); i < f.Decode; i++ {
		u := &decodeUnit{unitState: unitState{index: i, next: never}}
		n := s.Decode.Ranks()
		u.clock = newDecodeClock(&s.Decode, s.experts[1], s.MaxRequests, float64(s.Queries), s.Seed<<20+uint64(i))
		var err error
		if u.placer, err = s.Policy.Decode.New(decode.Config{Ranks: n, KVCapacity: []int64{s.kvCapacity()}, MaxRequests: s.MaxRequests, Cost: u.clock.decodeCost(s.perStep())}); err != nil {
			return err
		}
		u.dead = make([]bool, n)
		u.DecodeUnit = lockstep.NewDecodeUnit(n, &s.flights)
		s.decode, s.units[1] = append(s.decode, u), append(s.units[1], &u.unitState)
	}
	for i, u := range s.prefill {
		s.activate(&u.unitState, i < f.Prefill, u.queued == 0)
	}
	for i, u := range s.decode {
		s.activate(&u.unitState, i < f.Decode, u.Total == 0 && len(u.wait) == 0)
	}
	return nil
}

// newFormer is the policy of a prefill unit, or the tape of what it did.
func (s *sim) newFormer(unit int) (prefill.Former, error) {
	if s.played != nil {
		return s.played.player(s, unit), nil
	}
	f, err := s.Policy.Prefill.New(prefill.Config{Ranks: s.Prefill.Groups(), MaxTokens: s.MaxTokens * int64(s.Prefill.Ranks()/s.Prefill.Groups()), Cost: s.cost})
	if err == nil && s.record != nil {
		f = &recorder{f, s, unit}
	}
	return f, err
}

// activate puts a unit into service or lets it drain; an empty one leaves.
func (s *sim) activate(u *unitState, active, empty bool) {
	u.active = active
	switch {
	case active && !u.up:
		u.up, u.since = true, s.now
	case !active && u.up && empty:
		u.up = false
		u.alive += s.now - u.since
	}
}

func (s *sim) run() (Result, error) {
	arrival, err := s.fetch()
	if err != nil {
		return Result{}, err
	}
	for {
		next, phase, unit := int64(never), 0, -1
		for p, units := range s.units {
			for i, u := range units {
				if u.next < next {
					next, phase, unit = u.next, p, i
				}
			}
		}
		held := s.Backlog > 0 && s.queued >= int64(s.Backlog) && next < never
		switch {
		case arrival <= next && arrival < never && !held:
			if err := s.turnTo(max(arrival, s.now)); err != nil {
				return Result{}, err
			}
			s.arrive()
			if arrival, err = s.fetch(); err != nil {
				return Result{}, err
			}
		case next == never || s.cut && next >= s.to:
			return s.result()
		default:
			if err := s.turnTo(next); err != nil {
				return Result{}, err
			}
			if phase == 1 {
				s.decodeEvent(s.decode[unit])
			} else {
				s.prefillEvent(s.prefill[unit])
			}
		}
		if s.failed != nil {
			return Result{}, s.failed
		}
		if s.now > s.to {
			arrival = never // what the API server still holds does not enter
		}
	}
}

// fetch takes the next request from the source and returns when it comes.
func (s *sim) fetch() (int64, error) {
	for range mostLeftOut {
		q, more := s.source.Next()
		if !more || q.Arrival > s.Seconds {
			return never, nil
		}
		if q.Input < 1 || q.Output < 1 {
			return 0, fmt.Errorf("request at second %v: %d prompt and %d generated tokens: each must be at least 1", q.Arrival, q.Input, q.Output)
		}
		if int64(q.Input)+int64(q.Output) > s.most {
			s.leftOut++
			continue
		}
		s.pending = q
		if s.PrefillOnly {
			s.pending.Output = 1
		}
		return int64(q.Arrival * second), nil
	}
	return 0, fmt.Errorf("%d requests in a row are longer than a decode GPU's room for KV, %d tokens", mostLeftOut, s.most)
}

// mostLeftOut is how many requests may follow each other of which none fits.
const mostLeftOut = 1 << 16

// turnTo moves the clock, past changes of the fleet and of the experts' loads.
func (s *sim) turnTo(t int64) error {
	for {
		at, what := t+1, 0
		if s.plan+1 < len(s.Plan) {
			if x := int64(s.Plan[s.plan+1].Second * second); x < at {
				at, what = x, 1
			}
		}
		if x := (s.window + 1) * experts.WindowSeconds * second; x < at && x < s.to {
			at, what = x, 2
		}
		if len(s.outages) > 0 && s.outages[0].at < at {
			at, what = s.outages[0].at, 4
		}
		if i := len(s.taken); i < 2 && s.marks()[i] < at {
			at, what = s.marks()[i], 3
		}
		if what == 0 {
			s.now = max(s.now, t)
			if s.Progress != nil && s.now-s.reported > second {
				s.reported = s.now
				s.Progress(min(1, float64(s.now)/float64(s.to)))
			}
			return nil
		}
		s.now = max(s.now, at)
		if what == 3 {
			s.taken = append(s.taken, s.snapshot())
			continue
		}
		if what == 4 {
			o := s.outages[0]
			s.outages = s.outages[1:]
			if err := s.strike(o); err != nil {
				return err
			}
			continue
		}
		if what == 1 {
			s.plan++
			if err := s.apply(s.Plan[s.plan].Fleet); err != nil {
				return err
			}
			continue
		}
		s.window++
		for i, e := range s.experts {
			stall, err := e.Advance(s.meanStep(i))
			if err != nil {
				return err
			}
			if err := s.follow(i, stall); err != nil {
				return err
			}
		}
	}
}

// follow makes units stop for a phase's copies; those with experts of their own plan
// for themselves.
func (s *sim) follow(phase int, stall float64) error {
	for _, u := range s.units[phase] {
		if u.experts == nil {
			u.stall += stall
			continue
		}
		own, err := u.experts.Advance(s.meanStep(phase))
		if err != nil {
			return err
		}
		u.stall += own
	}
	return nil
}

// meanStep is the mean length of a phase's steps so far.
func (s *sim) meanStep(phase int) float64 {
	busy, steps := 0.0, int64(0)
	for _, u := range s.units[phase] {
		busy, steps = busy+u.busy, steps+u.steps
	}
	return ratio(busy, float64(steps))
}

// choose is the unit of a phase that a request goes to: the active one that holds
// least, or the next by turns.
func (s *sim) choose(phase int, even bool) int {
	units, best := s.units[phase], -1
	if !even {
		for best < 0 || !units[best].active {
			best = s.turn[phase] % len(units)
			s.turn[phase]++
		}
		return best
	}
	for i, u := range units {
		if u.active && (best < 0 || u.holds < units[best].holds) {
			best = i
		}
	}
	return best
}

// start schedules the end of a step.
func (s *sim) start(u *unitState, seconds, computed float64) {
	u.busy += seconds
	u.steps++
	u.computed += computed
	u.stalled += u.stall
	u.next = s.now + max(1, int64(math.Round((seconds+u.stall)*second)))
	u.stall = 0
	u.stepping = true
}
