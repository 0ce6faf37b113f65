package eplb

import "math/bits"

// transfers is what the search by single slots needs.
type transfers struct {
	held  []uint64   // [experts][words] the GPUs that hold each expert
	words int        // of a set of GPUs
	from  []int32    // slots whose expert has further replicas
	gpuOf []int32    // of each slot
	hot   []heapItem // the GPUs above the aim, by how much
}

func (t *transfers) init(s *solver) {
	t.words = (len(s.u.gpu) + 63) / 64
	t.held = make([]uint64, len(s.w)*t.words)
	t.gpuOf = make([]int32, s.u.slots)
	for g := range s.u.gpu {
		for i := s.u.first[g]; i < s.u.first[g+1]; i++ {
			t.gpuOf[i] = int32(g)
		}
	}
}

// hold enters or removes e on GPU g.
func (t *transfers) hold(e int32, g int, yes bool) {
	i := int(e)*t.words + g>>6
	if yes {
		t.held[i] |= 1 << (g & 63)
	} else {
		t.held[i] &^= 1 << (g & 63)
	}
}

func (t *transfers) holds(e int32, g int) bool {
	return t.held[int(e)*t.words+g>>6]>>(g&63)&1 != 0
}

// survey derives the sets and loads from the slots and counts at hand.
func (lo *locality) survey() {
	s, t := lo.s, &lo.transfers
	clear(t.held)
	for e, w := range s.w {
		s.size[e] = w / float64(max(s.count[e], 1))
	}
	lo.out = 0
	for g := range s.u.gpu {
		for _, e := range s.slot[s.u.first[g]:s.u.first[g+1]] {
			t.hold(e, g, true)
			if int(lo.homeAt[e]) != s.u.node[g] {
				lo.out++
			}
		}
	}
	s.refresh()
}

// offHere is 1 if GPU g is not on e's home node.
func (lo *locality) offHere(e int32, g int) int {
	if int(lo.homeAt[e]) != lo.s.u.node[g] {
		return 1
	}
	return 0
}

// above is the load of GPU g beyond the aim if it were x.
func (lo *locality) above(x float64, g int) float64 {
	return max(0, x-float64(lo.aim*lo.s.u.speed[g]))
}

// slotStep is an exchange of the experts in two slots, or, with slot b -1, expert e
// in place of the one in slot a.
type slotStep struct {
	a, b int
	e    int32
}

// refine lessens what the GPUs of the placement at hand carry above the aim,
// each time by the best exchange of two slots of which one is on the fullest
// GPU, or by the best change of one slot: a copy of one of its experts takes a
// slot elsewhere, or another expert one of its slots. At most may replicas are
// off their node.
func (lo *locality) refine(may int) {
	s, t := lo.s, &lo.transfers
	u := s.u
	lo.survey()
	for range 300 {
		h, top := 0, 0.0
		for g, v := range u.speed {
			if l := s.load[g] / v; l > top {
				h, top = g, l
			}
		}
		if top <= lo.aim {
			return
		}
		if lo.work -= u.room(h) * (u.slots + len(s.w)); lo.work < 0 {
			return
		}
		aboveH := lo.above(s.load[h], h)
		gain := 1e-9 * top
		var do slotStep
		found := false
		for g := range u.speed {
			if g == h {
				continue
			}
			far := u.node[g] != u.node[h]
			aboveG := lo.above(s.load[g], g)
			// What both have above the aim in all cannot be exchanged away.
			both := s.load[h] + s.load[g] - float64(lo.aim*(u.speed[h]+u.speed[g]))
			if aboveH+aboveG-max(0, both) <= gain {
				continue
			}
			for i := u.first[h]; i < u.first[h+1]; i++ {
				a := s.slot[i]
				for j := u.first[g]; j < u.first[g+1]; j++ {
					b := s.slot[j]
					d := s.size[a] - s.size[b]
					if d <= 0 {
						continue
					}
					x := aboveH + aboveG - lo.above(s.load[h]-d, h) - lo.above(s.load[g]+d, g)
					if x <= gain || t.holds(a, g) || t.holds(b, h) {
						continue
					}
					if far {
						if int(a) >= lo.experts || int(b) >= lo.experts || lo.out+lo.offHere(a, g)+lo.offHere(b, h)-lo.offHere(a, h)-lo.offHere(b, g) > may {
							continue
						}
					}
					gain, do, found = x, slotStep{i, j, 0}, true
				}
			}
		}
		t.from, t.hot = t.from[:0], t.hot[:0]
		for i, e := range s.slot {
			if lo.removable(e) {
				t.from = append(t.from, int32(i))
			}
		}
		for g := range u.speed {
			if x := lo.above(s.load[g], g); x > 0 {
				t.hot = append(t.hot, heapItem{key: x, id: int32(g)})
			}
		}
		for i := u.first[h]; i < u.first[h+1]; i++ {
			e := s.slot[i]
			if int(e) >= lo.experts {
				continue
			}
			relief := lo.relief(e)
			for _, j := range t.from {
				g := int(t.gpuOf[j])
				if relief+lo.above(s.load[g], g) <= gain || t.holds(e, g) || lo.out+lo.offHere(e, g)-lo.offHere(s.slot[j], g) > may {
					continue
				}
				if x := lo.worth(int(j), e); x > gain {
					gain, do, found = x, slotStep{int(j), -1, e}, true
				}
			}
			if !lo.removable(e) {
				continue
			}
			for _, f := range s.order {
				x := min(aboveH, s.size[e]-s.w[f]/float64(s.count[f]+1))
				if x+lo.relief(f) <= gain || t.holds(f, h) || lo.out+lo.offHere(f, h)-lo.offHere(e, h) > may || (int(f) >= lo.experts && int(lo.homeAt[f]) != u.node[h]) {
					continue
				}
				if x := lo.worth(i, f); x > gain {
					gain, do, found = x, slotStep{i, -1, f}, true
				}
			}
		}
		if !found {
			return
		}
		lo.doStep(do)
	}
}

