package simulate

import (
	"math"
	"testing"

	"github.com/moelb/moelb/bench/cost"
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
	s.flights = []flight{{prompt: 1000, input: 1000, made: 1, output: 5}}
	s.toDecode(0)
	f := &s.flights[0]
	if got := s.decode[f.decode].holds; got != 1001 || f.kv() != 1001 {
		t.Errorf("%v tokens move, the request holds %d", got, f.kv())
	}
	bytes := 1001 * float64(s.Decode.KVBytes())
	if got, want := float64(f.ready-s.now)/second, bytes/(.9*s.Decode.GPU.RDMA); math.Abs(got-want) > 1e-8 {
		t.Errorf("the move takes %v s, not %v", got, want)
	}
}

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
	c.seconds([]prefill.Chunk{{ID: 1, Rank: 2, Tokens: n}}, func(prefill.Chunk) int64 { return p })
	want, _ := c.kernels.PrefillAttention(cost.PrefillRank{Tokens: n / 2, Cached: p / 2, Pairs: pairs / 2})
	if got := c.stage.Attention[2]; math.Abs(got-want) > 1e-12*want {
		t.Errorf("attention takes %v s, not %v", got, want)
	}
	if none, _ := c.kernels.PrefillAttention(cost.PrefillRank{Tokens: n / 2, Pairs: float64(n) * (n + 1) / 4}); none > .9*want {
		t.Errorf("without its prefix it takes %v s of %v: the test does not test it", none, want)
	}
}
