package decode

import (
	"math"
	"math/bits"
)

// lives is what is known of how many tokens a request generates: the product-limit
// estimate (Kaplan, Meier 1958) of its survival, over lives that finished, lives
// that left unfinished or still run, which say only that they were at least so
// long, and lives that were not seen from their beginning. It is drawn up anew
// every few steps.
type lives struct {
	// Lives that are over, by the tokens with which they finished, and their spans.
	finished [lifeBins]int64
	spans

	ends    int64 // that finished
	sum     int64 // of their tokens
	longest int64 // of them, ever
	news    int64 // lives that ended since the curve was drawn

	at    int64 // clock when the curve was drawn
	due   int64 // clock when it will be again
	drawn int64 // finished lives then
	bound int64 // then, what is told beyond which is not believed
	// deviations is how many standard deviations above the mean must fit: more while
	// few lives were seen, since the mean is then uncertain itself.
	deviations float64
	version    int64                         // how often it was
	curve      [lifeBins + 1]float64         // share that generates as many tokens as the bin begins with, or more
	rest       [lifeBins + 1]float64         // mean tokens beyond that of all
	chance     [ageClasses][horizons]float64 // of being there at the start of each horizon, by age
}

// spans counts lives by the bins in which they came into sight and left unfinished,
// and how much of that bin each was not in sight: where bins are wide, most lives
// are seen for a part of one.
type spans struct {
	entered, left [lifeBins]int64
	late, early   [lifeBins]int64 // tokens of the bin before all that entered, and after all that left
}

// add takes in a life seen from since; left says that it was last seen with n.
func (s *spans) add(since, n int64, left bool) {
	i := lifeBin(since)
	s.entered[i]++
	s.late[i] += min(since, MaxTokens) - edge(i, 4)
	if left {
		i = lifeBin(n)
		s.left[i]++
		s.early[i] += edge(i+1, 4) - min(n, MaxTokens)
	}
}

// halve lets all weigh half.
func (s *spans) halve() {
	for i := range s.entered {
		s.entered[i], s.left[i] = (s.entered[i]+1)/2, (s.left[i]+1)/2
		s.late[i], s.early[i] = s.late[i]/2, (s.early[i]+1)/2
	}
}

const (
	enough   = 32   // finished lives before which nothing is concluded
	memory   = 8192 // finished lives after which all weigh half
	guessed  = 1024 // tokens of output, while nothing is known
	leastOut = 1

	lifeBins   = 448 // 16 an octave up to MaxTokens
	ageClasses = 116 // 4 an octave
	horizons   = 48
)

// bin returns the place of x among bins of which there are 1<<each an octave.
func bin(x int64, each int) int {
	if x < 1<<each {
		return int(max(x, 0))
	}
	o := bits.Len64(uint64(x)) - 1 - each
	return (o+1)<<each + int(x>>o)&(1<<each-1)
}

// edge returns the least x of a bin.
func edge(i, each int) int64 {
	if i < 1<<each {
		return int64(i)
	}
	return int64(1<<each+i&(1<<each-1)) << (i>>each - 1)
}

func lifeBin(tokens int64) int { return min(bin(tokens, 4), lifeBins-1) }
func ageClass(age int64) int   { return min(bin(age, 2), ageClasses-1) }

// horizon is how many steps ahead KV use is looked at: 8, and a fifth more each.
func horizon(j int) float64 {
	if j < 0 {
		return 0
	}
	return horizonSteps[j]
}

var horizonSteps = func() (h [horizons]float64) {
	x := 8.0
	for j := range h {
		h[j] = math.Floor(x)
		x = float64(x*6) / 5
	}
	return h
}()

// over takes in a life that is over.
func (l *lives) over(q *request, clock int64, finished bool) {
	n := q.generated(clock)
	if q.vague || !finished && n <= q.since {
		return
	}
	l.add(q.since, n, !finished)
	l.news++
	if !finished {
		return
	}
	n = min(max(n, leastOut), MaxTokens)
	l.finished[lifeBin(n)]++
	l.ends++
	l.longest = max(l.longest, n)
	if l.sum += n; l.ends < memory {
		return
	}
	l.ends, l.sum = l.ends/2, l.sum/2
	for i := range l.finished {
		l.finished[i] = (l.finished[i] + 1) / 2
	}
	l.halve()
}

// draw draws the curve anew. What running lives have shown since it was drawn last
// is entered as lives that left now and come into sight again: so all that is known
// fades alike, and those who run long do not count for more than those who ended
// beside them. O(requests).
func (b *Balancer) draw() {
	l := &b.lives
	for i := range b.requests {
		if q := &b.requests[i]; q.rank >= 0 && !q.vague && !q.waiting {
			if n := q.generated(b.clock); n > q.since {
				l.add(q.since, n, true)
				q.since = n
			}
		}
	}
	l.drawn, l.bound = l.ends, math.MaxInt64
	if l.ends >= enough {
		l.bound = 8 * l.longest
	}
	l.fit(b.cfg.Output)
	l.follow()
	l.news, l.at = 0, b.clock
	l.due = b.clock + min(max(int64(l.rest[0])/16, 4), 256)
	l.version++
}

