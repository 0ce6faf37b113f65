package prefill

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkStep forms steps of 32 ranks while so many prompts wait: of chat, of
// chat with a prompt of 128k tokens in a thousand, and alike.
func BenchmarkStep(b *testing.B) {
	for _, kind := range []string{"chat", "mixed", "alike"} {
		for _, waiting := range []int{1000, 100_000} {
			b.Run(fmt.Sprintf("prompts=%s/waiting=%d/ranks=32", kind, waiting), func(b *testing.B) {
				u := newUnit(b, Config{Ranks: 32, MaxTokens: 16384})
				r := rand.New(rand.NewPCG(1, 1))
				id := ID(0)
				fill := func() {
					for u.Queued() < waiting {
						n := 200 + r.Int64N(2000)
						if kind == "mixed" && r.IntN(1000) == 0 {
							n = 128_000
						}
						if kind == "alike" {
							n = 1000
						}
						enqueue(b, u, Request{ID: id, Tokens: n})
						id++
					}
				}
				fill()
				dst := u.Step(nil)
				b.ReportAllocs()
				for b.Loop() {
					b.StopTimer()
					fill()
					b.StartTimer()
					dst = u.Step(dst[:0])
				}
			})
		}
	}
}