// relief is by how much a further copy of e lessens the load above the aim at
// most, on the GPUs that hold e.
func (lo *locality) relief(e int32) float64 {
	s, t := lo.s, &lo.transfers
	if s.count[e] == 0 {
		return 0
	}
	down := s.size[e] - s.w[e]/float64(s.count[e]+1)
	sum := 0.0
	for _, x := range t.hot {
		if t.holds(e, int(x.id)) {
			sum += min(down, x.key)
		}
	}
	return sum
}

// worth is by how much the load above the aim falls if e replaces the expert in
// slot i.
func (lo *locality) worth(i int, e int32) float64 {
	s, t := lo.s, &lo.transfers
	at := int(t.gpuOf[i])
	f := s.slot[i]
	newE := s.w[e] / float64(s.count[e]+1)
	newF := s.w[f] / float64(max(s.count[f]-1, 1))
	down, up := s.size[e]-newE, newF-s.size[f]
	x := s.load[at]
	sum := lo.above(x, at) - lo.above(x-s.size[f]+newE, at)
	he, hf := t.held[int(e)*t.words:(int(e)+1)*t.words], t.held[int(f)*t.words:(int(f)+1)*t.words]
	for w, a := range he {
		b := hf[w]
		for m := a | b; m != 0; m &= m - 1 {
			k := bits.TrailingZeros64(m)
			g := w<<6 | k
			if g == at {
				continue
			}
			x := s.load[g]
			y := x
			if a>>k&1 != 0 {
				y -= down
			}
			if b>>k&1 != 0 {
				y += up
			}
			sum += lo.above(x, g) - lo.above(y, g)
		}
	}
	return sum
}

// doStep carries a step out.
func (lo *locality) doStep(do slotStep) {
	s, t := lo.s, &lo.transfers
	g := int(t.gpuOf[do.a])
	a := s.slot[do.a]
	if do.b >= 0 {
		h := int(t.gpuOf[do.b])
		b := s.slot[do.b]
		lo.out += lo.offHere(a, h) + lo.offHere(b, g) - lo.offHere(a, g) - lo.offHere(b, h)
		s.slot[do.a], s.slot[do.b] = b, a
		s.load[g] += s.size[b] - s.size[a]
		s.load[h] += s.size[a] - s.size[b]
		t.hold(a, g, false)
		t.hold(b, h, false)
		t.hold(b, g, true)
		t.hold(a, h, true)
		return
	}
	e := do.e
	lo.out += lo.offHere(e, g) - lo.offHere(a, g)
	s.slot[do.a] = e
	t.hold(a, g, false)
	s.load[g] -= s.size[a]
	s.count[a]--
	lo.reprice(a)
	s.load[g] += s.size[e]
	t.hold(e, g, true)
	s.count[e]++
	lo.reprice(e)
}

// reprice takes a changed count of e into account on all GPUs that hold it.
func (lo *locality) reprice(e int32) {
	s, t := lo.s, &lo.transfers
	size := s.w[e] / float64(max(s.count[e], 1))
	d := size - s.size[e]
	s.size[e] = size
	for w, m := range t.held[int(e)*t.words : (int(e)+1)*t.words] {
		for ; m != 0; m &= m - 1 {
			s.load[w<<6|bits.TrailingZeros64(m)] += d
		}
	}
}
