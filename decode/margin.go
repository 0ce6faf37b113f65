package decode

import "math"

// margin is by how many standard deviations a rank's expected KV use stays below its
// capacity. What share of the rank-steps is above it is observed, and held against a
// goal: the margin narrows while less is, and widens while more is, whatever the
// traffic (Gibbs, Candès 2021). A rank above its capacity makes one of its requests wait,
// which the engine evicts: where more wait outside for the margin's sake than ranks are
// above, it narrows too.
type margin struct {
	deviations float64 // above the mean must fit, by what was known when the curve was drawn
	narrowed   float64 // by how many it is below the widest, where all lives are known
	barred     bool    // the margin kept some request off a rank since the curve was drawn
	ended      int64   // lives that finished since then
	waits      waits
}

const (
	// The share of rank-steps that may hold more than the capacity, and its quantile of
	// the normal distribution: the margin at first.
	goal, widest = 0.005, 2.576
	// What is aimed at: of the few lives that a unit sees, more are over or fewer by chance.
	aim = goal / 2
	// However seldom there is an overrun: who dares more learns of it too late.
	narrowest = 1
	// By how many deviations it widens for a rank that is above its capacity all through
	// a mean life; for one that never is it narrows by aim times as much.
	widening = 3
	// At the ages that decide, so many times fewer lives were in sight than ended; but
	// where next to none was, what is guessed is on the safe side by itself.
	fewer, mostDoubt = 3, 1.3
	// Requests that a rank is thought to run at least, once its unit is full.
	usually = 20
)

// heed takes in what became of the margin since the curve was drawn: lives that ended,
// of what ran, on so many ranks of which so many are above their capacity, while so many
// wait. Where it kept nothing off a rank, that there is no overrun says nothing of it.
func (m *margin) heed(ranks, running, over, waiting int64) {
	lives := float64(m.ended) / float64(max(running+m.ended, 1)) // of each rank
	if m.barred || over > 0 {
		m.narrowed += float64(widening * lives * (max(float64(aim*float64(ranks)), float64(waiting)) - float64(over)))
	}
	m.narrowed = min(max(m.narrowed, 0), widest-narrowest)
	m.ended, m.barred = 0, false
}

// set sets the margin for ranks of so many requests on average, of which the curve
// is drawn from so many lives. What those tell is off by as much for all requests of
// a rank, so that it adds up, while what they do by chance does not: variances are as
// the requests to the lives.
func (m *margin) set(requests float64, lives int64) {
	doubt := min(fewer*max(requests, usually)/float64(max(lives, 2*weight)), mostDoubt)
	m.deviations = (widest - m.narrowed) * math.Sqrt(1+doubt)
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
	if b.others != nil {
		m.barred, over = false, 0
	}
	m.heed(b.active, int64(b.ids.Len()), over, m.waits.count(b.lives.at))
	m.set(float64(b.ids.Len())/float64(len(b.ranks)), b.lives.ends)
}
