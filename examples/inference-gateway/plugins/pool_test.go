package plugins

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/long"
)

// TestRollingRestart restarts every endpoint of a unit under load, a few at a time: it
// leaves the pool, what it runs is cut off and asked for again, and a new one comes in
// its place. No request is lost, and balance is in the end as it was, on the mean of
// some units: that of one differs by as much from one time to the next.
func TestRollingRestart(t *testing.T) {
	const units = 4
	var before, count, after, countAfter float64
	for seed := range uint64(units) {
		b, n, a, m := rollingRestart(t, 71+seed)
		before, count, after, countAfter = before+b/units, count+n/units, after+a/units, countAfter+m/units
	}
	t.Logf("KV %.3f, requests %.3f before; KV %.3f, requests %.3f after", before, count, after, countAfter)
	if after > before+0.03 || countAfter > count+0.03 {
		t.Error("balance is not what it was")
	}
}

// rollingRestart says how even a unit is before and after it.
func rollingRestart(t *testing.T, seed uint64) (before, count, after, countAfter float64) {
	t.Helper()
	ranks, together, down := 24, 2, 4
	if long.Tests() {
		ranks, together, down = 144, 4, 10
	}
	s := newSite(t, seed, ", kvCapacity: 550000", ranks)
	s.batch = batch
	s.run(150)
	before, count = s.run(50)
	old := s.units[0]
	for from := 0; from < ranks; from += together {
		group := old[from:min(from+together, ranks)]
		for _, g := range group {
			s.remove(g)
			s.fail(g)
		}
		s.run(down)
		for range group {
			s.units[0] = append(s.units[0], s.add("unit-0"))
		}
		s.run(down)
	}
	s.units[0] = s.units[0][ranks:]
	if s.refused != 0 || s.lost != 0 {
		t.Errorf("of %d requests %d were refused, %d sent to endpoints that do not exist", s.sent, s.refused, s.lost)
	}
	s.run(150)
	after, countAfter = s.run(50)
	if _, unit := s.picker.ledger.Stats(); len(unit.Ranks) > ranks+2*together {
		t.Errorf("%d ranks: those of endpoints that are gone are not used again", len(unit.Ranks))
	}
	s.finish()
	return before, count, after, countAfter
}

// waste is the mean share of a step for which the mean rank of a unit waits.
func (s *site) waste(steps int) float64 {
	c := decode.DeepSeekV3H800()
	sum, n := 0.0, 0
	for range steps {
		s.tick()
		for _, unit := range s.units {
			kv, count := 0, 0
			for _, g := range unit {
				kv, count = kv+s.rank[g].kv, count+len(s.rank[g].jobs)
			}
			ranks := float64(len(unit))
			took, even := s.took(unit), c.Step+c.KV*float64(kv)/ranks+c.Request*float64(count)/ranks
			sum += (took - even) / took
			n++
		}
	}
	return sum / float64(n)
}

// took is what a unit's step takes, in seconds.
func (s *site) took(unit []int) float64 {
	c := decode.DeepSeekV3H800()
	kv, count := 0, 0
	for _, g := range unit {
		kv, count = max(kv, s.rank[g].kv), max(count, len(s.rank[g].jobs))
	}
	return c.Step + c.KV*float64(kv) + c.Request*float64(count)
}

// TestUnits: three units in a pool, of different sizes, told apart by a label, waste
// as little as with one router that knows all their loads and takes the better of all
// ranks.
func TestUnits(t *testing.T) {
	units := []int{16, 12, 8}
	if long.Tests() {
		units = []int{48, 32, 24}
	}
	var waste [2]float64
	var placed [2]int
	for one := range waste {
		parameters := ", kvCapacity: 550000"
		if one == 0 {
			parameters += ", unitLabel: moelb/role" // by which the pool names them
		}
		s := newSite(t, 72, parameters, units...)
		s.batch = batch
		s.run(150)
		waste[one] = s.waste(100)
		placed[one] = s.sent - s.refused
		least, most := 0.0, 0.0
		for _, unit := range s.units {
			took := s.took(unit)
			if least == 0 || took < least {
				least = took
			}
			most = max(most, took)
		}
		t.Logf("the units' steps take from %.1f to %.1f ms", 1000*least, 1000*most)
		if most > 1.08*least {
			t.Errorf("the units' steps take from %.1f to %.1f ms", 1000*least, 1000*most)
		}
		s.finish()
	}
	t.Logf("waste %.2f%% by quotes, %.2f%% with one ledger over all", 100*waste[0], 100*waste[1])
	if waste[0] > waste[1]+0.003 || placed[0] < placed[1]-placed[1]/1000 {
		t.Errorf("%.2f%% are wasted by quotes, %.2f%% with one ledger over all; %d and %d requests placed", 100*waste[0], 100*waste[1], placed[0], placed[1])
	}
}

// TestDrain: a unit whose endpoints are labelled so gets nothing more, keeps what it
// runs, and comes back; where all drain, requests are refused.
func TestDrain(t *testing.T) {
	s := newSite(t, 73, ", kvCapacity: 550000, unitLabel: moelb/role", 6, 6)
	s.run(100)
	label := func(unit int, value string) {
		for _, g := range s.units[unit] {
			m := s.rank[g].endpoint.GetMetadata().Clone()
			if m.Labels["moelb/drain"] = value; value == "" {
				delete(m.Labels, "moelb/drain")
			}
			s.rank[g].endpoint.UpdateMetadata(m)
		}
	}
	running := func(unit int) (n int) {
		for _, g := range s.units[unit] {
			n += len(s.rank[g].jobs)
		}
		return n
	}
	label(0, "true")
	n := running(0)
	s.placed = func(j *job) {
		if j.rank < 6 {
			t.Error("a unit that drains got a request")
			s.placed = nil
		}
	}
	s.run(100)
	if running(0) >= n || running(0) == 0 {
		t.Errorf("the unit that drains runs %d requests, of %d before", running(0), n)
	}
	s.placed = nil
	label(0, "false")
	n = running(0)
	s.run(100)
	if running(0) <= n {
		t.Errorf("the unit that is back runs %d requests, %d before", running(0), n)
	}
	label(0, "")
	label(1, "yes")
	s.run(20)
	label(0, "yes")
	s.send(100, 100)
	if s.refused != 1 {
		t.Errorf("%d requests were refused where all endpoints drain", s.refused)
	}
	s.finish()
}

