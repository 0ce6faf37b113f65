package plugins

import (
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/moelb/moelb/internal/long"
)

// TestAges: a stream is as old as its silence, not as its beginning. One that is
// silent for too long is released, and holds its place again when it talks.
func TestAges(t *testing.T) {
	s := newSite(t, 21, ", maxAge: 1m", 3)
	held := func(want int) {
		t.Helper()
		if n, _ := s.picker.ledger.Stats(); n != want {
			t.Errorf("%d requests are held, not %d", n, want)
		}
	}
	probe := func() {
		j := s.send(16, 1)
		j.say(usage(16, 1))
		j.cut()
	}
	talks, silent := s.send(4000, 1000), s.send(4000, 1000)
	silent.say(streamed)
	silent.say(piece)
	talks.say(streamed)
	for range 20 { // for ten minutes
		s.clock.pass(30 * time.Second)
		talks.say(piece)
		probe()
	}
	held(1)
	if n, _ := s.picker.ledger.Stats(); n == 1 {
		_, unit := s.picker.ledger.Stats()
		if k := unit.Ranks[talks.rank]; k.Requests != 1 || k.KV < 16_000 {
			t.Errorf("rank %d has %+v, not the one that talks and has grown for ten minutes", talks.rank, k)
		}
	}
	silent.say(piece)
	held(2)
	_, unit := s.picker.ledger.Stats()
	if k := unit.Ranks[silent.rank]; k.Requests != 1 || k.KV < 4000 {
		t.Errorf("rank %d has %+v, not the one that talks again", silent.rank, k)
	}
	silent.say(usage(4000, 30))
	silent.cut()
	held(1)
	s.clock.pass(2 * time.Minute)
	probe()
	held(0)
	talks.say(usage(4000, 900)) // its end means nothing then
	talks.cut()
	s.empty(s.picker)
}

// TestNeverEnd: streams that never end, of clients that have vanished, cost bounded
// memory.
func TestNeverEnd(t *testing.T) {
	const most = 500
	s := newSite(t, 22, ", mostHeld: 500", 8)
	s.metrics = false
	var all []*job
	for range 2000 {
		all = append(all, s.send(s.draw()))
		s.clock.pass(time.Millisecond)
	}
	s.bounded(most)
	for _, j := range all[:1000] { // long released
		j.say(streamed)
		j.cut()
	}
	s.bounded(most)
	for _, j := range all[1000:] {
		j.cut()
	}
	s.empty(s.picker)
}

// bounded demands that a ledger holds so many requests at most, and nothing else.
func (s *site) bounded(most int) {
	s.t.Helper()
	held, unit := s.picker.ledger.Stats()
	if held > most {
		s.t.Errorf("%d requests are held, more than %d", held, most)
	}
	sum := 0
	for _, k := range unit.Ranks {
		sum += k.Requests
	}
	if sum != held {
		s.t.Errorf("%d requests are on ranks, %d held", sum, held)
	}
}

// TestNeverEndMany is TestNeverEnd with 10^5, without their streams, whose memory is
// the endpoint picker's own.
func TestNeverEndMany(t *testing.T) {
	long.Only(t)
	const most = 10_000
	s := newSite(t, 23, ", mostHeld: 10000", 8)
	alive := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	rng := rand.New(rand.NewPCG(23, 23))
	all := endpoints(8, noMetrics)
	sched := scheduler(t, s.picker)
	var before uint64
	for i := range 100_000 {
		if i == 2*most {
			before = alive()
		}
		r := prompt(1 + rng.IntN(10_000))
		r.Headers = map[string]string{"a": strings.Repeat("x", 1000)}
		result, err := sched.Schedule(quiet(), r, all)
		if err != nil {
			t.Fatal(err)
		}
		s.picker.PreRequest(quiet(), r, result)
		s.clock.pass(time.Millisecond)
	}
	after := alive()
	s.bounded(most)
	t.Logf("%d bytes alive with %d streams, %d with 100,000", before, 2*most, after)
	if after > before+before/4 {
		t.Errorf("%d bytes alive, %d when a few had come", after, before)
	}
}
