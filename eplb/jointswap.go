package eplb

import "math"

// normPower is the power of the norm that stands in for the maximum: with 16
// every GPU near the fullest counts. Measured on what the plans were not made
// for, 8, 32 and 64 are no better.
const normPower = 16

func toNormPower(x float64) float64 {
	x *= x
	x *= x
	x *= x
	return float64(x * x)
}

// weigh refreshes powers and slopes and returns the smooth objective, the sum
// over the windows of the norms.
func (j *windows) weigh() float64 {
	n := j.n
	clear(j.total)
	for g := range j.inv {
		for i := range n {
			x := toNormPower(j.load[g*n+i])
			j.total[i] += x
			j.power[g*n+i] = x
		}
	}
	objective := 0.0
	for i := range n {
		objective += j.tilt(i)
	}
	return objective
}

// tilt refreshes the slope of a window and returns its norm.
func (j *windows) tilt(i int) float64 {
	norm := math.Sqrt(math.Sqrt(math.Sqrt(math.Sqrt(j.total[i]))))
	// The norm is concave in the total: its tangent never promises too much.
	j.slope[i] = norm / j.total[i] / normPower
	return norm
}

// reweigh is weigh where only the loads of GPUs g and h have changed.
func (j *windows) reweigh(g, h int) float64 {
	n := j.n
	objective := 0.0
	for i := range n {
		x, y := toNormPower(j.load[g*n+i]), toNormPower(j.load[h*n+i])
		gone := j.power[g*n+i] + j.power[h*n+i]
		j.total[i] += x + y - gone
		if j.total[i] < 1e-4*gone {
			return j.weigh() // what is left is mostly rounding
		}
		j.power[g*n+i], j.power[h*n+i] = x, y
		objective += j.tilt(i)
	}
	return objective
}

// exchangeAll takes the GPUs two by two and exchanges the two replicas that
// lower the smooth objective most, until no exchange lowers it by leastGain. Two
// GPUs that have not changed since they were last compared are passed over. It
// returns false if the work allowed is spent. Cost: a round compares up to
// slots²/2 pairs of replicas in each window, and 4 to 8 rounds are usual.
func (j *windows) exchangeAll() bool {
	u := j.s.u
	gpus := int64(len(u.speed))
	round := gpus * (gpus - 1) / 2
	objective := j.weigh()
	for moved := true; moved; {
		moved = false
		for g := range u.speed {
			if j.work > windowWork || j.stop() {
				return false
			}
			j.work += (len(u.speed) - g) * j.n
			for h := g + 1; h < len(u.speed); h++ {
				j.now++
				if before := j.now - round; j.changed[g] < before && j.changed[h] < before {
					continue
				}
				if a, b := j.bestExchange(g, h, float64(leastGain/float64(len(u.speed))*objective)); a >= 0 {
					j.exchange(g, a, h, b)
					objective = j.reweigh(g, h)
					moved = true
				}
			}
		}
	}
	return true
}

// bestExchange finds the slots of GPUs g and h whose exchange lowers the smooth
// objective most, and by more than least; -1 if there are none.
func (j *windows) bestExchange(g, h int, least float64) (ba, bb int) {
	s, n := j.s, j.n
	u := s.u
	slope := j.slope[:n]
	lg, lh := j.load[g*n:][:n], j.load[h*n:][:n]
	now, even := 0.0, 0.0
	for i, c := range slope {
		now += float64(c * (j.power[g*n+i] + j.power[h*n+i]))
		even += float64(2 * c * toNormPower((lg[i]+lh[i])/2))
	}
	best := now - least
	if u.equal && even >= best {
		return -1, -1
	}
	vg, vh := j.inv[g], j.inv[h]
	ba, bb = -1, -1
	for a := u.first[g]; a < u.first[g+1]; a++ {
		x := s.slot[a]
		if s.holds(h, x) {
			continue
		}
		if j.work += u.room(h) * n; j.work > windowWork {
			break
		}
		sx := j.size[int(x)*n:][:n]
		for b := u.first[h]; b < u.first[h+1]; b++ {
			y := s.slot[b]
			sy := j.size[int(y)*n:][:n]
			sum := 0.0
			for i, c := range slope {
				d := sx[i] - sy[i]
				sum += float64(c * (toNormPower(lg[i]-float64(d*vg)) + toNormPower(lh[i]+float64(d*vh))))
				if sum >= best {
					break
				}
			}
			if sum < best && !s.holds(g, y) {
				best, ba, bb = sum, a, b
			}
		}
	}
	return ba, bb
}

