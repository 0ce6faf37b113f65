package prefill

import "math"

// What the steps aim at. The figures were chosen on traces of two kinds, short
// prompts that are all tokens and long ones that are mostly pairs.
const (
	// defaultTokens is what a rank takes in a step if Config.MaxTokens is 0.
	defaultTokens = 16384
	// calmTokens bounds a step's tokens while less is ready than a full step
	// holds: steps stay short then, so that whoever comes waits for a short one.
	// calmShare of what is ready is taken at least.
	calmTokens = 2048
	calmShare  = .5
	// calmPairs is how much longer a calm step's pairs may take than its tokens.
	calmPairs = 2
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
	return q.leader >= 0 && q.due+float64(holdFactor*b.cfg.Patience) > b.clock
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
	f.started = Work{}
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
		if !b.waits(&b.requests[s]) {
			f.ready = append(f.ready, s)
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
	f.full = ready.Tokens/live >= hard
	level := math.Inf(1) // pairs a token at which both take as long
	if b.cost.Pair > 0 {
		level = b.cost.Token / b.cost.Pair
	}
	if !f.full {
		f.tokens = min(hard, max(calmTokens, int64(calmShare*float64(ready.Tokens)/float64(live))))
		f.dense = calmPairs * level
		f.pairs = whole(float64(f.dense * float64(f.tokens)))
	} else {
		f.tokens = hard
		f.dense = float64(f.all.Pairs) / float64(max(f.all.Tokens, 1))
		f.pairs = whole(float64(f.dense * float64(f.tokens)))
		if b.cost.Pair > 0 {
			// what the oldest that fill a step would ask for, within a margin
			w := f.started
			for _, s := range f.ready {
				if w.Tokens >= live*hard {
					break
				}
				w = w.plus(b.requests[s].work())
			}
			own := whole(float64(w.Pairs) / float64(max(w.Tokens, 1)) * float64(hard))
			margin := whole(turn * b.cost.of(Work{f.tokens, f.pairs}) / b.cost.Pair)
			f.pairs = max(min(own, f.pairs+margin), f.pairs-margin)
		}
	}
	f.light = Work{}
	for _, s := range f.ready {
		if q := &b.requests[s]; !b.isDense(q) {
			f.light = f.light.plus(q.work())
		}
	}
}

// whole converts to an integer that leaves room to add to.
func whole(x float64) int64 { return int64(min(x, 1<<61)) }