// TestHold: requests that wait for a step to be placed together are spread more evenly
// than those that are placed as they come; none waits for ever, and one whose client
// leaves meanwhile holds nothing.
func TestHold(t *testing.T) {
	ranks, seeds := 24, 1
	if long.Tests() {
		ranks, seeds = 96, 1
	}
	for seed := range seeds {
		var kv, count [2]float64
		for hold := range kv {
			s := newSite(t, uint64(81+seed), ", kvCapacity: 550000", ranks)
			s.batch = batch
			if hold == 1 {
				s.together = true
				s.picker.ledger.Hold(stepTime, func(d time.Duration, flush func()) {})
			}
			s.run(150)
			kv[hold], count[hold] = s.run(150)
			s.finish()
		}
		t.Logf("as they come: KV %.4f, requests %.4f; a step together: KV %.4f, requests %.4f", kv[0], count[0], kv[1], count[1])
		if kv[1] > kv[0]+0.005 || count[1] > count[0]+0.005 {
			t.Error("placed together, requests are spread less evenly")
		}
	}
}

// TestHeldClientLeaves: a request whose client leaves while it waits holds nothing, and
// is not placed.
func TestHeldClientLeaves(t *testing.T) {
	s := newSite(t, 91, "", 4)
	var flush func()
	s.picker.ledger.Hold(stepTime, func(_ time.Duration, f func()) { flush = f })
	ctx, leave := context.WithCancel(quiet())
	all := make([]error, 3)
	var wg sync.WaitGroup
	for i := range all {
		c := quiet()
		if i == 1 {
			c = ctx
		}
		wg.Go(func() {
			sched := scheduler(t, s.picker)
			r := prompt(100)
			_, all[i] = sched.Schedule(c, r, endpoints(4, noMetrics))
		})
	}
	for s.picker.ledger.Waiting() < 3 {
		runtime.Gosched()
	}
	leave()
	for s.picker.ledger.Waiting() > 2 {
		runtime.Gosched()
	}
	flush()
	wg.Wait()
	if n, _ := s.picker.ledger.Stats(); n != 2 || all[0] != nil || all[1] == nil || all[2] != nil {
		t.Errorf("%d requests are held; errors %v", n, all)
	}
}

// TestField has all of it happen at random, and demands what must always hold: the
// ledger has what the streams say, each request goes to an endpoint that is there, and
// all ends with nothing.
func TestField(t *testing.T) {
	seeds, steps := 2, 150
	if long.Tests() {
		seeds, steps = 20, 400
	}
	for seed := range seeds {
		s := newSite(t, uint64(101+seed), ", kvCapacity: 550000, maxRequests: 64, unitLabel: moelb/role", 5, 3)
		rng := rand.New(rand.NewPCG(uint64(seed), 5))
		s.batch, s.fill = 10, 20
		down := []int{}
		for step := range steps {
			s.tick()
			switch g := rng.IntN(len(s.rank)); rng.IntN(12) {
			case 0: // an endpoint restarts
				if s.rank[g].up && len(s.pool.endpoints) > 2 {
					s.remove(g)
					s.fail(g)
					down = append(down, g)
				}
			case 1: // another comes in its place
				if len(down) > 0 {
					s.add(fmt.Sprintf("unit-%d", rng.IntN(2)))
					down = down[1:]
				}
			case 2: // clients leave
				for _, j := range s.ordered(g) {
					if rng.IntN(4) == 0 {
						s.drop(j)
						j.cut()
					}
				}
			case 3: // an endpoint fails some at once
				for _, j := range s.ordered(g) {
					if !j.answered {
						s.drop(j)
						j.say(responseHeaders(":status", "500"))
						j.say(responseBody("", true))
						j.cut()
					}
				}
			case 4: // it lies
				s.rank[g].endpoint.UpdateMetrics(&datalayer.Metrics{RunningRequestsSize: rng.IntN(1 << 31), KVCacheUsagePercent: 3 * rng.Float64(), UpdateTime: s.clock.now()})
			case 5: // it drains, or does not any more
				m := s.rank[g].endpoint.GetMetadata().Clone()
				m.Labels["moelb/drain"] = []string{"true", "false", "false"}[rng.IntN(3)]
				s.rank[g].endpoint.UpdateMetadata(m)
			case 6: // nothing happens for a while
				for range rng.IntN(50) {
					s.clock.pass(stepTime)
				}
			}
			have := 0
			for _, e := range s.rank {
				have += len(e.jobs)
			}
			if held, _ := s.picker.ledger.Stats(); held != have {
				t.Fatalf("seed %d, step %d: %d requests are held, %d run", 101+seed, step, held, have)
			}
			if s.lost > 0 {
				t.Fatalf("seed %d, step %d: a request was sent to an endpoint that does not exist", 101+seed, step)
			}
		}
		t.Logf("%d requests, %d of them refused", s.sent, s.refused)
		s.finish()
	}
}
