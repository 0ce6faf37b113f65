package prefill_test

import (
	"math/rand/v2"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// TestRankDiesAtEveryStep computes 3,000 prompts on ranks with caches of their own,
// some of which share a prefix with an earlier one, while at every step a rank dies
// and the one before it comes back. Every token of every prompt is computed once, or
// again after a loss, or was cached on the rank that then lived.
func TestRankDiesAtEveryStep(t *testing.T) {
	const ranks, prompts, most = 6, 3000, 2048
	for seed := range uint64(2) {
		r := rand.New(rand.NewPCG(seed, 9))
		b, err := prefill.New(prefill.Config{Ranks: ranks, MaxTokens: most, KeepKV: seed == 1})
		if err != nil {
			t.Fatal(err)
		}
		type prompt struct {
			tokens, pos int64
			cached      [ranks]int64
			leader      prefill.ID
			shared      int64
			rank        int // -1 = not started
			ended, gone bool
		}
		all := make([]prompt, prompts)
		var latest []prefill.ID // that ended in the latest step
		next, left, dead := 0, prompts, -1
		var lost, done int64
		for step := 0; left > 0; step++ {
			if step > 200_000 {
				t.Fatalf("seed %d: %d prompts are left after %d steps", seed, left, step)
			}
			for ; next < prompts && next < 3*step; next++ {
				p := &all[next]
				*p = prompt{tokens: 1 + r.Int64N(5000), rank: -1, leader: prefill.ID(prompts)}
				q := prefill.Request{ID: prefill.ID(next), Tokens: p.tokens, CachedAt: make([]int64, ranks)}
				for g := range ranks {
					if g != dead && r.IntN(4) == 0 {
						p.cached[g] = r.Int64N(p.tokens + 1)
					}
				}
				copy(q.CachedAt, p.cached[:])
				if next > 0 && r.IntN(2) == 0 {
					p.leader = prefill.ID(max(0, next-1-r.IntN(20)))
					p.shared = r.Int64N(min(p.tokens, all[p.leader].tokens) + 1)
					q.Leader, q.Shared = p.leader, p.shared
					if l := &all[p.leader]; seed == 1 && l.ended && !l.gone { // its KV is there
						p.cached[l.rank] = max(p.cached[l.rank], p.shared)
					}
				}
				if err := b.Enqueue(q); err != nil {
					t.Fatal(err)
				}
			}
			latest = latest[:0]
			chunks := b.Step(nil)
			if len(chunks) == 0 && b.Queued() > 0 {
				t.Fatalf("seed %d, step %d: an empty step with %d prompts in the queue", seed, step, b.Queued())
			}
			for _, c := range chunks {
				p := &all[c.ID]
				switch {
				case p.ended:
					t.Fatalf("seed %d: prompt %d is computed beyond its end", seed, c.ID)
				case c.Rank == dead:
					t.Fatalf("seed %d: a chunk on the dead rank", seed)
				case p.rank < 0:
					p.rank, p.pos = c.Rank, p.cached[c.Rank]
				case p.rank != c.Rank:
					t.Fatalf("seed %d: prompt %d leaves rank %d", seed, c.ID, p.rank)
				}
				p.pos += c.Tokens
				done += c.Tokens
				if p.pos > p.tokens || c.Last != (p.pos == p.tokens) {
					t.Fatalf("seed %d: prompt %d of %d tokens is at %d, last %v", seed, c.ID, p.tokens, p.pos, c.Last)
				}
				if c.Last {
					latest = append(latest, c.ID)
				}
			}
			for _, id := range latest {
				p := &all[id]
				p.ended = true
				left--
				for i := range next { // those that shared its prefix find it on its rank
					if f := &all[i]; f.rank < 0 && f.leader == id && !f.ended {
						f.cached[p.rank] = max(f.cached[p.rank], f.shared)
						f.leader = prefill.ID(prompts)
					}
				}
			}
			if dead >= 0 {
				if err := b.Restore(dead); err != nil {
					t.Fatal(err)
				}
			}
			dead = r.IntN(ranks)
			got, err := b.Dead(nil, dead)
			if err != nil {
				t.Fatal(err)
			}
			back := map[prefill.ID]bool{}
			for _, l := range got {
				p := &all[l.ID]
				if p.rank != dead || !l.Queued || l.Computed != p.pos || p.gone {
					t.Fatalf("seed %d: rank %d, dead, gives back %+v; it was on %d at %d", seed, dead, l, p.rank, p.pos)
				}
				back[l.ID] = true
				lost += p.pos - p.cached[dead]
				if p.ended {
					left++
				}
				p.rank, p.pos, p.ended, p.leader = -1, 0, false, prefill.ID(prompts)
			}
			for i := range next {
				p := &all[i]
				p.cached[dead] = 0
				if p.rank == dead && !p.gone && !back[prefill.ID(i)] {
					if !p.ended || contains(latest, prefill.ID(i)) {
						t.Fatalf("seed %d: rank %d, dead, does not give back prompt %d", seed, dead, i)
					}
				}
				if back[p.leader] {
					p.leader = prefill.ID(prompts)
				}
			}
			if seed == 1 { // what has ended goes to a decode rank after some steps
				for i := range next {
					if p := &all[i]; p.ended && !p.gone && r.IntN(3) == 0 {
						if err := b.Done(prefill.ID(i)); err != nil {
							t.Fatal(err)
						}
						p.gone = true
					}
				}
			}
		}
		t.Logf("seed %d: %d tokens computed, %d of them lost", seed, done, lost)
		if lost == 0 {
			t.Errorf("seed %d: nothing was lost", seed)
		}
	}
}

func contains(ids []prefill.ID, id prefill.ID) bool {
	for _, x := range ids {
		if x == id {
			return true
		}
	}
	return false
}

// TestDeathKeepsAges: what a dead rank had begun starts again before all that came
// after it, once it is as old as that.
func TestDeathKeepsAges(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 12))
		b, err := prefill.New(prefill.Config{Ranks: 4, MaxTokens: 4096})
		if err != nil {
			t.Fatal(err)
		}
		id := prefill.ID(0)
		come := func(n int, tokens int64) {
			for range n {
				if err := b.Enqueue(prefill.Request{ID: id, Tokens: tokens}); err != nil {
					t.Fatal(err)
				}
				id++
			}
		}
		come(1, 40*4096) // the old one
		for range 12 {
			come(16, 2000+r.Int64N(3000))
			b.Step(nil)
		}
		g, err := b.Where(0)
		if err != nil || g < 0 {
			t.Fatalf("seed %d: the oldest is on rank %d: %v", seed, g, err)
		}
		if _, err := b.Dead(nil, g); err != nil {
			t.Fatal(err)
		}
		came := func() bool {
			for _, c := range b.Step(nil) {
				if c.ID == 0 {
					return true
				}
			}
			return false
		}
		if first, second := came(), came(); !first && !second {
			t.Errorf("seed %d: the oldest does not start again within two steps", seed)
		}
	}
}

// TestNothingWaitsForADrainedRank: 21 prompts whose prefix only a drained rank has
// are computed without an empty step.
func TestNothingWaitsForADrainedRank(t *testing.T) {
	for _, dies := range []bool{false, true} {
		b, err := prefill.New(prefill.Config{Ranks: 2, MaxTokens: 4096})
		if err != nil {
			t.Fatal(err)
		}
		for id := range prefill.ID(21) {
			if err := b.Enqueue(prefill.Request{ID: id, Tokens: 4000, CachedAt: []int64{0, 3900}}); err != nil {
				t.Fatal(err)
			}
		}
		if dies {
			_, err = b.Dead(nil, 1)
		} else {
			err = b.Drain(1)
		}
		if err != nil {
			t.Fatal(err)
		}
		ended := 0
		for step := 0; ended < 21; step++ {
			chunks := b.Step(nil)
			if len(chunks) == 0 || step > 100 {
				t.Fatalf("step %d has %d chunks, %d prompts have ended", step, len(chunks), ended)
			}
			for _, c := range chunks {
				if c.Last {
					ended++
				}
			}
		}
	}
}
