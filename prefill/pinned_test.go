package prefill

import (
	"fmt"
	"testing"
)

// TestPinnedHideNobody floods a rank of four with short prompts that no other may take.
// Prompts for the other ranks, which have nothing else to do, must not wait for the flood,
// whether any rank may take them or one: they are less urgent, but nobody else can use
// those ranks.
func TestPinnedHideNobody(t *testing.T) {
	for _, tokens := range []int64{400, 3000, 30_000, 100_000} {
		for _, among := range [][]int{nil, {0}, {0, 2}} {
			t.Run(fmt.Sprintf("%d tokens among %v", tokens, among), func(t *testing.T) {
				cfg := Config{Ranks: 4, MaxTokens: 4096}
				b := newUnit(t, cfg)
				s := newShadow(t, cfg)
				id := ID(10)
				flood := func(n int) {
					for range n {
						s.add(b, Request{ID: id, Tokens: 300 + int64(id)%200, Among: []int{1}})
						id++
					}
				}
				flood(2000)
				s.step(b)
				came, most := s.clock, b.cost.of(b.total)/10
				for i := range ID(3) {
					s.add(b, Request{ID: i, Tokens: tokens, Among: among})
					most += 3 * b.cost.of(WorkOf(tokens, 0))
				}
				for left := 3; left > 0; {
					flood(9) // as much as a rank can do, and more
					chunks, _ := s.step(b)
					for _, c := range chunks {
						if c.ID < 3 && c.Last {
							left--
						}
					}
					if s.clock-came > most {
						t.Fatalf("%d of 3 have not ended after %.1f s, due after %.1f", left, s.clock-came, most)
					}
				}
			})
		}
	}
}
