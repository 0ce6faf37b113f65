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
	aged    int64 // that were not seen to begin,
	ages    int64 // and the tokens that they had generated
	news    int64 // of all these since the curve was drawn

	at      int64                         // clock when the curve was drawn
	due     int64                         // clock when it will be again
	bound   int64                         // then, what is told beyond which is not believed
	version int64                         // how often it was
	curve   [lifeBins + 1]float64         // share that generates as many tokens as the bin begins with, or more
	rest    [lifeBins + 1]float64         // mean tokens beyond that of all
	chance  [ageClasses][horizons]float64 // of being there at the start of each horizon, by age

	margin
	hints
	golden float64 // the most that any chance and the margin for its coming true add up to,
	growth float64 // and the most of that for the growth of a request that begins, at any horizon
}

// spans counts lives by the bins in which they came into sight and left unfinished,
// and how much of that bin each was not in sight: where bins are wide, most lives
// are seen for a part of one.
type spans struct {
	entered, left [lifeBins]int64
	late, early   [lifeBins]int64 // tokens of the bin before all that entered, and after all that left
}

// comes takes in that a life came into sight which had generated so many tokens.
func (l *lives) comes(generated int64) {
	if generated == 0 {
		return
	}
	l.aged++
	l.ages += min(generated, MaxTokens)
	l.news++
	if l.aged >= memory {
		l.aged, l.ages = l.aged/2, l.ages/2
	}
}

// stale reports whether so much is new that the curve is to be drawn anew, which
// costs a look at each of so many requests.
func (l *lives) stale(requests int) bool {
	return l.news >= 8+(l.ends+l.aged)/8+int64(requests/64)
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
	l.ended++
	if q.told {
		l.hints.finished(q.output, n)
	}
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
	b.heed()
	l.judge()
	l.bound = math.MaxInt64
	if l.ends >= weight {
		l.bound = 8 * l.longest
	}
	l.fit(b.cfg.Output)
	l.follow()
	l.news, l.at = 0, b.clock
	l.due = b.clock + min(max(int64(l.rest[0])/16, 4), 256)
	l.version++
}

// fit draws the survival curve, by the rate at which lives end at each age. What
// was seen at an age decides it where many lives were in sight. Where next to nothing
// was, at a cold start and beyond the longest lives, a guess does: nobody ends before
// the scale that was told, or is the mean age of those that ran already when they came
// into sight, and who has outlived it is expected to live as long again as it has. A
// guess weighs as much as so many lives in sight (Hjort 1990), so that it gives way
// gradually; one that nobody told, to the rate at earlier ages too.
func (l *lives) fit(told int64) {
	scale := told
	if told == 0 {
		// Those that ended first are the shortest: the mean is no less than theirs.
		scale = max((weight*guessed+l.ages)/(weight+l.aged), l.sum/max(l.ends, 1))
	}
	held := int64(0) // what was told holds until so many have finished
	if told > 0 {
		held = weight
	}
	risk, share := 0.0, 1.0
	var ended, seen [lifeBins]float64 // of the latest octave in which lives were in sight, with their tokens there
	ends, tokens, low, last := 0.0, 0.0, 0, 0
	for i := range lifeBins {
		l.curve[i] = share
		from, to := edge(i, 4), edge(i+1, 4)
		width := float64(to - from)
		done, cut := float64(l.finished[i]), float64(l.left[i])
		risk += float64(l.entered[i])
		// Lives that were in sight all through the bin.
		lives := max(done, risk-(float64(l.late[i]+l.early[i])-cut/2)/width)
		risk = max(risk-done-cut, 0)
		if l.ends < held {
			done = 0
		}

		rate, known := 0.0, weight*float64(to)
		if from >= scale {
			rate = 2 / float64(to)
		}
		if ends > 0 {
			earlier := ends * float64(edge(last, 4))
			rate = (float64(rate*known) + float64(earlier*ends/tokens)) / (known + earlier)
		}
		share = max(share*(1-(float64(weight*rate*width)+done)/(weight+lives)), faint)
		if lives <= 0 || told > 0 {
			continue
		}
		last = i + 1
		ended[i], seen[i] = done, float64(lives*width)
		ends, tokens = ends+ended[i], tokens+seen[i]
		for ; 2*edge(low, 4) < from; low++ {
			ends, tokens = max(ends-ended[low], 0), max(tokens-seen[low], 0)
		}
	}
	l.curve[lifeBins] = 0
}

// weight is how many lives in sight a guess weighs as much as.
const weight = 32

// faint is the least share: none is impossible.
const faint = 1e-100

// follow draws up what follows from the curve.
func (l *lives) follow() {
	l.rest[lifeBins] = 0
	for i := lifeBins - 1; i >= 0; i-- {
		width := float64(edge(i+1, 4) - edge(i, 4))
		l.rest[i] = l.rest[i+1] + float64(width*(l.curve[i]+l.curve[i+1])/2)
	}
	for c := range l.chance {
		age := (edge(c, 2) + edge(c+1, 2)) / 2
		alive := l.curve[lifeBin(age)]
		for j := range l.chance[c] {
			if x := float64(age) + horizon(j-1); x <= MaxTokens {
				l.chance[c][j] = l.curve[lifeBin(int64(x))] / alive
			} else {
				l.chance[c][j] = 0
			}
		}
	}
	d := l.deviations
	l.golden, l.growth = (1+math.Sqrt(1+float64(d*d)))/2, 0
	for j := range horizons {
		for _, p := range [...]float64{l.chance[0][j], l.chance[0][max(j-1, 0)]} {
			l.growth = max(l.growth, float64(horizon(j)*(p+float64(d*math.Sqrt(p*max(1-p, 0))))))
		}
	}
}

// expected is how many tokens a request will still generate that has generated
// so many, where nobody told.
func (b *Balancer) expected(generated int64) int64 {
	i := lifeBin(generated)
	return max(int64(b.lives.rest[i]/b.lives.curve[i]), leastOut)
}
