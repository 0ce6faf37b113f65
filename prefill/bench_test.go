package prefill

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// BenchmarkAdd places requests on a unit that holds 16 to 48 a rank; op=turn
// takes an old one off for each. cached=local gives each rank's cached prefix.
func BenchmarkAdd(b *testing.B) {
	for _, ranks := range []int{32, 144, 1024, 4096} {
		for _, local := range []bool{false, true} {
			cached := "even"
			if local {
				cached = "local"
			}
			b.Run(fmt.Sprintf("op=turn/ranks=%d/cached=%s", ranks, cached), func(b *testing.B) {
				u := steady(b, ranks, local)
				b.ReportAllocs()
				for b.Loop() {
					u.turn(b)
				}
			})
			b.Run(fmt.Sprintf("op=add/ranks=%d/cached=%s", ranks, cached), func(b *testing.B) {
				u := steady(b, ranks, local)
				b.ReportAllocs()
				for b.Loop() {
					q := u.requests[u.next&1023]
					q.ID = u.next
					u.next++
					if _, err := u.bal.Add(q); err != nil {
						b.Fatal(err)
					}
					if u.next-u.oldest > ID(3*u.kept) {
						b.StopTimer()
						u.clear(b)
						b.StartTimer()
					}
				}
			})
		}
	}
}

// steadyUnit keeps as many requests on a unit as it began with.
type steadyUnit struct {
	bal      *Balancer
	requests []Request
	next     ID
	kept     int64
	oldest   ID
}

func steady(tb testing.TB, ranks int, local bool) *steadyUnit {
	bal, err := New(Config{Ranks: ranks})
	if err != nil {
		tb.Fatal(err)
	}
	r := rand.New(rand.NewPCG(1, 1))
	u := &steadyUnit{bal: bal, requests: make([]Request, 1<<10), kept: int64(16 * ranks)}
	for i := range u.requests {
		q := &u.requests[i]
		q.Tokens = 1 + r.Int64N(8000)
		q.Cached = r.Int64N(q.Tokens + 1)
		if local {
			q.CachedAt = make([]int64, ranks)
			for range 3 {
				q.CachedAt[r.IntN(ranks)] = q.Cached
			}
		}
	}
	u.kept *= 4 // hold more than ever will be held, so that nothing grows later
	for range u.kept {
		u.turn(tb)
	}
	u.kept /= 4
	u.clear(tb)
	return u
}

func (u *steadyUnit) turn(tb testing.TB) {
	q := u.requests[u.next&1023]
	q.ID = u.next
	u.next++
	if _, err := u.bal.Add(q); err != nil {
		tb.Fatal(err)
	}
	if u.next-u.oldest > ID(u.kept) {
		u.done(tb)
	}
}

// done takes the oldest request off.
func (u *steadyUnit) done(tb testing.TB) {
	if err := u.bal.Done(u.oldest); err != nil {
		tb.Fatal(err)
	}
	u.oldest++
}

// clear takes off all but as many as the unit began with.
func (u *steadyUnit) clear(tb testing.TB) {
	for u.next-u.oldest > ID(u.kept) {
		u.done(tb)
	}
}
