package pairs

import "math"

// Counts for few slots a GPU. Where the hottest experts' replicas stay well above
// the mean, what limits a plan is the condition of the sum bound: the k largest
// replicas, each above T/2 and so alone of its kind on its GPU, and the smallest
// (S-1)k of the others must fit k GPUs. giveBySums looks for counts that meet it: from
// the fewest copies that fit at all it gives one after another where the overload falls
// most a copy.

// giveBySums gives copies until no condition fails at T and says whether it got there.
// other is how many replicas are beside one on its GPU.
func (p *counts) giveBySums(T, least float64, other int32) bool {
	if !p.start(T, float64(other)*least) {
		return false
	}
	over, at := p.overload(other)
	for over > 0 {
		t, coldest := p.runs[at].size, p.run(p.order[len(p.order)-1])
		p.hot = p.hot[:0]
		for _, r := range p.runs {
			if r.size <= p.T/2 {
				break
			}
			p.hot = append(p.hot, choice{e: r.id, to: r.n + 1, n: r.n})
			if to := p.toBelow(r, t); r.size >= t && to > r.n+1 {
				p.hot = append(p.hot, choice{e: r.id, to: to, n: r.n})
			}
		}
		p.hot = append(p.hot, choice{e: coldest.id, to: coldest.n + 1, n: coldest.n})
		if p.work -= len(p.hot) * (len(p.hot) + int(other)*p.gpus); p.work <= 0 {
			return false
		}
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
	q, taken, have := len(p.runs)-1, int32(0), 0.0 // taken of runs[q]
	at = -1
	for i, r := range p.runs {
		if r.size <= p.T/2 {
			break
		}
		have += float64((r.size - p.T) * float64(r.n))
		for need := other * r.n; need > 0; {
			if p.runs[q].size > p.T/2 { // no small one is left
				return math.Inf(1), i
			}
			n := min(need, p.runs[q].n-taken)
			have += float64(p.runs[q].size * float64(n))
			need -= n
			if taken += n; taken == p.runs[q].n {
				q, taken = q-1, 0
			}
		}
		if have > 0 {
			sum += have
			if at < 0 {
				at = i
			}
		}
	}
	return sum, at
}
