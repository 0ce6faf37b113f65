package pack

import "math"

// Work is new tokens, and query-key pairs.
type Work struct{ Tokens, Pairs int64 }

func (w Work) plus(x Work) Work { return Work{w.Tokens + x.Tokens, w.Pairs + x.Pairs} }

// Cost is what Work takes, in seconds, and a step beside.
type Cost struct{ Pair, Token, Step, Prefix float64 }

// Of is the seconds that work occupies a rank, without a step's own.
func (c *Cost) Of(w Work) float64 {
	return float64(c.Pair*float64(w.Pairs)) + float64(c.Token*float64(w.Tokens))
}

// pairsOf are those of n tokens after p.
func pairsOf(n, p int64) int64 { return n*p + n*(n+1)/2 }

// pairsOf is what a chunk counts for a rank's pairs.
func (f *Former) pairsOf(n, p int64) int64 { return pairsOf(n, p) + f.Expand*p }

// longest is the largest n <= most whose pairs after p stay within room; at
// least 0.
func longest(p, room, most int64) int64 {
	if room <= 0 || most <= 0 {
		return 0
	}
	if pairsOf(most, p) <= room {
		return most
	}
	h := float64(p) + .5
	n := min(most, int64(math.Sqrt(float64(h*h)+float64(2*float64(room)))-h))
	n = max(n, 0)
	for n > 0 && pairsOf(n, p) > room {
		n--
	}
	for n < most && pairsOf(n+1, p) <= room {
		n++
	}
	return n
}

// whole converts to an integer that leaves room to add to.
func whole(x float64) int64 { return int64(min(x, 1<<61)) }