// ramp is the share that is left at x of lives that end evenly from one age to
// twice that: what is guessed is no moment at which all end.
func ramp(x, from int64) float64 { return min(max(2-float64(x)/float64(from), 0), 1) }

// fit draws the survival curve. What was told to expect holds until enough have
// finished, and counts as much as so many from then on.
func (l *lives) fit(told int64) {
	l.curve[lifeBins] = 0
	if l.ends < enough {
		if told == 0 {
			told = guessed
		}
		for i := range lifeBins {
			l.curve[i] = ramp(edge(i, 4), told)
		}
		return
	}
	last := 0
	if told > 0 {
		last = lifeBin(2 * told)
	}
	for i := range lifeBins {
		if l.finished[i] > 0 || l.left[i] > 0 {
			last = max(last, i)
		}
	}
	risk := 0.0
	if told > 0 {
		risk = enough
	}
	var ended, at [lifeBins]float64 // lives that ended in the bin, and that were in sight all through it
	for i := range last + 1 {
		width := float64(edge(i+1, 4) - edge(i, 4))
		ends, cut := float64(l.finished[i]), float64(l.left[i])
		if told > 0 {
			ends += punctual * enough * (ramp(edge(i, 4), told) - ramp(edge(i+1, 4), told))
		}
		risk += float64(l.entered[i])
		ended[i], at[i] = ends, max(ends, risk-(float64(l.late[i]+l.early[i])-cut/2)/width)
		risk = max(risk-ends-cut, 0)
	}
	share, near := 1.0, 0.0 // near = lives that ended within half an octave
	for i := range min(half, last+1) {
		near += ended[i]
	}
	for i := range last + 1 {
		l.curve[i] = share
		if i+half <= last {
			near += ended[i+half]
		}
		if ended[i] > 0 {
			share *= 1 - float64(ended[i]/at[i])*surely(near)
		}
		if i-half >= 0 {
			near -= ended[i-half]
		}
	}
	l.outlive(last, share, &ended, &at)
}

// punctual is the share of lives that end within twice what was told to expect.
const punctual = 0.7

// half is how many bins make half an octave.
const half = 8

// surely is the share of a rate, of which so many ends were seen, that is true of
// lives to come but for one case in six: a few that ended do not mean that all do.
func surely(ends float64) float64 { return max(0, 1-1/math.Sqrt(ends)) }

// outlive draws the curve beyond the longest life seen: who outlives all others ends
// as seldom as may be true of the later half of what was seen.
func (l *lives) outlive(last int, share float64, ended, at *[lifeBins]float64) {
	end := edge(last+1, 4)
	seen, ends := 1.0, 0.0
	for i := range last + 1 {
		if 2*edge(i, 4) >= end {
			seen, ends = seen+float64(float64(edge(i+1, 4)-edge(i, 4))*at[i]), ends+ended[i]
		}
	}
	often := max((ends-float64(3*math.Sqrt(ends)))/seen, 1/float64(8*max(end, guessed)))
	for i := last + 1; i < lifeBins; i++ {
		l.curve[i] = share
		share /= 1 + float64(float64(edge(i+1, 4)-edge(i, 4))*often)
	}
}

// follow draws up what follows from the curve.
func (l *lives) follow() {
	l.deviations = 2.5
	if l.drawn >= enough {
		l.deviations = 2.3 + 8/math.Sqrt(float64(l.drawn))
	}
	l.rest[lifeBins] = 0
	for i := lifeBins - 1; i >= 0; i-- {
		width := float64(edge(i+1, 4) - edge(i, 4))
		l.rest[i] = l.rest[i+1] + float64(width*(l.curve[i]+l.curve[i+1])/2)
	}
	for c := range l.chance {
		age := (edge(c, 2) + edge(c+1, 2)) / 2
		alive := l.curve[lifeBin(age)]
		for j := range l.chance[c] {
			ahead := horizon(j - 1)
			switch x := float64(age) + ahead; {
			case alive <= 0 && ahead < float64(age):
				l.chance[c][j] = 1
			case alive <= 0 || x > MaxTokens:
				l.chance[c][j] = 0
			default:
				l.chance[c][j] = l.curve[lifeBin(int64(x))] / alive
			}
		}
	}
}

// expected is how many tokens a request will still generate that has generated
// so many, where nobody told.
func (b *Balancer) expected(generated int64) int64 {
	l := &b.lives
	i := lifeBin(generated)
	if l.curve[i] <= 0 {
		return max(generated, leastOut) // longer than any before: as long again
	}
	return max(int64(l.rest[i]/l.curve[i]), leastOut)
}
