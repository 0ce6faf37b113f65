package prefill

import "github.com/moelb/moelb/prefill/internal/pack"

// depth sees whether the queue is deep: whether what of it fits into a full step of all
// ranks, with attention in proportion, fills half of that, and all that is here takes
// longer than the part of the longest prompt that what comes meanwhile would leave
// alone. Where others come all the time, a long prompt may wait: it will have company.
// Where none do, one that is left to the end has the unit to itself.
func (b *Balancer) depth() {
	f := &b.former
	longest, started := 0.0, 0.0
	for i := range f.Items {
		longest = max(longest, f.Items[i].Seconds)
		started += f.Items[i].Seconds
	}
	for _, l := range b.levels {
		for c := classCount - 1; c >= 0; c-- {
			if h := l.classes[c]; len(h) > 0 {
				longest = max(longest, b.cost.of(b.ownWork(&b.requests[h[0].slot])))
				break
			}
		}
	}
	f.longest, f.Density = longest, 0
	power := max(b.power, 1/MaxSpeed)
	company := min(1, (b.observed.inflow+b.observed.brought/max(longest, 1e-9))/power)
	started = min(started/power, b.ahead())
	queued := b.ahead() - started
	if len(b.levels) != 1 || len(f.Open) == 0 || b.cost.Pair == 0 || b.cost.Token == 0 {
		f.Deep = false
		return
	}
	density := float64(b.total.Pairs) / float64(max(1, b.total.Tokens))
	full := float64(b.cost.Token*float64(f.Tokens)) + float64(b.cost.Pair*float64(density*float64(f.Tokens)))
	f.Deep = b.fits(queued*power, full) > full*power/2 && queued+float64((1-company)*started) > float64(company*longest)
	if f.Deep {
		f.Density = density
	}
}

// fits is how many seconds of the queue's work at least fit into a step of so many
// seconds, where each prompt has a rank of its own.
func (b *Balancer) fits(queued, step float64) float64 {
	whole := 0.0
	for c := classOf(step); c < classCount; c++ {
		n := float64(len(b.levels[0].classes[c]))
		whole += float64(n * step)
		queued -= float64(n * max(0, leastOf(c+1)-step))
	}
	return max(queued, whole)
}

// collectDeep lists the oldest of the queue, as many as have the light prompts for
// some steps among them, and the longest.
func (b *Balancer) collectDeep() {
	f := &b.former
	add := func(s int32, later bool) int64 {
		q := &b.requests[s]
		if q.class < 0 || q.item >= 0 || q.leader >= 0 && q.shared > q.pos && (later || b.hold(s)) {
			return 0
		}
		if q.turn == unknownSince && !later {
			q.turn = b.clock
		}
		it := b.item(s, q)
		if q.turn != unknownSince {
			it.Passed = b.clock - q.turn
		}
		q.item = int32(len(f.Items))
		f.Items = append(f.Items, it)
		return max(it.Left, 1)
	}
	full := int64(len(f.Open)) * f.Tokens
	seen, light := int64(0), int64(0)
	for _, s := range b.queue {
		if light >= pack.Supply*full || seen >= pack.Search*full {
			break
		}
		if s >= 0 {
			n := add(s, seen > full)
			seen += n
			if n > 0 && !f.Dense(&f.Items[len(f.Items)-1]) {
				light += n
			}
		}
	}
	b.longestOf(2*len(f.Open), func(s int32) { add(s, true) })
}

// longestOf visits the longest of the queue, so many, the oldest of a class first.
func (b *Balancer) longestOf(n int, visit func(s int32)) {
	f := &b.former
	for _, l := range b.levels {
		for c := classCount - 1; c >= 0 && n > 0; c-- {
			h := &l.classes[c]
			f.some = f.some[:0]
			for ; len(*h) > 0 && n > 0; n-- {
				s := (*h)[0].slot
				b.pull(h, 0)
				f.some = append(f.some, s)
			}
			for _, s := range f.some {
				b.push(h, s)
			}
			for _, s := range f.some {
				visit(s)
			}
		}
	}
}
