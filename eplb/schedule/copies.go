package schedule

import "slices"

// Copies between GPUs are found in two ways: by matchings, which serve the busiest GPUs,
// and along chains, which make room where there is none.
//
// A GPU without a free slot can receive only if it sends away an expert of which it has
// the last copy; the GPU that this goes to must have room, or send one away in its turn;
// and so on to a GPU with room, or around to one on the way. Every GPU without room has
// such an expert, so that with idle links a walk always ends: no cycle of last copies is
// too tight for one copy a GPU and round.

// serveRequests serves what the links that are still idle allow of the requests
// that are so urgent, and not yet copied in the round; 0 = of all.
func (y *layer) serveRequests(urgency int) {
	for i := range y.requests {
		q := &y.requests[i]
		x := &y.experts[q.expert]
		// A cycle elsewhere may have made room: as long as one does, try again.
		for !q.done && (urgency == 0 || q.urgency == urgency && x.live <= len(x.hold)) {
			q.from = y.nearest(q, y.out[all], true)
			// What no GPU holds is read from outside, once a round; others copy it later.
			if q.from < 0 && (len(x.hold) > 0 || x.live > 0 || !y.open(-1, q.gpu)) {
				break
			}
			if clear(y.mark); !y.together(y.walk(q)) {
				break
			}
		}
	}
}

// walk finds the way of a request: others that make room for it, around to one on the
// way maybe, and itself; nil = none. What leads to a cycle from outside has no room.
func (y *layer) walk(q *request) []*request {
	const onWay, noWay = 1, 2
	g := q.gpu
	if y.mark[g] == onWay || y.room(q) >= 0 {
		return []*request{q}
	}
	if y.mark[g] == noWay {
		return nil
	}
	y.mark[g] = onWay
	for slot := y.first[g]; slot < y.first[g+1]; slot++ {
		if y.plan[slot] < 0 || y.touched(slot) || y.kept(slot) {
			continue
		}
		for _, next := range y.experts[y.plan[slot]].asked {
			if next.done || !y.open(g, next.gpu) {
				continue
			}
			next.from = slot
			if way := y.walk(next); way != nil {
				return append(way, q)
			}
		}
	}
	y.mark[g] = noWay
	return nil
}

// nearest picks of the slots that hold its expert the one that a request is read from:
// on its node, else on the GPU that is least busy, of those that are open, if that
// counts; ties to the lowest. -1 = none.
func (y *layer) nearest(q *request, busy []int, open bool) int {
	best, least, near := -1, 0, false
	for _, i := range y.experts[q.expert].hold {
		h := y.gpuOf[i]
		same := y.node[h] == y.node[q.gpu]
		if (best < 0 || same && !near || same == near && busy[h] < least) && (!open || y.open(h, q.gpu)) {
			best, least, near = i, busy[h], same
		}
	}
	return best
}

// together serves requests that count on each other's copies, without those for which
// room, links or memory are lacking, and says whether there are any.
func (y *layer) together(requests []*request) bool {
	for len(requests) > 0 {
		mark := len(y.log)
		for _, q := range requests {
			y.experts[q.expert].live++
		}
		stuck := slices.IndexFunc(requests, func(q *request) bool {
			y.experts[q.expert].live-- // what is written is counted
			slot := y.room(q)
			if slot < 0 || !y.open(y.reader(q.from), q.gpu) {
				return true
			}
			q.done = true
			y.write(slot, q.expert, q.from, q)
			return false
		})
		if stuck < 0 {
			return true
		}
		y.undo(mark)
		for _, q := range requests[stuck+1:] {
			y.experts[q.expert].live--
		}
		requests = slices.Delete(requests, stuck, stuck+1)
	}
	return false
}

// matching finds, for one layer, copies that run together: each GPU sends at
// most one and receives at most one.
//
// The copies a layer still needs are edges of a bipartite graph from senders to
// receivers. Let d be its largest degree. Padded so that all degrees are d, the
// graph has a perfect matching (König), which serves every GPU with d copies to
// go: as many rounds as the busiest GPU has copies. The padding is chosen such
// that GPUs also have room: a GPU that receives no more than it sends is padded
// with edges to itself, so that it never receives without sending an expert it
// may then drop; the rest joins GPUs that receive less than they send to GPUs that
// receive more. Without matchings schedules take 1 to 3% more rounds, without the
// padding .8%.
type matching struct {
	receives, sends []int      // degrees
	d               int        // the largest
	busy, receiving []int      // GPUs that do anything, the busiest first; that receive more than they send
	taken, seen     int        // of the latter, how many at the head are matched; how many a search has come by since
	partner         []int      // receiver matched to each sender, -1 = none
	via             []*request // and the request, nil = padding
}

// match serves one matching of the layer's requests and says whether it served any.
func (y *layer) match() bool {
	clear(y.receives)
	clear(y.sends)
	// Where each request would be read: first those that have no choice.
	for _, choice := range [2]bool{false, true} {
		for i := range y.requests {
			q := &y.requests[i]
			if n := len(y.experts[q.expert].hold); !q.done && n > 0 && n > 1 == choice {
				q.from = y.nearest(q, y.sends, false)
				y.sends[y.gpuOf[q.from]]++
				y.receives[q.gpu]++
			}
		}
	}
	busy := func(g int) int { return max(y.receives[g], y.sends[g]) }
	y.d, y.busy, y.receiving = 0, y.busy[:0], y.receiving[:0]
	for g := range y.partner {
		y.d, y.partner[g], y.via[g] = max(y.d, busy(g)), -1, nil
		if busy(g) > 0 {
			y.busy = append(y.busy, g)
		}
		if y.receives[g] > y.sends[g] {
			y.receiving = append(y.receiving, g)
		}
	}
	slices.SortStableFunc(y.busy, func(a, b int) int { return busy(b) - busy(a) })
	y.taken = 0
	for _, g := range y.busy {
		for y.taken < len(y.receiving) && y.partner[y.receiving[y.taken]] >= 0 {
			y.taken++
		}
		y.seen = 0
		clear(y.mark)
		y.augment(g)
	}
	return y.together(slices.DeleteFunc(slices.Clone(y.via), func(q *request) bool { return q == nil }))
}

// augment looks for a sender for receiver g, taking it from another receiver
// that has a choice. Copies come before padding.
func (y *layer) augment(g int) bool {
	for i := range y.lacks[g] {
		if q := &y.lacks[g][i]; !q.done && len(y.experts[q.expert].hold) > 0 {
			if h := y.gpuOf[q.from]; y.open(h, g) && y.take(g, h, q) {
				return true
			}
		}
	}
	if max(y.receives[g], y.sends[g]) < y.d && y.take(g, g, nil) {
		return true
	}
	for n := len(y.receiving); y.receives[g] < y.sends[g] && y.seen < n; {
		if y.seen++; y.take(g, y.receiving[(y.taken+y.seen-1)%n], nil) {
			return true
		}
	}
	return false
}

// take matches sender h to g if h is free or its receiver finds another.
func (y *layer) take(g, h int, q *request) bool {
	if y.mark[h] > 0 {
		return false
	}
	if y.mark[h] = 1; y.partner[h] >= 0 && !y.augment(y.partner[h]) {
		return false
	}
	y.partner[h], y.via[h] = g, q
	return true
}
