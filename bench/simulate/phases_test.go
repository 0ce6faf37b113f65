package simulate

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/prefill"
)

// TestKVMoves: the KV of a prompt and its first token moves to decode, no token more
// or less, and takes as long as its bytes do.
func TestKVMoves(t *testing.T) {
	s, err := newSim(brief(none(), 2), workload.Steady(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	s.flights = []lockstep.Request{{Prompt: 1000, Input: 1000, Made: 1, Output: 5}}
	s.toDecode(0)
	f := &s.flights[0]
	if got := s.decode[f.Decode].holds; got != 1001 || f.KV() != 1001 {
		t.Errorf("%v tokens move, the request holds %d", got, f.KV())
	}
	bytes := 1001 * float64(s.Decode.KVBytes())
	if got, want := float64(f.Ready-s.now)/second, bytes/(.9*s.Decode.GPU.RDMA); math.Abs(got-want) > 1e-8 {
		t.Errorf("the move takes %v s, not %v", got, want)
	}
}

// oneStep is a former that forms always the same step.
type oneStep struct {
	prefill.Former
	chunks []prefill.Chunk
}

func (f oneStep) Step(dst []prefill.Chunk) []prefill.Chunk { return append(dst, f.chunks...) }

// TestPrefixIsAttended: a chunk's attention counts each of its tokens with all that
// come before it, and the prefix that must be read.
func TestPrefixIsAttended(t *testing.T) {
	s, err := newSim(brief(none(), 2), workload.Steady(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	c := s.prefill[0].clock
	const n, p = 600, 5000
	pairs := 0.0
	for i := range n {
		pairs += p + float64(i) + 1
	}
	u := s.prefill[0]
	s.flights = []lockstep.Request{{}, {Input: p + n + 1, Done: p, Rank: -1}}
	u.Former = oneStep{u.Former, []prefill.Chunk{{ID: 1, Rank: 2, Tokens: n}}}
	if err := u.Begin(func(int32, int) {}); err != nil {
		t.Fatal(err)
	}
	c.seconds(u.Loads)
	want, _ := c.kernels.PrefillAttention(cost.PrefillRank{Tokens: n / 2, Cached: p / 2, Pairs: pairs / 2})
	if got := c.stage.Attention[2]; math.Abs(got-want) > 1e-12*want {
		t.Errorf("attention takes %v s, not %v", got, want)
	}
	if none, _ := c.kernels.PrefillAttention(cost.PrefillRank{Tokens: n / 2, Pairs: float64(n) * (n + 1) / 4}); none > .9*want {
		t.Errorf("without its prefix it takes %v s of %v: the test does not test it", none, want)
	}
}

// TestAcceptance: of two more tokens that each step verifies, three quarters are
// accepted: in eight steps every request goes on by twenty.
func TestAcceptance(t *testing.T) {
	c := brief(none(), 2)
	c.Queries, c.Acceptance = 3, .75
	s, err := newSim(c, workload.Steady(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	u := s.decode[0]
	s.flights = []lockstep.Request{{Prompt: 1000, Output: 50, Rank: -1}}
	u.Join(0, 0)
	for range 8 {
		s.endDecodeStep(u)
	}
	if u.KV[0] != 1020 {
		t.Errorf("%d tokens in eight steps", u.KV[0]-1000)
	}
}

// TestReturned: a request that returns from decode finds the blocks of its prompt in
// the store, but not what it generated.
func TestReturned(t *testing.T) {
	s, err := newSim(planned(brief(ours(), 2)), workload.Steady(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	prompt := int32(3*s.BlockTokens + 10)
	s.flights = []lockstep.Request{{Prompt: prompt, Input: prompt, Made: 1, Output: 50, Blocks: []int64{1, 2, 3, 4}, Rank: -1}}
	s.store.Add([]int64{1, 2, 3}, 0)
	s.toDecode(0)
	u := s.decode[0]
	s.now = u.next
	s.decodeEvent(u)
	s.tick(u)
	s.sendBack(u, 0)
	if f := &s.flights[0]; s.failed != nil || int(f.Cached) != 3*s.BlockTokens || f.Input != prompt+2 || s.count.again != int64(prompt)+2 {
		t.Errorf("of %d tokens %d are cached, %d are done again: %v", f.Input, f.Cached, s.count.again, s.failed)
	}
}

// TestPaceOfOld: a request that began before the run tells its pace by what it
// generated in it, if that is enough to tell.
func TestPaceOfOld(t *testing.T) {
	s, err := newSim(brief(none(), 2), workload.Steady(100, 1))
	if err != nil {
		t.Fatal(err)
	}
	s.now = s.from + 1
	for _, generated := range []int32{enoughTokens - 1, enoughTokens} {
		s.flights = []lockstep.Request{{First: -1, Prompt: 10, Cached: 100, Made: 100 + generated, Output: 100 + generated}}
		s.leave(0)
	}
	if s.tpot.count != 1 || s.measured.served != 2 || s.measured.judged != 0 {
		t.Errorf("%d tell their pace, of %d", s.tpot.count, s.measured.served)
	}
}

// TestHeld: of many prompts at once prefill units hold some and the API server the
// others, in order; all are served, and wait from when they came.
func TestHeld(t *testing.T) {
	c := planned(brief(ours(), .3))
	c.PrefillOnly = true
	const n = 6000
	requests := tinyRequests(n, 1)
	s, err := newSim(c, &flood{&few{requests, n}})
	if err != nil {
		t.Fatal(err)
	}
	s.from = 0
	r, err := s.run()
	if err != nil {
		t.Fatal(err)
	}
	if most := heldByRank * c.Prefill.Groups(); len(s.flights) < most || len(s.flights) > most+1 {
		t.Errorf("units hold %d prompts at most, not %d", len(s.flights), most)
	}
	if r.Requests != n || r.PeakInFlight != n || r.TTFT99 > r.End || r.TTFT99 < .6*min(r.End, c.Seconds) {
		t.Errorf("%d requests, %d in flight, first tokens up to %v s after all came, the last at %v", r.Requests, r.PeakInFlight, r.TTFT99, r.End)
	}
}

// few is a source that ends.
type few struct {
	Source
	n int
}

func (f *few) Next() (workload.Request, bool) {
	if f.n--; f.n < 0 {
		return workload.Request{}, false
	}
	return f.Source.Next()
}

// TestQueue: what waits leaves in the order in which it came.
func TestQueue(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 1))
	var q queue
	in, out := int64(0), int64(0)
	for step := range 3000 {
		for range r.IntN(8) {
			q.put(waiting{arrival: in})
			in++
		}
		for range r.IntN(9 - step/1000*2) {
			if q.len() > 0 {
				if got := q.take().arrival; got != out {
					t.Fatalf("step %d: %d leaves, not %d", step, got, out)
				}
				out++
			}
		}
		if int64(q.len()) != in-out {
			t.Fatalf("step %d: %d wait of %d that came and %d that left", step, q.len(), in, out)
		}
	}
}
