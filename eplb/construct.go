package eplb

// construct makes copies anew for lo.home and the aim: of every expert above
// limit as few as bring each to limit, of the others one; from nodes with too
// much the largest are sent to those with most room, at most may in all; what
// slots are left go to the others on each node as Adams' counts would have it.
// It says whether that fits. Cost: O(experts·nodes).
func (lo *locality) construct(limit float64, may int) bool {
	if !lo.atHome(limit, may) || !lo.sendAway(may) || !lo.takeIn() || !lo.fillNodes() {
		return false
	}
	s, nodes := lo.s, len(lo.nodes)
	for e := lo.experts; e < len(s.w); e++ {
		s.count[e] = 0
		for _, c := range lo.copies[e*nodes : e*nodes+nodes] {
			s.count[e] += int32(c)
		}
	}
	lo.total()
	return lo.out <= may
}

// atHome gives every expert its copies, those at home that its node has GPUs for,
// and says whether no more than may are left over.
func (lo *locality) atHome(limit float64, may int) bool {
	s := lo.s
	nodes := len(lo.nodes)
	clear(lo.copies)
	clear(lo.slots)
	clear(lo.sum)
	clear(lo.frozen)
	lo.exports = lo.exports[:0]
	lo.out = 0
	for _, e := range s.order {
		if int(e) >= lo.experts {
			continue
		}
		n := int(lo.homeAt[e])
		k := 1
		if s.w[e] > limit {
			k = ceilDiv(s.w[e], limit)
			lo.frozen[e] = true
		}
		if k > len(s.u.gpu) {
			return false
		}
		s.count[e] = int32(k)
		s.size[e] = s.w[e] / float64(k)
		at := min(k, lo.nodes[n].hi-lo.nodes[n].lo)
		lo.copies[int(e)*nodes+n] = int16(at)
		lo.slots[n] += at
		lo.sum[n] += float64(float64(at) * s.size[e])
		for range k - at {
			lo.exports = append(lo.exports, e)
		}
	}
	return len(lo.exports) <= may
}

// sendAway takes from nodes with too much what has to leave them, at most may
// copies in all, and says whether what stays has room.
func (lo *locality) sendAway(may int) bool {
	s, nodes := lo.s, len(lo.nodes)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		for {
			over := lo.sum[n] - float64(lo.aim*ns.power)
			if (over <= 0 && lo.slots[n] <= ns.s.u.slots) || len(lo.exports) >= may {
				break
			}
			// The smallest that suffices, or the largest.
			best := int32(-1)
			for _, e := range s.order {
				if int(e) >= lo.experts || lo.copies[int(e)*nodes+n] == 0 {
					continue
				}
				x := s.size[e]
				if best < 0 || (x >= over && x < s.size[best]) || (x > s.size[best] && s.size[best] < over) {
					best = e
				}
			}
			if best < 0 {
				break
			}
			lo.copies[int(best)*nodes+n]--
			lo.slots[n]--
			lo.sum[n] -= s.size[best]
			lo.exports = append(lo.exports, best)
		}
		if lo.slots[n] > ns.s.u.slots {
			return false
		}
	}
	return true
}

// takeIn finds a node for every copy that left its own, the largest first.
func (lo *locality) takeIn() bool {
	s, nodes := lo.s, len(lo.nodes)
	for i := 1; i < len(lo.exports); i++ {
		for j := i; j > 0 && s.size[lo.exports[j]] > s.size[lo.exports[j-1]]; j-- {
			lo.exports[j], lo.exports[j-1] = lo.exports[j-1], lo.exports[j]
		}
	}
	for _, e := range lo.exports {
		best, most := -1, 0.0
		for n := range lo.nodes {
			ns := &lo.nodes[n]
			if n == int(lo.homeAt[e]) || lo.slots[n] >= ns.s.u.slots || int(lo.copies[int(e)*nodes+n]) >= ns.hi-ns.lo {
				continue
			}
			if x := lo.aim*ns.power - lo.sum[n]; best < 0 || x > most {
				best, most = n, x
			}
		}
		if best < 0 {
			return false
		}
		lo.copies[int(e)*nodes+best]++
		lo.slots[best]++
		lo.sum[best] += s.size[e]
	}
	return true
}

// fillNodes gives the slots that are left to the experts at home there whose
// replicas are largest.
func (lo *locality) fillNodes() bool {
	s, nodes := lo.s, len(lo.nodes)
	for n := range lo.nodes {
		ns := &lo.nodes[n]
		for ; lo.slots[n] < ns.s.u.slots; lo.slots[n]++ {
			best := int32(-1)
			for _, e := range s.order {
				if lo.frozen[e] || int(lo.homeAt[e]) != n || int(lo.copies[int(e)*nodes+n]) >= ns.hi-ns.lo {
					continue
				}
				if int(e) < lo.experts && lo.copies[int(e)*nodes+n] == 0 {
					continue
				}
				if best < 0 || s.size[e] > s.size[best] {
					best = e
				}
				if int(e) < lo.experts && s.count[e] == 1 {
					break // the rest is smaller
				}
			}
			if best < 0 {
				return false
			}
			lo.copies[int(best)*nodes+n]++
			if int(best) < lo.experts {
				s.count[best]++
				s.size[best] = s.w[best] / float64(s.count[best])
			}
		}
	}
	return true
}
