package lockstep

import (
	"testing"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
)

// TestRunRepeats: the same seed gives the same figures, and they are in range.
func TestRunRepeats(t *testing.T) {
	for _, joint := range []bool{false, true} {
		b, err := decode.New(decode.Config{Ranks: 3})
		if err != nil {
			t.Fatal(err)
		}
		u := Decode{Ranks: 3, Batch: 9, Cost: decode.DeepSeekV3H800(), Requests: workload.Chat(200, 1), Steps: 500, Seed: 3, Joint: joint, Load: 0.8, Moves: 1, MovesEvery: 7}
		for i := range u.Requests {
			u.Requests[i].Output = min(u.Requests[i].Output, 300)
		}
		got, err := u.Run(b)
		if err != nil {
			t.Fatal(err)
		}
		if got.Waste <= 0 || got.KV < 1 || got.Requests < 1 || got.Refused > 0 {
			t.Errorf("%+v", got)
		}
		again, err := decode.New(decode.Config{Ranks: 3})
		if err != nil {
			t.Fatal(err)
		}
		if second, err := u.Run(again); err != nil || second != got {
			t.Errorf("%+v, a second time %+v, %v", got, second, err)
		}
	}
}
