package prefill

import "github.com/moelb/moelb/prefill/internal/pack"

// oldest lists the oldest of the queue, as many as shares may go to, and sees to it
// that they are among the items. If the first of them finds no rank with KV room,
// the rank that will have it soonest takes nothing else until then.
func (b *Balancer) oldest() {
	f := &b.former
	b.late.pass(b.clock)
	full := f.ShareWeight() * (b.cost.Step + 2*b.cost.of(Work{f.Tokens, int64(min(f.Density*float64(f.Tokens), 1<<61))}))
	room := 2 * full * float64(len(f.Open))
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
			q.item = int32(len(f.Items))
			f.Items = append(f.Items, b.item(s, q))
		}
		f.Old = append(f.Old, q.item)
		room -= min(full, max(f.Items[q.item].Seconds, full/1024))
	}
	if b.limited && len(f.Old) > 0 {
		b.keepRoom(&f.Items[f.Old[0]])
	}
}

// keepRoom keeps a rank for a request that fits on none now.
func (b *Balancer) keepRoom(it *pack.Item) {
	f := &b.former
	soonest, least := -1, int64(0)
	for _, r := range f.Open {
		g := int(r)
		if !b.requests[it.Slot].where.May(g) {
			continue
		}
		over := b.ranks[g].kv + b.requests[it.Slot].tokens - b.ranks[g].room()
		if over <= 0 {
			return
		}
		// what was added goes when its caller says so
		if over <= b.ranks[g].startedKV && (soonest < 0 || over < least) {
			soonest, least = g, over
		}
	}
	if soonest >= 0 {
		f.Close(soonest)
	}
}