// exchange swaps the replicas in slot a of GPU g and slot b of GPU h.
func (j *windows) exchange(g, a, h, b int) {
	s, n := j.s, j.n
	x, y := s.slot[a], s.slot[b]
	s.slot[a], s.slot[b] = y, x
	for i := range n {
		d := j.size[int(x)*n+i] - j.size[int(y)*n+i]
		j.load[g*n+i] -= float64(d * j.inv[g])
		j.load[h*n+i] += float64(d * j.inv[h])
	}
	s.has[g*s.words+int(x>>6)] &^= 1 << (x & 63)
	s.has[h*s.words+int(y>>6)] &^= 1 << (y & 63)
	s.has[g*s.words+int(y>>6)] |= 1 << (y & 63)
	s.has[h*s.words+int(x>>6)] |= 1 << (x & 63)
	j.changed[g], j.changed[h] = j.now, j.now
}

// peak is the three fullest GPUs of a window, -1 where there are fewer, and
// their levels.
type peak struct {
	level [3]float64
	gpu   [3]int32
}

// findPeaks refreshes j.peaks and j.hot and returns the sum over the windows of
// the largest level.
func (j *windows) findPeaks() float64 {
	n := j.n
	clear(j.hot)
	sum := 0.0
	for i := range n {
		p := peak{gpu: [3]int32{-1, -1, -1}}
		for g := range j.inv {
			x, y := j.load[g*n+i], int32(g)
			for k := range p.level {
				if p.gpu[k] < 0 || x > p.level[k] {
					p.level[k], x = x, p.level[k]
					p.gpu[k], y = y, p.gpu[k]
				}
				if y < 0 {
					break
				}
			}
		}
		j.peaks[i] = p
		j.hot[p.gpu[0]] = true
		sum += p.level[0]
	}
	return sum
}

// lowerPeaks exchanges replicas while that lowers the objective itself: each
// time the exchange with a GPU that is the fullest of some window that lowers it
// most.
func (j *windows) lowerPeaks() {
	s := j.s
	u := s.u
	for j.work <= windowWork && !j.stop() {
		best := j.findPeaks() * (1 - 1e-9)
		bg, ba, bh, bb := -1, -1, -1, -1
		for g := range u.speed {
			if !j.hot[g] {
				continue
			}
			for h := range u.speed {
				if h == g || (h < g && j.hot[h]) {
					continue
				}
				if a, b, sum := j.bestLowering(g, h, best); a >= 0 {
					bg, ba, bh, bb, best = g, a, h, b, sum
				}
			}
			j.work += len(u.speed) * j.n
		}
		if bg < 0 {
			return
		}
		j.exchange(bg, ba, bh, bb)
	}
}

// bestLowering finds the slots of g and h whose exchange brings the sum of the
// largest levels farthest below best, and that sum; -1 if there are none.
func (j *windows) bestLowering(g, h int, best float64) (ba, bb int, sum float64) {
	s, n := j.s, j.n
	u := s.u
	free := j.free[:n]
	lg, lh := j.load[g*n:][:n], j.load[h*n:][:n]
	vg, vh := j.inv[g], j.inv[h]
	ba, bb = -1, -1
	even := 0.0
	for i := range free {
		p := &j.peaks[i]
		free[i] = 0
		for k, q := range p.gpu {
			if q >= 0 && int(q) != g && int(q) != h {
				free[i] = p.level[k]
				break
			}
		}
		even += max(free[i], (float64(lg[i]*u.speed[g])+float64(lh[i]*u.speed[h]))/(u.speed[g]+u.speed[h]))
	}
	if even >= best {
		return ba, bb, best
	}
	for a := u.first[g]; a < u.first[g+1]; a++ {
		x := s.slot[a]
		if s.holds(h, x) {
			continue
		}
		if j.work += u.room(h) * n; j.work > windowWork {
			break
		}
		sx := j.size[int(x)*n:][:n]
		for b := u.first[h]; b < u.first[h+1]; b++ {
			y := s.slot[b]
			sy := j.size[int(y)*n:][:n]
			sum := 0.0
			for i, f := range free {
				d := sx[i] - sy[i]
				sum += max(f, lg[i]-float64(d*vg), lh[i]+float64(d*vh))
				if sum >= best {
					break
				}
			}
			if sum < best && !s.holds(g, y) {
				best, ba, bb = sum, a, b
			}
		}
	}
	return ba, bb, best
}
