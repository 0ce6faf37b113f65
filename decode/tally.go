package decode

import "math/bits"

// tally is a histogram of the latest few thousand counts of tokens, with two bins
// an octave.
type tally struct {
	count [64]int64
	sum   [64]int64 // of the counts in the bin
	all   int64
}

func tallyBin(tokens int64) int {
	o := bits.Len64(uint64(tokens)) - 1
	half := 0
	if o > 0 {
		half = int(tokens>>(o-1)) & 1
	}
	return 2*o + half
}

func (s *tally) add(tokens int64) {
	tokens = min(max(tokens, leastOut), MaxTokens)
	i := tallyBin(tokens)
	s.count[i]++
	s.sum[i] += tokens
	s.all++
	if s.all < memory {
		return
	}
	s.all = 0
	for i := range s.count {
		if n := s.count[i]; n > 0 {
			s.sum[i] = s.sum[i] / n * (n / 2)
			s.count[i] = n / 2
		}
		s.all += s.count[i]
	}
}

// top returns about the count that one in so many reaches; 0 = nothing is known.
func (s *tally) top(one int64) int64 {
	above := int64(0)
	for i := len(s.count) - 1; i >= 0; i-- {
		if above += s.count[i]; above*one > s.all {
			return s.sum[i] / s.count[i]
		}
	}
	return 0
}

// bounds returns about the least and the largest count, with one more.
func (s *tally) bounds(more int64) (least, most int64) {
	least = more
	for i, n := range s.count {
		if n > 0 {
			least = min(least, s.sum[i]/n)
			break
		}
	}
	return least, max(more, s.top(s.all+1))
}
