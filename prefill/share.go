package prefill

import "math"

// shareWeight is how much of the rest of a step the oldest of each rank has of it.
// With what the shares add to it, that is an eighth of every step: shareWeight/(1+3 shareWeight).
const shareWeight = .2

// oldest lists the oldest of the queue, as many as shares may go to, and sees to it
// that they are among the items. If the first of them finds no rank with KV room,
// the rank that will have it soonest takes nothing else until then.
func (b *Balancer) oldest() {
	f := &b.former
	f.old = f.old[:0]
	b.late.pass(b.clock)
	full := shareWeight * (b.cost.Step + 2*b.cost.of(Work{f.tokens, whole(f.density * float64(f.tokens))}))
	room := 2 * full * float64(len(f.open))
	for _, s := range b.queue {
		if room <= 0 {
			break
		}
		if s < 0 {
			continue
		}
		q := &b.requests[s]
		if q.seq > b.late.youngest {
			break
		}
		if q.class < 0 || len(b.levels) > 0 && q.priority < b.levels[0].priority && b.clock-q.came < b.cfg.Patience {
			continue
		}
		if q.item < 0 && b.hold(s) {
			continue
		}
		if q.item < 0 {
			q.item = int32(len(f.items))
			f.items = append(f.items, b.item(s, q))
		}
		f.old = append(f.old, q.item)
		room -= min(full, max(f.items[q.item].seconds, full/1024))
	}
	if b.limited && len(f.old) > 0 {
		b.keepRoom(&f.items[f.old[0]])
	}
}

// keepRoom keeps a rank for a request that fits on none now.
func (b *Balancer) keepRoom(it *item) {
	f := &b.former
	soonest, least := -1, int64(0)
	for _, r := range f.open {
		g := int(r)
		if !b.requests[it.slot].may(g) {
			continue
		}
		over := f.fresh[g].kv + b.requests[it.slot].tokens - b.ranks[g].room()
		if over <= 0 {
			return
		}
		// what was added goes when its caller says so
		if over <= b.ranks[g].startedKV && (soonest < 0 || over < least) {
			soonest, least = g, over
		}
	}
	if soonest >= 0 {
		f.fresh[soonest].closed = true
	}
}

// bounded lowers caps to what a step may last, and says what a step within them
// gives the oldest of each rank: a part of the longest that it could last.
func (b *Balancer) bounded(c caps) caps {
	f := &b.former
	f.share = shareWeight * (b.cost.Step + b.cost.of(Work{c.tokens, min(c.pairs, f.pairs)}))
	if b.cfg.StepSeconds > 0 {
		most := max(0, b.cfg.StepSeconds-b.cost.Step)
		f.share = min(f.share, most/4)
		most -= 3 * f.share
		c.pairs = min(c.pairs, f.pairs)
		if all := b.cost.of(Work{c.tokens, c.pairs}); all > most {
			c = caps{int64(most / all * float64(c.tokens)), int64(most / all * float64(c.pairs))}
		}
	}
	return c
}

// giveShares gives each rank's share of the step to the oldest of those that are late,
// of those that have started there and of the queue. The queue's go where they would
// end first.
func (b *Balancer) giveShares() {
	f := &b.former
	lead := func(g int) {
		if i := f.load[g].lead; i >= 0 && f.placed[i] < 0 && f.items[i].seq <= b.late.youngest {
			it := &f.items[i]
			b.give(i, it, g, it.pos, it.left)
		}
	}
	for g := range f.load {
		f.load[g].due = f.share * f.load[g].speed
	}
	for _, i := range f.old {
		it := &f.items[i]
		best, bestPos, bestEnd := -1, int64(0), math.Inf(1)
		for _, r := range f.open {
			g := int(r)
			l := &f.load[g]
			if l.lead >= 0 && f.items[l.lead].seq < it.seq {
				if lead(g); b.unfinished(l.lead) {
					continue
				}
			}
			if l.due <= 0 || l.tokens >= l.capTokens || !b.takes(g, it) {
				continue
			}
			pos, _, seconds, ok := b.on(it, g)
			if end := (l.rest + seconds) / l.speed; ok && end < bestEnd {
				best, bestPos, bestEnd = g, pos, end
			}
		}
		if best >= 0 {
			b.give(i, it, best, bestPos, it.pos+it.left-bestPos)
		}
	}
	for g := range f.load {
		lead(g)
	}
}

// unfinished reports whether the step leaves something of an item.
func (b *Balancer) unfinished(i int32) bool {
	f := &b.former
	return f.placed[i] < 0 || f.pieces[f.placed[i]].n < b.needs(&f.pieces[f.placed[i]])
}

// give lets a rank spend what is left of its share on an item.
func (b *Balancer) give(i int32, it *item, g int, pos, left int64) {
	f := &b.former
	l := &f.load[g]
	if f.placed[i] >= 0 || l.due <= 0 && left > 0 {
		return
	}
	most := left
	if it.rank >= 0 || !b.short(it) {
		// the smallest chunk of so many seconds
		most = min(left, b.within(pos, l.due, left)+1)
	}
	if most < left && b.cfg.Page > 1 { // the next whole page
		most = min(left, (most+b.cfg.Page-1)/b.cfg.Page*b.cfg.Page)
	}
	if n := b.chunk(g, pos, left, most); n > 0 || left == 0 {
		b.put(i, g, n, pos)
		l.due -= b.cost.of(WorkOf(n, pos))
		if it.rank < 0 && n < left {
			l.lead = i
		}
	}
}
