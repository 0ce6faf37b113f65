package system

import "math"

// ledger is what a policy knows of its ranks.
type ledger struct {
	DecodeConfig
	kv      []int64
	n       []int64
	sumKV   int64
	sumN    int64
	maximum int64 // of kv; exact after Step
}

func newLedger(c DecodeConfig) ledger {
	return ledger{DecodeConfig: c, kv: make([]int64, c.Ranks), n: make([]int64, c.Ranks)}
}

// Step says that every request grew by one token.
func (l *ledger) Step() {
	top := int64(0)
	for r := range l.kv {
		l.kv[r] += l.n[r]
		top = max(top, l.kv[r])
	}
	l.maximum = top
	l.sumKV += l.sumN
}

// Done says that a request has left its rank.
func (l *ledger) Done(_ int64, r int, kv int64) {
	l.kv[r], l.n[r] = l.kv[r]-kv, l.n[r]-1
	l.sumKV, l.sumN = l.sumKV-kv, l.sumN-1
}

// fits tells whether a rank has room.
func (l *ledger) fits(r int, kv int64) bool {
	return l.kv[r]+kv <= l.KVCapacity && l.n[r] < int64(l.MaxRequests)
}

func (l *ledger) put(r int, kv int64) int {
	l.kv[r], l.n[r] = l.kv[r]+kv, l.n[r]+1
	l.sumKV, l.sumN = l.sumKV+kv, l.sumN+1
	l.maximum = max(l.maximum, l.kv[r])
	return r
}

// roundRobin takes the next rank that has room.
type roundRobin struct {
	ledger
	next int
}

func (p *roundRobin) Place(_, kv int64) int {
	for i := range p.Ranks {
		if r := (p.next + i) % p.Ranks; p.fits(r, kv) {
			p.next = (r + 1) % p.Ranks
			return p.put(r, kv)
		}
	}
	return -1
}

// leastRequests takes the rank with the fewest requests.
type leastRequests struct{ ledger }

func (p *leastRequests) Place(_, kv int64) int {
	best := -1
	for r := range p.n {
		if p.fits(r, kv) && (best < 0 || p.n[r] < p.n[best]) {
			best = r
		}
	}
	if best < 0 {
		return -1
	}
	return p.put(best, kv)
}

// waterLevel fills the fullest rank that stays below a level a little above the
// mean, which the fullest rank pays for anyway: holes stay deep for long
// requests.
type waterLevel struct{ ledger }

func (p *waterLevel) Place(_, kv int64) int {
	g := int64(p.Ranks)
	mean := float64(p.sumKV+kv) / float64(g)
	level := min(p.KVCapacity, int64(mean*1.005+.25*max(0, float64(p.maximum)-mean)))
	slots := min(int64(p.MaxRequests), (p.sumN+g)/g)
	best, top, limit := -1, int64(-1), level-kv
	for r, x := range p.kv {
		if x <= limit && x > top && p.n[r] < slots {
			best, top = r, x
		}
	}
	if best >= 0 {
		return p.put(best, kv)
	}
	// Nothing is below: where the step grows least.
	cost, requests := math.Inf(1), max(float64(p.sumN)/float64(g), 1)
	for r, x := range p.kv {
		if !p.fits(r, kv) {
			continue
		}
		c := p.KV*float64(kv)*steep(float64(x+kv)/mean-1) + p.Request*steep(float64(p.n[r]+1)/requests-1)
		if c < cost {
			best, cost = r, c
		}
	}
	if best < 0 {
		return -1
	}
	return p.put(best, kv)
}

// steep grows fast with what a rank is above the mean, without the last bits of
// an exponential, which differ between platforms.
func steep(x float64) float64 {
	y := 1 + 8*max(0, 1+x)
	y *= y
	y *= y
	return float64(y * y)
}
