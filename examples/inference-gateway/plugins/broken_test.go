package plugins

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"

	"github.com/moelb/moelb/internal/long"
)

// TestFailsAtOnce: an endpoint that fails at once, in whatever way, gets under a
// fiftieth of the requests, teaches nothing of outputs, and serves its share again
// when it is well.
func TestFailsAtOnce(t *testing.T) {
	for _, c := range []struct {
		name string
		says []*extproc.ProcessingRequest
		long bool
	}{
		{"errors", []*extproc.ProcessingRequest{responseHeaders(":status", "500"), responseBody(`{"error": "x"}`, true)}, false},
		{"unreachable", []*extproc.ProcessingRequest{responseHeaders(":status", "503", "content-type", "text/plain"), responseBody("upstream connect error", true)}, true},
		{"errors, as the endpoint picker's own tests name them", []*extproc.ProcessingRequest{responseHeaders("status", "502"), responseBody("", true)}, true},
		{"empty", []*extproc.ProcessingRequest{responseHeaders(":status", "200", "content-length", "0"), responseBody("", true)}, true},
		{"instant, and no usage", []*extproc.ProcessingRequest{responseHeaders(":status", "200"), responseBody(`{"choices": []}`, true)}, true},
		{"an empty stream", []*extproc.ProcessingRequest{streamed, responseBody("data: [DONE]\n\n", true)}, false},
		{"no room", []*extproc.ProcessingRequest{responseHeaders(":status", "429"), responseBody("", true)}, true},
		{"not found", []*extproc.ProcessingRequest{responseHeaders(":status", "404"), responseBody("", true)}, true},
		{"no answer at all", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.long {
				long.Only(t)
			}
			const endpoints, total = 8, 2000
			s := newSite(t, 11, ", kvCapacity: 550000", endpoints)
			s.metrics = false
			var running []*job
			next := func(broken bool) int {
				j := s.send(s.draw())
				if j == nil {
					t.Fatal("refused")
				}
				if broken && j.rank == 0 {
					for _, m := range c.says {
						j.say(m)
					}
					j.cut()
					s.drop(j)
				} else {
					j.say(streamed)
					j.say(piece)
					running = append(running, j)
				}
				if len(running) > 200 {
					s.end(running[0])
					running = running[1:]
				}
				s.clock.pass(stepTime)
				s.step++
				return j.rank
			}
			got := 0
			for range total {
				if next(true) == 0 {
					got++
				}
			}
			if got >= total/50 {
				t.Errorf("it got %d of %d requests", got, total)
			}
			if got < 3 {
				t.Errorf("it got %d requests: it is not tried", got)
			}
			if mean := s.picker.ledger.Output(); mean < 100 {
				t.Errorf("%v steps a request are taken to be usual: failures have taught", mean)
			}
			after := 0
			for ; next(false) != 0; after++ {
				if after > 3*total {
					t.Fatal("it never comes back")
				}
			}
			share := 0
			for range total {
				if next(false) == 0 {
					share++
				}
			}
			t.Logf("%d of %d requests; back %d requests after it was well; then %d of %d", got, total, after, share, total)
			if share < total/endpoints*3/4 {
				t.Errorf("it gets %d of %d requests once it is well", share, total)
			}
			for _, j := range running {
				s.end(j)
			}
			s.finish()
		})
	}
}

// TestAllFail: where every endpoint fails, requests are sent all the same, and all
// come back.
func TestAllFail(t *testing.T) {
	s := newSite(t, 12, "", 4)
	s.metrics = false
	for range 200 {
		j := s.send(1000, 100)
		if j == nil {
			t.Fatal("refused")
		}
		j.say(responseHeaders(":status", "500"))
		j.say(responseBody("", true))
		j.cut()
		s.drop(j)
		s.clock.pass(stepTime)
	}
	seen := map[int]int{}
	for range 1000 {
		j := s.send(1000, 100)
		if j == nil {
			t.Fatal("refused")
		}
		seen[j.rank]++
		j.say(streamed)
		j.say(piece)
		s.end(j)
		s.clock.pass(stepTime)
	}
	for g := range 4 {
		if seen[g] < 200 {
			t.Errorf("rank %d got %d of 1,000 requests", g, seen[g])
		}
	}
	s.finish()
}

// TestClientsAtFault: clients that leave, or ask for what there is not, do not shut
// endpoints that answer others.
func TestClientsAtFault(t *testing.T) {
	s := newSite(t, 13, "", 4)
	s.metrics = false
	seen := map[int]int{}
	for i := range 2000 {
		j := s.send(1000, 100)
		seen[j.rank]++
		switch i % 3 {
		case 0:
			j.say(responseHeaders(":status", "400"))
			j.say(responseBody("", true))
		case 1:
			if i%2 == 0 {
				j.say(streamed)
				j.say(piece)
			}
		default:
			j.say(streamed)
			j.say(piece)
			j.say(usage(1000, 100))
		}
		j.cut()
		s.drop(j)
		s.clock.pass(stepTime)
	}
	for g := range 4 {
		if seen[g] < 400 {
			t.Errorf("rank %d got %d of 2,000 requests: %v", g, seen[g], seen)
		}
	}
	s.finish()
}

// TestLies: metrics that make no sense cost nothing: what is placed is what would have
// been placed without them, by one picker and by several.
func TestLies(t *testing.T) {
	for _, parameters := range []string{"", ", kvCapacity: 550000, maxRequests: 256", ", kvCapacity: 550000, routers: 2"} {
		var ranks [2][]int
		for lies := range ranks {
			s := newSite(t, 14, parameters, 12)
			rng := rand.New(rand.NewPCG(14, 14))
			s.metrics = false
			s.placed = func(j *job) { ranks[lies] = append(ranks[lies], j.rank) }
			for range 100 {
				s.tick()
				for _, e := range s.rank {
					m := &datalayer.Metrics{}
					if lies == 1 {
						n := []int{1 << 30, 1<<63 - 1, -1, 1 << 20}[rng.IntN(4)]
						m = &datalayer.Metrics{RunningRequestsSize: n, WaitingQueueSize: n, KVCacheUsagePercent: []float64{float64(n), 0.5}[rng.IntN(2)], KvCacheMaxTokenCapacity: n, UpdateTime: s.clock.now()}
					}
					e.endpoint.UpdateMetrics(m)
				}
			}
			s.finish()
		}
		if fmt.Sprint(ranks[0]) != fmt.Sprint(ranks[1]) {
			t.Errorf("with %q, lies change where requests go", parameters)
		}
	}
}

// TestMoreThanFits: metrics of more than a rank can hold count as a full rank.
func TestMoreThanFits(t *testing.T) {
	s := newSite(t, 15, ", kvCapacity: 550000, maxRequests: 256", 3)
	s.metrics = false
	s.rank[0].endpoint.UpdateMetrics(&datalayer.Metrics{RunningRequestsSize: 5000, KVCacheUsagePercent: 1.5, UpdateTime: s.clock.now()})
	s.clock.pass(time.Millisecond)
	for range 20 {
		if j := s.send(1000, 100); j == nil || j.rank == 0 {
			t.Fatalf("%+v: a rank that is full got a request", j)
		}
	}
	_, unit := s.picker.ledger.Stats()
	if k := unit.Ranks[0]; k.KV < 549_000 || k.KV > 550_000 || k.Width != 256 {
		t.Errorf("%d tokens of %d requests, not what a rank holds", k.KV, k.Width)
	}
}
