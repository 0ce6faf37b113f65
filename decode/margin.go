package decode

import "math"

// margin is by how many standard deviations a rank's expected KV use stays below its
// capacity. It begins wide, since a few lives, and a few ranks, tell little: where
// ranks have been at their margin and did not overrun, it narrows; where they did, it
// widens again.
type margin struct {
	deviations float64 // above the mean must fit, by what was known when the curve was drawn

	// Lives of a rank at the margin for which there was no overrun, and trial fewer for
	// each that there was.
	credit float64
	barred bool  // the margin kept some request off a rank since the curve was drawn
	ended  int64 // lives that finished since then
	beyond int64 // ranks above their capacity then
}

const (
	// Deviations at first: cold starts on lives of a heavy tail then hold too much in
	// less than .5% of a rank's steps; and once all is known that can be.
	widest, narrowest = 2.45, 1
	// An overrun may begin as often as once in so many lives of a rank. Fewer without
	// one tell nothing.
	trial = 48.0
	// How fast the margin narrows, deviations for each life of a rank.
	narrowing  = 0.03
	mostCredit = trial/2 + (widest-narrowest)/narrowing
	// At the ages that decide, so many times fewer lives were in sight than ended; but
	// where next to none was, what is guessed is on the safe side by itself.
	fewer, mostDoubt = 3, 1.3
	// Requests that a rank is thought to run at least, once its unit is full.
	usually = 20
)

// heed takes in what became of the margin since the curve was drawn: lives that ended,
// of what ran, on so many ranks of which so many are above their capacity now. Ranks
// that still are count once.
func (m *margin) heed(ranks, running, over int64) {
	if m.barred {
		m.credit += float64(ranks*m.ended) / float64(max(running+m.ended, 1))
	}
	m.credit -= trial * float64(max(over-m.beyond, 0))
	m.credit = min(max(m.credit, 0), mostCredit)
	m.beyond, m.ended, m.barred = over, 0, false
}

// set sets the margin for ranks of so many requests on average, of which the curve
// is drawn from so many lives. What those tell is off by as much for all requests of
// a rank, so that it adds up, while what they do by chance does not: variances are as
// the requests to the lives.
func (m *margin) set(requests float64, lives int64) {
	d := widest - float64(narrowing*max(m.credit-trial/2, 0))
	doubt := min(fewer*max(requests, usually)/float64(max(lives, 2*weight)), mostDoubt)
	m.deviations = d * math.Sqrt(1+doubt)
}

// heed is margin.heed of the unit. Beside other routers, whose placements it does not
// see, overruns tell nothing of its own.
func (b *Balancer) heed() {
	m := &b.lives.margin
	over := int64(0)
	for g := range b.ranks {
		if b.kv(g) > b.ranks[g].capacity {
			over++
		}
	}
	m.barred = m.barred && b.others == nil
	m.heed(b.active, int64(b.ids.Len()), over)
	m.set(float64(b.ids.Len())/float64(len(b.ranks)), b.lives.ends)
}
