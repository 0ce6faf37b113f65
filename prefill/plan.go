package prefill

import "math"

// The caps that are tried: tokens from the most downwards, and attention from 16
// times as long as these downwards, by quarters of octaves.
const (
	octave    = 4
	tokenCaps = 10 * octave
	pairCaps  = 12 * octave
)

// quarters are 2 to the power of 0, -1/4, -1/2 and -3/4.
var quarters = [octave]float64{1, .8408964152537145, .7071067811865476, .5946035575013605}

// trial is a pair of caps by number.
type trial struct{ tokens, pairs int8 }

// busiest is the share of the unit's time, of work, beyond which a longer queue is
// not expected to last longer.
const busiest = .9

// endWeight weighs what those who end in a step, or come in it, lose by its length.
const endWeight = .25

// plan forms the step whose worth a second is greatest: from several caps on, by
// steps to better ones beside them.
func (b *Balancer) plan() {
	f := &b.former
	if f.deep {
		b.planDeep()
		return
	}
	for i := range f.worth {
		for j := range f.worth[i] {
			f.worth[i][j] = math.NaN()
		}
	}
	best, most := trial{}, math.Inf(-1)
	climb := func(at trial, by int8) {
		if b.cost.Pair == 0 {
			at.pairs = 0
		}
		x := b.try(at)
		for moved := true; moved; {
			moved = false
			for _, d := range [...]trial{{by, 0}, {-by, 0}, {0, by}, {0, -by}, {by, by}, {-by, -by}} {
				to := trial{at.tokens + d.tokens, at.pairs + d.pairs}
				if y := b.try(to); y > x {
					at, x, moved = to, y, true
				}
			}
		}
		if x > most {
			best, most = at, x
		}
	}
	for _, at := range [...]trial{b.caps, {3 * octave, 8 * octave}, {5 * octave, 4 * octave}, {0, 3 * octave}} {
		climb(at, octave)
	}
	climb(best, octave/2)
	climb(best, 1)
	b.caps = best
	b.pack(b.capsOf(best))
}

// capsOf are the caps of a trial, within what a step may take.
func (b *Balancer) capsOf(t trial) caps {
	f := &b.former
	c := caps{max(1, int64(float64(f.tokens)*math.Ldexp(quarters[t.tokens%octave], -int(t.tokens/octave)))), 1 << 50}
	if b.cost.Pair > 0 {
		full := max(float64(b.cost.Token*float64(f.tokens)), 8*b.cost.Step, float64(b.cost.Pair*float64(pairsOf(f.tokens, 0))))
		c.pairs = max(1, whole(math.Ldexp(16*full*quarters[t.pairs%octave], -int(t.pairs/octave))/b.cost.Pair))
	}
	return c
}

func (b *Balancer) try(t trial) float64 {
	f := &b.former
	if t.tokens < 0 || t.tokens >= tokenCaps || t.pairs < 0 || t.pairs >= pairCaps || b.cost.Pair == 0 && t.pairs > 0 || f.tokens>>(t.tokens/octave) == 0 {
		return math.Inf(-1)
	}
	x := &f.worth[t.tokens][t.pairs]
	if math.IsNaN(*x) {
		b.pack(b.capsOf(t))
		*x = b.worthOf()
	}
	return *x
}

// worthOf is what a second of the packed step is worth: the work in it, weighed by
// how urgent it is to whom it belongs and how many wait for it to be out of their
// way, less what the step's length costs those who end in it and those who come.
// All that wait, and while they do come, would lose by what is left undone.
func (b *Balancer) worthOf() float64 {
	f := &b.former
	if len(f.pieces) == 0 {
		return math.Inf(-1)
	}
	m := f.most()
	seconds := float64(b.cost.Token*m.tokens) + float64(b.cost.Pair*m.pairs)
	o := &b.observed
	power := max(b.power, 1/MaxSpeed)
	busy := 0.0
	if o.seconds > 0 {
		busy = min(busiest, o.work/(power*o.seconds))
	}
	behind := f.waiting / power / (1 - busy)
	gain, ends := 0.0, 0.0
	for i := range f.pieces {
		p := &f.pieces[i]
		it := &f.items[p.item]
		w := b.useful(p, it)
		gain += float64(w * (it.urgency + behind))
		if p.pos+p.n == it.pos+it.left {
			ends += float64(it.urgency * (seconds - w))
			gain += float64(it.urgency * f.base)
		}
	}
	all := b.cost.Step + seconds
	hold := ends + float64(o.rate()*all*all)/2
	return (gain - float64(endWeight*hold)) / max(all, 1e-12)
}

// useful is the work of a piece in seconds, without what it costs to see its prefix
// and what is computed again for want of the best cache.
func (b *Balancer) useful(p *piece, it *item) float64 {
	w := b.cost.of(WorkOf(p.n, p.pos))
	if p.pos < it.pos {
		n := it.pos + it.left - p.pos
		w *= it.seconds / max(b.cost.of(Work{n, b.pairsOf(n, p.pos)}), 1e-12)
	}
	return w
}

// defaultTokens is what a rank takes in a step if Config.MaxTokens is 0.
const defaultTokens = 16384
