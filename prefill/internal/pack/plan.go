package pack

import "math"

// The caps that are tried: tokens from the most downwards, and attention from 16
// times as long as these downwards, by quarters of octaves.
const (
	octave    = 4
	TokenCaps = 10 * octave
	PairCaps  = 12 * octave
)

// longestStep is how many times as long as full tokens a step's attention may take while
// others come, so that nobody waits for the end of a longer one. It was picked: two to four
// served drawn traffic alike, and below four TestShortBesideLong fails. What worthOf
// expects of those who come would say it if it knew how uneven their coming is.
const longestStep = 4

// quarters are 2 to the power of 0, -1/4, -1/2 and -3/4.
var quarters = [octave]float64{1, .8408964152537145, .7071067811865476, .5946035575013605}

// Trial is a pair of caps by number.
type Trial struct{ Tokens, Pairs int8 }

// busiest is the share of the unit's time, of work, beyond which a longer queue is
// not expected to last longer.
const busiest = .9

// endWeight weighs what those who end in a step, or come in it, lose by its length.
const endWeight = .25

// plan forms the step whose worth a second is greatest: from several caps on, by
// steps to better ones beside them.
func (f *Former) plan() {
	if f.Deep {
		f.planDeep()
		return
	}
	for i := range f.worth {
		for j := range f.worth[i] {
			f.worth[i][j] = math.NaN()
		}
	}
	best, most := Trial{}, math.Inf(-1)
	f.kept.worth = most
	climb := func(at Trial, by int8) {
		if f.Cost.Pair == 0 {
			at.Pairs = 0
		}
		x := f.try(at)
		for moved := true; moved; {
			moved = false
			for _, d := range [...]Trial{{by, 0}, {-by, 0}, {0, by}, {0, -by}, {by, by}, {-by, -by}} {
				to := Trial{at.Tokens + d.Tokens, at.Pairs + d.Pairs}
				if y := f.try(to); y > x {
					at, x, moved = to, y, true
				}
			}
		}
		if x > most {
			best, most = at, x
		}
	}
	for _, at := range [...]Trial{f.Last, {3 * octave, 8 * octave}, {5 * octave, 4 * octave}, {0, 3 * octave}} {
		climb(at, octave)
	}
	climb(best, octave/2)
	climb(best, 1)
	f.Last = best
	if f.kept.worth > math.Inf(-1) && f.kept.trial == best {
		f.restore()
		return
	}
	f.pack(f.capsOf(best))
}

// kept is the best step so far.
type kept struct {
	trial  Trial
	worth  float64
	pieces []Piece
	top    top
}

// keep keeps the packed step if it is the best so far.
func (f *Former) keep(t Trial, worth float64) {
	if worth > f.kept.worth {
		f.Pieces, f.kept = f.kept.pieces, kept{t, worth, f.Pieces, f.top}
	}
}

// restore makes the best step so far the packed one.
func (f *Former) restore() { f.Pieces, f.kept.pieces, f.top = f.kept.pieces, f.Pieces, f.kept.top }

// capsOf are the caps of a trial, within what a step may take. The most attention is
// such that neither an empty step nor a prefix takes much of it.
func (f *Former) capsOf(t Trial) caps {
	c := caps{max(1, int64(float64(f.Tokens)*math.Ldexp(quarters[t.Tokens%octave], -int(t.Tokens/octave)))), 1 << 50}
	if f.Cost.Pair == 0 {
		return c
	}
	full := max(float64(f.Cost.Token*float64(f.Tokens)), 8*f.Cost.Step)
	see := float64(f.Cost.Pair * float64(f.prefix))
	if full+see == 0 {
		full = float64(f.Cost.Pair * float64(pairsOf(f.Tokens, 0)))
	}
	attention := max(full, see) * math.Ldexp(16*quarters[t.Pairs%octave], -int(t.Pairs/octave))
	if !f.Silent {
		attention = min(attention, max(longestStep*full, 2*see))
	}
	c.pairs = max(1, whole(attention/f.Cost.Pair))
	return c
}

func (f *Former) try(t Trial) float64 {
	if t.Tokens < 0 || t.Tokens >= TokenCaps || t.Pairs < 0 || t.Pairs >= PairCaps || f.Cost.Pair == 0 && t.Pairs > 0 || f.Tokens>>(t.Tokens/octave) == 0 {
		return math.Inf(-1)
	}
	x := &f.worth[t.Tokens][t.Pairs]
	if math.IsNaN(*x) {
		f.pack(f.capsOf(t))
		*x = f.worthOf()
		f.keep(t, *x)
	}
	return *x
}

// worthOf is what a second of the packed step is worth: the work in it, weighed by
// how urgent it is to whom it belongs and how many wait for it to be out of their
// way, less what the step's length costs those who end in it and those who come.
// All that wait, and while they do come, would lose by what is left undone.
func (f *Former) worthOf() float64 {
	if len(f.Pieces) == 0 {
		return math.Inf(-1)
	}
	seconds := float64(f.Cost.Token*f.top.tokens) + float64(f.Cost.Pair*f.top.pairs)
	behind := f.Waiting / f.Power / (1 - min(busiest, f.Busy))
	gain, ends := 0.0, 0.0
	for i := range f.Pieces {
		p := &f.Pieces[i]
		it := &f.Items[p.Item]
		w := f.Useful(p)
		gain += float64(w * (it.Urgency + behind))
		if p.N == p.Left {
			ends += float64(it.Urgency * (seconds - w))
			gain += float64(it.Urgency * f.Base)
		}
	}
	all := f.Cost.Step + seconds
	hold := ends + float64(f.Rate*all*all)/2
	return (gain - float64(endWeight*hold)) / max(all, 1e-12)
}

// Seconds is how long the packed step takes.
func (f *Former) Seconds() float64 {
	return f.Cost.Step + float64(f.Cost.Token*f.top.tokens) + float64(f.Cost.Pair*f.top.pairs)
}

// Useful is the work of a piece in seconds, without what it costs to see its prefix
// and what is computed again for want of the best cache.
func (f *Former) Useful(p *Piece) float64 {
	it := &f.Items[p.Item]
	w := f.Cost.Of(Work{p.N, pairsOf(p.N, p.Pos)})
	if p.Pos < it.Pos {
		n := it.tokens() - p.Pos
		w *= it.Seconds / max(f.Cost.Of(Work{n, f.pairsOf(n, p.Pos)}), 1e-12)
	}
	return w
}
