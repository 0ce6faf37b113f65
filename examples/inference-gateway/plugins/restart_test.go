package plugins

import (
	"path/filepath"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// TestRestart kills the endpoint picker under load and starts it anew: nobody tells
// the new one of the requests that run, whose streams are gone. It takes them over
// from what endpoints report, until they have ended. With 24 ranks the fullest is at
// times over 1.10 without any restart, so that they are judged by the mean over steps
// and seeds; of 144 none is.
func TestRestart(t *testing.T) {
	ranks, seeds := 24, 2
	if long.Tests() {
		ranks, seeds = 144, 3
	}
	rise := 0.0
	for seed := range seeds {
		s := newSite(t, uint64(31+seed), ", kvCapacity: 550000", ranks)
		s.batch = batch
		s.run(150)
		before, count := s.run(100)
		s.restart()
		s.run(200)
		after, worst := 0.0, 0.0
		for range 100 {
			s.tick()
			after += s.kv(0) / 100
			worst = max(worst, s.kv(0))
		}
		t.Logf("before: KV %.3f, requests %.3f; from 200 to 300 steps after: KV %.3f, at worst %.3f", before, count, after, worst)
		if rise += after - before; after > 1.1 {
			t.Errorf("KV is at %.3f more than 200 steps after, it was at %.3f", after, before)
		}
		if ranks >= 144 && worst > 1.1 {
			t.Errorf("KV is at %.3f more than 200 steps after", worst)
		}
		s.known()
		if s.refused > 0 {
			t.Errorf("%d of %d requests were refused", s.refused, s.sent)
		}
		for _, e := range s.rank {
			for j := range e.jobs {
				s.end(j)
			}
		}
		s.fill, s.batch, s.load = 1<<30, 0, nil
		s.idle(5)
		s.empty(s.picker)
	}
	if rise /= float64(seeds); rise > 0.025 {
		t.Errorf("KV is higher by %.3f more than 200 steps after", rise)
	}
}

// TestRestartFrom kills the endpoint picker under load and starts it anew from what it
// had written to a file, a hundred steps before, with metrics and without.
func TestRestartFrom(t *testing.T) {
	ranks := 24
	if long.Tests() {
		ranks = 48
	}
	for _, metrics := range []bool{true, false} {
		s := newSite(t, 41, ", kvCapacity: 550000, snapshot: {interval: 24h, file: "+filepath.Join(t.TempDir(), "snapshot")+"}", ranks)
		s.batch, s.metrics = batch, metrics
		s.run(150)
		s.beat(s.picker)
		before, _ := s.run(100)
		usual := s.picker.ledger.Output()
		s.restart()
		first, _ := s.run(50)
		if n := s.picker.ledger.Output(); n < usual/2 || n > 2*usual {
			t.Errorf("outputs of %v steps are usual, of %v before", n, usual)
		}
		s.run(150)
		after, _ := s.run(50)
		t.Logf("metrics %v: KV %.3f before; %.3f in the first 50 steps, %.3f after 200", metrics, before, first, after)
		if metrics && (after > 1.1 || first > before+0.06) {
			t.Errorf("KV at %.3f, then %.3f; it was at %.3f", first, after, before)
		}
		if s.refused > 0 {
			t.Errorf("%d of %d requests were refused", s.refused, s.sent)
		}
		for _, e := range s.rank {
			for j := range e.jobs {
				s.end(j)
			}
		}
		for range 3000 { // whatever it had taken for what runs has ended
			s.clock.pass(stepTime)
		}
		s.fill, s.batch, s.load = 1<<30, 0, nil
		s.idle(5)
		s.empty(s.picker)
	}
}

// beat has a picker read or write its snapshot.
func (s *site) beat(p *DecodePicker) {
	s.t.Helper()
	if err := p.keeper.beat(s.t.Context()); err != nil {
		s.t.Error(err)
	}
}

// TestLeaderChange: a second picker stands by, which reads what the first writes, and
// takes its place. Balance does not jump, and the first does not write any more.
func TestLeaderChange(t *testing.T) {
	ranks := 24
	if long.Tests() {
		ranks = 48
	}
	s := newSite(t, 51, ", kvCapacity: 550000, snapshot: {interval: 24h, file: "+filepath.Join(t.TempDir(), "snapshot")+"}", ranks)
	s.batch = batch
	old := s.picker
	server, standby := s.start()
	most := func(steps int) (worst float64) {
		for i := range steps {
			if i%100 == 0 {
				s.beat(old)
				s.beat(standby)
			}
			s.tick()
			worst = max(worst, s.kv(0))
		}
		return worst
	}
	most(150)
	before := most(150)
	s.server, s.picker = server, standby
	for _, e := range s.rank {
		for j := range e.jobs {
			j.orphan = true
		}
	}
	worst := 0.0
	for range 150 {
		s.tick()
		worst = max(worst, s.kv(0))
	}
	t.Logf("at most KV %.3f in 150 steps before, %.3f in 150 steps after", before, worst)
	if worst > before+0.06 {
		t.Errorf("KV jumps from %.3f to %.3f", before, worst)
	}
	if s.refused > 0 {
		t.Errorf("%d of %d requests were refused", s.refused, s.sent)
	}
	s.known()
	s.beat(standby)
	if err := old.keeper.beat(t.Context()); err == nil {
		t.Error("the first picker writes what the second has taken over")
	}
	s.beat(standby)
}

// known demands that the ledger has what there is: no request is counted twice, or not
// at all. What has ended that it took over it knows of from the next pick on.
func (s *site) known() {
	s.t.Helper()
	s.send(16, 1)
	_, unit := s.picker.ledger.Stats()
	kv, have, kvHave, requests := 0, 0, 0, 0
	for _, e := range s.rank {
		have += len(e.jobs)
		kvHave += e.kv
	}
	for _, k := range unit.Ranks {
		requests += k.Width
		kv += int(k.KV)
	}
	s.t.Logf("the ledger has %d requests of %d tokens, there are %d of %d", requests, kv, have, kvHave)
	if requests != have {
		s.t.Errorf("the ledger has %d requests, there are %d", requests, have)
	}
	if off := kv - kvHave; max(off, -off) > have {
		s.t.Errorf("the ledger has %d tokens, there are %d", kv, kvHave)
	}
}

// idle makes steps in which no request but a short one each comes.
func (s *site) idle(steps int) {
	for range steps {
		s.tick()
		j := s.send(16, 1)
		j.say(streamed)
		s.end(j)
	}
}
