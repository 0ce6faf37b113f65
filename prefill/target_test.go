package prefill

import "testing"

// stepLoad is the most tokens and pairs of a rank in a step.
func stepLoad(b *Balancer, chunks []Chunk, pos map[ID]int64) (top Work) {
	load := make([]Work, b.Ranks())
	for _, c := range chunks {
		w := WorkOf(c.Tokens, pos[c.ID])
		pos[c.ID] += c.Tokens
		load[c.Rank] = load[c.Rank].plus(w)
	}
	for _, w := range load {
		top = Work{max(top.Tokens, w.Tokens), max(top.Pairs, w.Pairs)}
	}
	return top
}

// TestStepsAreShortUntilSomeoneHasWaited: a queue of 2.5 full steps is worked off
// in shares of what is left, and in full steps once the oldest have waited for
// longer than two of those.
func TestStepsAreShortUntilSomeoneHasWaited(t *testing.T) {
	b := newUnit(t, Config{Ranks: 8, MaxTokens: 16384})
	id := ID(0)
	add := func(n int) {
		for range n {
			enqueue(t, b, Request{ID: id, Tokens: 1024})
			id++
		}
	}
	pos := map[ID]int64{}
	add(40 * 8)
	if top := stepLoad(b, b.Step(nil), pos); top.Tokens < 10000 || top.Tokens > 14000 {
		t.Errorf("%d tokens in the first step, not about three tenths of 40960", top.Tokens)
	}
	// The queue stays as long, and those who came first are never reached, as they
	// come faster than they are served.
	add(400 * 8)
	full := 0
	for range 12 {
		if top := stepLoad(b, b.Step(nil), pos); top.Tokens == 16384 {
			full++
		}
	}
	if full < 10 {
		t.Errorf("%d of 12 steps are full", full)
	}
}

// TestCalmPairsAreInProportion: a long prompt beside short ones advances by chunks
// that do not hold them up, and alone by longer ones.
func TestCalmPairsAreInProportion(t *testing.T) {
	b := newUnit(t, Config{Ranks: 8, MaxTokens: 16384})
	pos := map[ID]int64{0: 50_000}
	enqueue(t, b, Request{ID: 0, Tokens: 54_000, Cached: 50_000})
	for id := range ID(8 * 8) {
		enqueue(t, b, Request{ID: 1 + id, Tokens: 500})
	}
	for range 2 { // it may be passed over once
		top := stepLoad(b, b.Step(nil), pos)
		if c := b.cost; float64(c.Pair*float64(top.Pairs)) > float64(c.Token*float64(top.Tokens)) {
			t.Errorf("%d pairs take longer than %d tokens", top.Pairs, top.Tokens)
		}
	}
	beside := (pos[0] - 50_000) / 2
	if beside <= 0 {
		t.Error("the long prompt does not advance")
	}
	for b.Queued() > 0 {
		stepLoad(b, b.Step(nil), pos)
	}
	before := pos[0]
	stepLoad(b, b.Step(nil), pos)
	if alone := pos[0] - before; alone < beside {
		t.Errorf("%d tokens beside short prompts, %d alone", beside, alone)
	}
}
