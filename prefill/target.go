package prefill

import "math"

// What the steps aim at. The figures were chosen on traces of two kinds, short
// prompts that are all tokens and long ones that are mostly pairs.
const (
	// defaultTokens is what a rank takes in a step if Config.MaxTokens is 0.
	defaultTokens = 16384
	// leastTokens is what a step's tokens and its pairs are not bounded below, the
	// pairs by what takes as long: shorter steps cost more than they even out.
	leastTokens = 1024
	// calmTokens is how much may be ready for a rank where a step takes all of it,
	// with a chunk's room for unevenness. Above it takes calmShare, and from
	// fullTokens on, where there is enough to choose from for a full step, fullShare:
	// steps stay short, so that whoever comes waits for a short one.
	calmTokens = 2048
	calmShare  = .5
	fullTokens = 8192
	fullShare  = .3
	// longSteps is how many of the longest steps the oldest of the queue has waited
	// for where all steps are as long as they may be: those waste least.
	longSteps = 2
	// A calm step's pairs are to its tokens as in all that is ready, but pairs take
	// from leastPairs to mostPairs times as long as tokens: fewer are not worth a
	// cut, and more would hold up whoever comes.
	leastPairs, mostPairs = .3, 2
	// turn is the share of a full step's time by which its pairs may differ from
	// their target, up or down, to suit the oldest requests.
	turn = .02
	// ahead is how many steps' tokens, counted from the oldest request on, a dense
	// prompt may be away from its turn to be started.
	ahead = 1.5
	// stockSteps is how many steps of pairs a rank's started prompts may still
	// need when one more dense prompt is started there.
	stockSteps = 4
	// lateShare: a dense prompt is started out of turn once its own pairs, and the
	// least stock of a rank, exceed this share of all the pairs a rank has ahead.
	lateShare = .45
	// spare is the share of a full step's time by which light prompts may exceed
	// the target in pairs rather than leave tokens unused.
	spare = .005
	// holdFactor is how many times its patience a request waits for a prefix that
	// another is computing.
	holdFactor = 20
)

// waits reports whether a queued request is held back for the prefix that another
// one is computing.
func (b *Balancer) waits(q *request) bool {
	return q.leader >= 0 && q.shared > q.pos && q.due+float64(holdFactor*b.cfg.Patience) > b.clock
}

// isDense reports whether the rest of a prompt has more pairs a token than the
// unit can even out by other prompts alone.
func (b *Balancer) isDense(q *request) bool {
	return float64(q.pos)+float64(q.left())/2 > b.former.dense
}

// survey clears the last step and lists what is ready.
func (b *Balancer) survey() {
	f := &b.former
	f.pieces, f.ready = f.pieces[:0], f.ready[:0]
	f.started, f.local, f.pinned = Work{}, false, false
	for g := range b.ranks {
		k := &b.ranks[g]
		f.load[g] = load{kv: k.kv, pieces: f.load[g].pieces[:0]}
		for _, s := range k.started {
			w := b.requests[s].work()
			f.load[g].stock += w.Pairs
			f.started = f.started.plus(w)
		}
	}
	f.all = f.started
	for _, s := range b.queue {
		f.all = f.all.plus(b.requests[s].work())
		if q := &b.requests[s]; !b.waits(q) {
			f.ready = append(f.ready, s)
			f.local, f.pinned = f.local || q.local, f.pinned || q.pinned
		}
	}
}

// target sets how much a rank is to have in this step.
func (b *Balancer) target() {
	f := &b.former
	ready := f.started
	for _, s := range f.ready {
		ready = ready.plus(b.requests[s].work())
	}
	hard := b.cfg.MaxTokens
	if hard == 0 {
		hard = defaultTokens
	}
	live := int64(max(b.live, 1))
	each := ready.Tokens / live
	share := func(x float64) int64 {
		return min(hard, max(leastTokens, min(calmTokens, each+leastChunk), int64(float64(x*float64(ready.Tokens))/float64(live))))
	}
	density := float64(f.all.Pairs) / float64(max(f.all.Tokens, 1))
	enough, tokens := min(hard, fullTokens), share(fullShare)
	if b.waitLong(Work{hard, whole(float64(density * float64(hard)))}) {
		enough, tokens = hard, hard
	}
	if f.local {
		// A full step lets prompts wait for the rank that caches their prefix, which
		// pays only where much is ready.
		enough = hard
	}
	f.full = each >= enough
	if f.full {
		f.tokens, f.dense = tokens, density
		f.pairs = whole(float64(f.dense * float64(f.tokens)))
		b.suitOldest()
	} else {
		level := math.Inf(1) // pairs a token at which both take as long
		if b.cost.Pair > 0 {
			level = b.cost.Token / b.cost.Pair
		}
		f.tokens = share(calmShare)
		f.dense = min(mostPairs*level, max(leastPairs*level, float64(ready.Pairs)/float64(max(ready.Tokens, 1))))
		f.pairs = whole(max(float64(f.dense*float64(f.tokens)), float64(level*float64(min(hard, leastTokens)))))
	}
	f.light = Work{}
	for _, s := range f.ready {
		if q := &b.requests[s]; !b.isDense(q) {
			f.light = f.light.plus(q.work())
		}
	}
}

// suitOldest moves a full step's pairs, within a margin, to what the oldest that
// fill it ask for.
func (b *Balancer) suitOldest() {
	f := &b.former
	if b.cost.Pair == 0 {
		return
	}
	fill := int64(max(b.live, 1)) * f.tokens
	w := f.started
	for _, s := range f.ready {
		if w.Tokens >= fill {
			break
		}
		w = w.plus(b.requests[s].work())
	}
	own := whole(float64(w.Pairs) / float64(max(w.Tokens, 1)) * float64(f.tokens))
	margin := whole(turn * b.cost.of(Work{f.tokens, f.pairs}) / b.cost.Pair)
	f.pairs = max(min(own, f.pairs+margin), f.pairs-margin)
}

// waitLong reports whether the oldest of the queue has waited for longSteps steps
// of so much.
func (b *Balancer) waitLong(step Work) bool {
	f := &b.former
	return len(f.ready) > 0 && b.clock-b.requests[f.ready[0]].came > longSteps*b.cost.of(step)
}

// whole converts to an integer that leaves room to add to.
func whole(x float64) int64 { return int64(min(x, 1<<61)) }
