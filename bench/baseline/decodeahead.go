package baseline

import (
	"math"

	"github.com/moelb/moelb/decode"
)

// horizon is how many steps the policies below look ahead, and discount what a
// step weighs less than the one before.
const (
	horizon  = 16
	discount = 0.9
)

// ahead is the KV use of each rank over the coming steps, as far as it is
// predicted: a request counts, a token more each step, until it is predicted to
// end, which is never where its output was not told.
type ahead struct {
	at   int64 // clock
	load [][horizon]int64
	most [horizon]int64
}

// look returns the predictions as of now. O(requests) once a step.
func (l *Ledger) look() *ahead {
	a := &l.ahead
	if a.load == nil || a.at != l.clock {
		*a = ahead{l.clock, make([][horizon]int64, len(l.running)), a.most}
		for i := range l.requests {
			if l.requests[i].rank >= 0 {
				a.add(l, i, 1)
			}
		}
	}
	for h := range a.most {
		a.most[h] = 0
		for g := range a.load {
			a.most[h] = max(a.most[h], a.load[g][h])
		}
	}
	return a
}

// add counts a request in (1) or out (-1).
func (a *ahead) add(l *Ledger, i int, sign int64) {
	if a.load == nil || a.at != l.clock {
		return
	}
	q := &l.requests[i]
	for h := range a.load[q.rank] {
		if q.end == 0 || l.clock+int64(h) < q.end {
			a.load[q.rank][h] += sign * (q.base + l.clock + int64(h))
		}
	}
}

// grown is what a request holds over the coming steps.
func grown(r decode.Request) (d [horizon]int64) {
	for h := range d {
		if r.Output == 0 || int64(h) < r.Output {
			d[h] = r.KV + int64(h)
		}
	}
	return d
}

// brH is BalanceRoute with a horizon: br-0's score, summed over the coming steps.
func brH(l *Ledger, r decode.Request) int {
	a, d, n := l.look(), grown(r), float64(len(l.running))
	return l.least(func(g int) (score, free float64) {
		weight := 1.0
		for h := range d {
			above := max(0, a.load[g][h]+d[h]-a.most[h])
			score += weight * (n*float64(above) - float64(d[h]))
			weight *= discount
		}
		return score, float64(l.all(g))
	})
}

// slots is how many requests a rank runs where all are full, as bf-io has them.
func (l *Ledger) slots(more int) int {
	n := len(l.running)
	sum := more
	for g := range n {
		sum += l.all(g)
	}
	return (sum + n - 1) / n
}

// bfIO is Balance Future by Integer Optimization for a single request: of the
// ranks with a free slot, the least rise of the maxima over the coming steps, then
// the least KV use.
func bfIO(l *Ledger, r decode.Request) int {
	a, d, slots := l.look(), grown(r), l.slots(1)
	return l.least(func(g int) (rise, kv float64) {
		if l.all(g) >= slots {
			return math.Inf(1), float64(l.all(g))
		}
		for h := range d {
			rise += float64(max(0, a.load[g][h]+d[h]-a.most[h]))
		}
		return rise, float64(l.tokens[g])
	})
}

// bfIOBatch is the same for a batch. The integer program is solved nearly: the
// longest are placed first, and then two change ranks, in as many rounds as help
// and five at most, where that lowers the sum of squares over the steps, which
// falls with the maxima and tells apart where they tie. Of a batch beyond 512
// requests none change.
func bfIOBatch(l *Ledger, requests []decode.Request, place func(i, rank int)) {
	a := l.look()
	load := append([][horizon]int64(nil), a.load...)
	most := a.most
	held := append([]int64(nil), l.tokens...)
	count := make([]int, len(held))
	for g := range count {
		count[g] = l.all(g)
	}
	slots := l.slots(len(requests))
	rank := make([]int, len(requests))
	grow := make([][horizon]int64, len(requests))
	order := longestFirst(requests)
	for _, i := range order {
		grow[i] = grown(requests[i])
		rank[i] = l.least(func(g int) (rise, kv float64) {
			if count[g] >= slots {
				return math.Inf(1), float64(count[g])
			}
			for h, d := range grow[i] {
				rise += float64(max(0, load[g][h]+d-most[h]))
			}
			return rise, float64(held[g])
		})
		g := rank[i]
		held[g] += requests[i].KV
		count[g]++
		for h, d := range grow[i] {
			load[g][h] += d
			most[h] = max(most[h], load[g][h])
		}
	}
	square := func(g int, more, less *[horizon]int64) (s float64) {
		for h, x := range load[g] {
			y := float64(x + more[h] - less[h])
			s += float64(y * y)
		}
		return s
	}
	var none [horizon]int64
	for round, better := 0, len(order) <= 512; better && round < 5; round++ {
		better = false
		for x, i := range order {
			for _, j := range order[:x] {
				g, k := rank[i], rank[j]
				if g == k || square(g, &grow[j], &grow[i])+square(k, &grow[i], &grow[j]) >= square(g, &none, &none)+square(k, &none, &none) {
					continue
				}
				for h := range grow[i] {
					load[g][h] += grow[j][h] - grow[i][h]
					load[k][h] += grow[i][h] - grow[j][h]
				}
				rank[i], rank[j] = k, g
				better = true
			}
		}
	}
	for i, g := range rank {
		place(i, g)
	}
}
