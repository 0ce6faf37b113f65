package eplb

// recount changes counts: a slot of an expert with several replicas goes to
// another expert, each time the one that lowers the smooth objective most, by
// leastGain at least. It returns whether it changed any. Cost: a round compares
// slots of replicated experts × experts in each window, after
// O(slots·windows) a change.
func (j *windows) recount() bool {
	s, n := j.s, j.n
	u := s.u
	changed := false
	objective := j.weigh()
	j.listHolders()
	for moved := true; moved; {
		moved = false
		for g := range u.speed {
			if j.work > windowWork || j.stop() {
				return false
			}
			for a := u.first[g]; a < u.first[g+1]; a++ {
				if s.count[s.slot[a]] < 2 {
					continue
				}
				j.work += len(s.w) * n
				if e := j.bestReplacement(g, a, float64(leastGain/float64(len(u.speed))*objective)); e >= 0 {
					j.replace(g, a, e)
					objective = j.weigh()
					j.listHolders()
					j.work += u.slots * n
					moved, changed = true, true
				}
			}
		}
	}
	return changed
}

// bestReplacement finds the expert that should have slot a of GPU g instead of
// the one there, -1 if none gains more than least.
func (j *windows) bestReplacement(g, a int, least float64) int32 {
	s, n := j.s, j.n
	slope := j.slope[:n]
	f := s.slot[a]
	sf, c := j.size[int(f)*n:][:n], float64(s.count[f])
	// What the other replicas of f cost when they take over.
	cost := 0.0
	for _, h := range j.held[j.first[f]:j.first[f+1]] {
		if int(h) == g {
			continue
		}
		lh, ph := j.load[int(h)*n:][:n], j.power[int(h)*n:][:n]
		for i, k := range slope {
			cost += float64(k * (toNormPower(lh[i]+float64(sf[i]/(c-1)*j.inv[h])) - ph[i]))
		}
	}
	lg, pg := j.load[g*n:][:n], j.power[g*n:][:n]
	most := 0.0 // what emptying the GPU would gain
	for i, k := range slope {
		most += float64(k * pg[i])
	}
	best, be := -least, int32(-1)
	for e := range s.w {
		// A GPU with replicas of both gains more than the two sums say: powers
		// are convex.
		if cost-j.gain[e]-most >= best || s.holds(g, int32(e)) {
			continue
		}
		ce := float64(s.count[e])
		se := j.size[e*n:][:n]
		sum := cost - j.gain[e]
		for i, k := range slope {
			x := lg[i] + float64((float64(se[i]*ce/(ce+1))-sf[i])*j.inv[g])
			sum += float64(k * (toNormPower(x) - pg[i]))
		}
		if sum < best {
			best, be = sum, int32(e)
		}
	}
	return be
}

// listHolders refreshes, for every expert, the GPUs that hold it and what one
// more replica elsewhere gains on them.
func (j *windows) listHolders() {
	s, n := j.s, j.n
	u := s.u
	at := int32(0)
	for e, c := range s.count {
		j.first[e] = at
		at += c
	}
	j.first[len(s.count)] = at
	clear(j.gain)
	for g := range u.speed {
		lg, pg := j.load[g*n:][:n], j.power[g*n:][:n]
		for _, e := range s.slot[u.first[g]:u.first[g+1]] {
			j.held[j.first[e]] = int32(g)
			j.first[e]++
			c := float64(s.count[e])
			for i, k := range j.slope[:n] {
				x := lg[i] - float64(j.size[int(e)*n+i]/(c+1)*j.inv[g])
				j.gain[e] += float64(k * (pg[i] - toNormPower(x)))
			}
		}
	}
	for e, c := range s.count {
		j.first[e] -= c
	}
}

// replace gives slot a of GPU g to e; its expert must have another replica.
func (j *windows) replace(g, a int, e int32) {
	s := j.s
	f := s.slot[a]
	s.slot[a] = e
	s.count[f]--
	s.count[e]++
	s.has[g*s.words+int(f>>6)] &^= 1 << (f & 63)
	s.has[g*s.words+int(e>>6)] |= 1 << (e & 63)
	j.resize(f)
	j.resize(e)
	j.refresh()
	j.changed[g] = j.now
	for h := range j.inv {
		if s.holds(h, e) || s.holds(h, f) {
			j.changed[h] = j.now
		}
	}
}
