package decode

import "math/bits"

// tally is a histogram of the latest few thousand counts of tokens, with two bins
// an octave.
type tally struct {
	count [64]int64
	sum   [64]int64 // of the counts in the bin
	all   int64
	total int64 // of all counts

	above  [64]int64 // mean of the counts in higher bins; 0 = there are none
	summed bool      // above is up to date
}

const (
	enough   = 32   // outputs before which nothing is concluded
	memory   = 8192 // counts after which all weigh half
	guessed  = 512  // tokens of output, while nothing is known
	leastOut = 1
)

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
	s.summed = false
	s.count[i]++
	s.sum[i] += tokens
	s.all++
	s.total += tokens
	if s.all < memory {
		return
	}
	s.all, s.total = 0, 0
	for i := range s.count {
		if n := s.count[i]; n > 0 {
			s.sum[i] = s.sum[i] / n * (n / 2)
			s.count[i] = n / 2
		}
		s.all += s.count[i]
		s.total += s.sum[i]
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

// expected is how many tokens a request will still generate that has generated
// so many, where nobody told.
func (b *Balancer) expected(generated int64) int64 {
	s := &b.learned
	switch {
	case s.all < enough:
		known := b.cfg.Output
		if known == 0 {
			known = guessed
		}
		return max(known-generated, leastOut)
	case generated == 0:
		return s.total / s.all
	}
	if !s.summed {
		s.sumUp()
	}
	mean := s.above[tallyBin(generated)]
	if mean == 0 {
		return generated // longer than any before: as long again
	}
	return max(mean-generated, leastOut)
}

// sumUp brings above up to date.
func (s *tally) sumUp() {
	n, sum := int64(0), int64(0)
	for i := len(s.count) - 1; i >= 0; i-- {
		s.above[i] = 0
		if n > 0 {
			s.above[i] = sum / n
		}
		n += s.count[i]
		sum += s.sum[i]
	}
	s.summed = true
}
