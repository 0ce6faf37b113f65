package pairs

import "math"

// Counts for few slots a GPU. Where the hottest experts' replicas stay well above
// the mean, what limits a plan is the condition of the sum bound: the k largest
// replicas, each above T/2 and so alone of its kind on its GPU, and the smallest
// (S-1)k of the others must fit k GPUs. searchSums looks for counts that meet it
// at as low a T as it can: from the fewest copies that fit at all it gives one
// after another where the overload falls most a copy, and halves the range of T.

// sumWork is what searchSums may do in a layer, in experts looked at: four times
// what 256 experts take.
const sumWork = 1 << 23

// SearchSums tries such counts and keeps what is best. Without it 256 experts on 96
// GPUs of 3 slots stand .4% higher, on 72 of 4 .3% (z .8, 1.2); others hardly.
func (f *Search) SearchSums(bound, goal float64, stop func() bool) {
	s := f.s
	p, least := f.ready()
	other := int32(s.U.Room(0) - 1)
	lo, hi := bound, s.Best.Level
	p.work = sumWork
	for range 7 {
		if s.Best.Level <= goal || hi <= lo*(1+2e-4) || p.work <= 0 || stop() {
			return
		}
		T := lo + (hi-lo)/2
		if !p.start(T, float64(other)*least) || !p.giveBySums(other) {
			lo = T
			continue
		}
		hi = T
		f.take(true) // as Adams would
		s.Pack()
		s.Swap(goal)
		s.Keep()
	}
}

// giveBySums gives copies until no condition fails and says whether it got there.
func (p *counts) giveBySums(other int32) bool {
	over, at := p.overload(other)
	for over > 0 {
		if p.left == 0 || p.work <= 0 {
			return false
		}
		t, e := p.big[at].size, p.order[len(p.order)-1]
		p.hot = p.hot[:0]
		for _, r := range p.big {
			p.hot = append(p.hot, choice{e: r.id, to: r.n + 1, n: r.n})
			if to := p.toBelow(r, t); to > r.n+1 && r.size >= t {
				p.hot = append(p.hot, choice{e: r.id, to: to, n: r.n})
			}
		}
		p.hot = append(p.hot, choice{e: e, to: p.count[e] + 1, n: p.count[e]})
		p.work -= len(p.hot) * (len(p.big) + len(p.cut) + int(other)*p.gpus)
		var best choice
		for _, c := range p.hot {
			if int(c.to-c.n) > p.left || int(c.to) > p.gpus {
				continue
			}
			p.give(c.e, c.to)
			v, _ := p.overload(other)
			p.give(c.e, c.n)
			if c.rate = (over - v) / float64(c.to-c.n); c.rate > best.rate {
				best = c
			}
		}
		if best.rate == 0 {
			return false
		}
		p.give(best.e, best.to)
		over, at = p.overload(other)
	}
	return true
}

// overload sums over the big replicas by how much they and the smallest others
// exceed their GPUs, and finds the first run that does.
func (p *counts) overload(other int32) (sum float64, at int) {
	cold, q := len(p.order)-1, 0
	var taken int32 // of cut[q]
	at = -1
	have := 0.0
	for i, r := range p.big {
		have += r.size * float64(r.n)
		for need := other * r.n; need > 0; {
			for cold >= 0 && p.count[p.order[cold]] > 1 {
				cold--
			}
			if q < len(p.cut) && (cold < 0 || p.cut[q].size <= p.w[p.order[cold]]) {
				n := min(need, p.cut[q].n-taken)
				have += p.cut[q].size * float64(n)
				need -= n
				if taken += n; taken == p.cut[q].n {
					q, taken = q+1, 0
				}
			} else if cold >= 0 {
				have += p.w[p.order[cold]]
				cold--
				need--
			} else {
				return math.Inf(1), i
			}
		}
		have -= p.T * float64(r.n)
		if have > 0 {
			sum += have
			if at < 0 {
				at = i
			}
		}
	}
	return sum, at
}
