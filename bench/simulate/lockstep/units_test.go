package lockstep

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// TestDecodeUnit: requests that join, move, are removed and end in any order leave each
// rank with the tokens and requests that a list of them has, the latest first.
func TestDecodeUnit(t *testing.T) {
	const ranks = 3
	r := rand.New(rand.NewPCG(5, 1))
	var all []Request
	u := NewDecodeUnit(ranks, &all)
	var lists [ranks][]int32 // the latest last
	made := map[int32]int32{}
	for tick := range 6000 {
		if r.IntN(2) == 0 {
			id, g := int32(len(all)), r.IntN(ranks)
			q := Request{Prompt: int32(r.IntN(50)), Made: int32(r.IntN(3)), Rank: -1}
			q.Output = q.Made + 1 + int32(r.IntN(40))
			if r.IntN(20) == 0 {
				q.Output += wheelSize // ends when the wheel has come round
			}
			all = append(all, q)
			made[id] = q.Made
			u.Join(id, g)
			lists[g] = append(lists[g], id)
		}
		g := r.IntN(ranks)
		if n := len(lists[g]); n > 0 && r.IntN(3) == 0 {
			k := r.IntN(n)
			id := lists[g][k]
			lists[g] = slices.Delete(lists[g], k, k+1)
			if r.IntN(3) == 0 {
				u.Remove(id)
				if q := &all[id]; q.Rank >= 0 || q.Made != made[id] {
					t.Fatalf("tick %d: removed after %d tokens: %+v", tick, made[id], *q)
				}
			} else {
				to := r.IntN(ranks)
				u.Move(id, to)
				lists[to] = append(lists[to], id)
			}
		}
		ended := u.Tick(nil)
		for g := range lists {
			lists[g] = slices.DeleteFunc(lists[g], func(id int32) bool {
				made[id]++
				if made[id] < all[id].Output {
					return false
				}
				i := slices.Index(ended, id)
				if i < 0 || all[id].Made != all[id].Output || all[id].Rank >= 0 {
					t.Fatalf("tick %d: %d has not ended: %+v", tick, id, all[id])
				}
				ended = slices.Delete(ended, i, i+1)
				return true
			})
		}
		kv, total := [ranks]int64{}, int64(0)
		for g, list := range lists {
			latest := int32(-1)
			for _, id := range list {
				kv[g] += int64(all[id].Prompt + made[id])
				latest = id
			}
			total += int64(len(list))
			if u.KV[g] != kv[g] || u.N[g] != int64(len(list)) || u.Latest(g) != latest {
				t.Fatalf("tick %d, rank %d: %d tokens of %d requests, the latest %d; want %d of %d, %d", tick, g, u.KV[g], u.N[g], u.Latest(g), kv[g], len(list), latest)
			}
		}
		if len(ended) > 0 || u.Total != total {
			t.Fatalf("tick %d: %v ended too early; %d requests, want %d", tick, ended, u.Total, total)
		}
	}
}

// scripted is a former that forms the steps that it is given.
type scripted [][]prefill.Chunk

func (*scripted) Enqueue(prefill.Request) error { return nil }
func (*scripted) Done(prefill.ID) error         { return errors.New("done") }
func (s *scripted) Step(dst []prefill.Chunk) []prefill.Chunk {
	step := (*s)[0]
	*s = (*s)[1:]
	return append(dst, step...)
}

// TestPrefillUnit: a unit counts what its ranks compute, and refuses chunks of what a
// prompt does not have or on another rank.
func TestPrefillUnit(t *testing.T) {
	all := []Request{{Input: 10, Done: 4, Rank: -1}, {Input: 5, Rank: -1}}
	u := NewPrefillUnit(2, &all)
	u.Former = &scripted{{{ID: 0, Rank: 1, Tokens: 2}, {ID: 1, Rank: 1, Tokens: 5, Last: true}}, {{ID: 0, Rank: 1, Tokens: 4, Last: true}}}
	started := 0
	start := func(int32, int) { started++ }
	for step, want := range []struct {
		load    Load
		started int
		ends    []prefill.ID
	}{{Load{7, 5 + 6 + 15, 4}, 2, []prefill.ID{1}}, {Load{4, 7 + 8 + 9 + 10, 6}, 2, []prefill.ID{0}}} {
		if err := u.Begin(start); err != nil {
			t.Fatal(err)
		}
		var ends []prefill.ID
		u.End(func(c prefill.Chunk, before int64) {
			if c.Last {
				ends = append(ends, c.ID)
			}
			if q := all[c.ID]; int64(q.Done) != before+c.Tokens || c.Last != (q.Rank < 0) {
				t.Errorf("step %d: %d tokens after %d: %+v", step, c.Tokens, before, q)
			}
		})
		if u.Loads[0] != (Load{}) || u.Loads[1] != want.load || started != want.started || !slices.Equal(ends, want.ends) {
			t.Errorf("step %d: loads %v, %d started, %v ended", step, u.Loads, started, ends)
		}
	}
	for _, c := range []prefill.Chunk{
		{ID: 0, Rank: 0, Tokens: 1, Last: true}, // on another rank
		{ID: 0, Rank: 1, Tokens: 5, Last: true}, // more than is left
		{ID: 0, Rank: 1, Tokens: 4},             // the last, not called so
		{ID: 0, Rank: 1, Tokens: 3, Last: true}, // not the last
		{ID: 0, Rank: 1},                        // nothing
	} {
		all := []Request{{Input: 10, Done: 6, Rank: 1}}
		u := NewPrefillUnit(2, &all)
		u.Former = &scripted{{c}}
		if err := u.Begin(start); err == nil {
			t.Errorf("%+v is taken", c)
		}
	}
}
