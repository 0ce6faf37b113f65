package homes

// shift is a change of one expert's copies: by how much it changes the replicas
// off their node, the penalty of replicas too large, and, from at on, the load
// of each node.
type shift struct {
	e    int32
	out  int
	pain float64
	at   int
}

// copyStep is d copies of e more on node n.
type copyStep struct {
	e    int32
	n, d int
}

// betterMove is the best move found so far: what it gains and its steps.
type betterMove struct {
	gain  float64
	steps [4]copyStep
	n     int
}

func (b *betterMove) take(gain float64, steps ...copyStep) {
	b.gain, b.n = gain, copy(b.steps[:], steps)
}

// spreadSteps bounds the moves of one spread.
const spreadSteps = 64

// limits derives the largest replica that a GPU of each node can take: beside it
// are at least the smallest of the node.
func (lo *Planner) limits() {
	s, nodes := lo.S, len(lo.nodes)
	for n := range lo.nodes {
		u := lo.nodes[n].s.U
		lo.limit[n] = 0
		if len(u.Gpu) == 0 {
			continue
		}
		room := max(u.Room(0)-1, 0)
		small := lo.small[:0]
		for i := len(lo.on[n]) - 1; i >= 0; i-- {
			e := lo.on[n][i]
			for range lo.copies[int(e)*nodes+n] {
				x := s.Size[e]
				if len(small) == room && (room == 0 || x >= small[room-1]) {
					break
				}
				if len(small) < room {
					small = append(small, x)
				} else {
					small[room-1] = x
				}
				for j := len(small) - 1; j > 0 && small[j] < small[j-1]; j-- {
					small[j], small[j-1] = small[j-1], small[j]
				}
			}
		}
		lo.small = small
		sum := 0.0
		for _, x := range small {
			sum += x
		}
		lo.limit[n] = float64(lo.aim*u.Fastest()) - sum
	}
}

func (lo *Planner) painAll() float64 {
	s, nodes := lo.S, len(lo.nodes)
	over := 0.0
	for n := range lo.nodes {
		for _, e := range lo.on[n] {
			over += lo.pain(n, int(lo.copies[int(e)*nodes+n]), s.Size[e])
		}
	}
	return over
}

// pain is what c replicas of load size on node n are above what a GPU can take
// beside the smallest replicas there.
func (lo *Planner) pain(n, c int, size float64) float64 {
	if x := size - lo.limit[n]; x > 0 {
		return float64(float64(c) * x)
	}
	return 0
}

// change describes d1 copies of e more on node n1 and d2 on n2.
func (lo *Planner) change(list []shift, e int32, n1, d1, n2, d2 int) []shift {
	s := lo.S
	nodes := len(lo.nodes)
	r := s.Count[e] + int32(d1+d2)
	x := shift{e: e, at: len(lo.delta)}
	home := int(lo.homeAt[e])
	if n1 != home {
		x.out += d1
	}
	if n2 != home {
		x.out += d2
	}
	size := s.W[e] / float64(max(r, 1))
	c := lo.copies[int(e)*nodes : int(e)*nodes+nodes]
	for n := range lo.nodes {
		k := int(c[n])
		v := float64(-float64(k) * s.Size[e])
		x.pain -= lo.pain(n, k, s.Size[e])
		if n == n1 {
			k += d1
		}
		if n == n2 {
			k += d2
		}
		x.pain += lo.pain(n, k, size)
		lo.delta = append(lo.delta, v+float64(float64(k)*size))
	}
	return append(list, x)
}

// removable says whether e can lose a copy.
func (lo *Planner) removable(e int32) bool {
	return lo.S.Count[e] > 1 || int(e) >= lo.experts
}

// spread moves copies between nodes until none is above the aim, or no move
// helps, with at most may replicas off their node. Each time it takes the best of:
// a further copy of an expert of the fullest node anywhere for one taken off there;
// a copy moved from it to another node for one taken off there, its slot filled
// with a copy of one of the node's largest; an exchange of two replicas.
func (lo *Planner) spread(may int) {
	s, nodes := lo.S, len(lo.nodes)
	for range spreadSteps {
		pain, load := lo.painAll(), 0.0
		m := 0 // the fullest node
		for n := range lo.nodes {
			x := lo.sum[n] - float64(lo.aim*lo.nodes[n].power)
			lo.over[n] = x
			load += max(0, x)
			if x > lo.over[m] {
				m = n
			}
		}
		if load+pain <= 0 {
			return
		}
		b := &lo.better
		b.gain, b.n = 1e-9*(load+pain), 0
		roomM := int16(lo.nodes[m].gpus())
		for n := range lo.nodes {
			room := int16(lo.nodes[n].gpus())
			lo.delta, lo.cut, lo.put, lo.fill = lo.delta[:0], lo.cut[:0], lo.put[:0], lo.fill[:0]
			for _, e := range lo.on[n] {
				if lo.removable(e) {
					lo.cut = lo.change(lo.cut, e, n, -1, n, 0)
				}
			}
			for _, f := range lo.on[m] {
				if lo.copies[int(f)*nodes+n] < room && (n == m || int(f) < lo.experts) {
					lo.put = lo.change(lo.put, f, n, 1, n, 0)
				}
			}
			further := len(lo.put)
			if n != m {
				for _, f := range lo.on[m] {
					if lo.copies[int(f)*nodes+n] < room && int(f) < lo.experts {
						lo.put = lo.change(lo.put, f, n, 1, m, -1)
					}
				}
				for _, g := range lo.on[m] {
					if len(lo.fill) < 1 && lo.copies[int(g)*nodes+m] < roomM {
						lo.fill = lo.change(lo.fill, g, m, 1, m, 0)
					}
				}
			}
			if lo.work -= len(lo.cut) * len(lo.put) * nodes; lo.work < 0 {
				return
			}
			for i := range lo.cut {
				c := &lo.cut[i]
				for j := range lo.put {
					p := &lo.put[j]
					if c.e == p.e {
						continue
					}
					if j < further {
						if x := load - c.pain - p.pain; x > b.gain && lo.out+c.out+p.out <= may {
							if x -= lo.overAfter(c.at, p.at, -1, x-b.gain); x > b.gain {
								b.take(x, copyStep{c.e, n, -1}, copyStep{p.e, n, 1})
							}
						}
						continue
					}
					for k := range lo.fill {
						q := &lo.fill[k]
						if q.e == c.e || q.e == p.e || lo.out+c.out+p.out+q.out > may {
							continue
						}
						if x := load - c.pain - p.pain - q.pain; x > b.gain {
							if x -= lo.overAfter(c.at, p.at, q.at, x-b.gain); x > b.gain {
								b.take(x, copyStep{c.e, n, -1}, copyStep{p.e, n, 1}, copyStep{p.e, m, -1}, copyStep{q.e, m, 1})
							}
						}
					}
				}
			}
			if n != m {
				lo.tryExchanges(m, n, may)
			}
		}
		if b.n == 0 {
			return
		}
		for _, x := range b.steps[:b.n] {
			lo.copies[int(x.e)*nodes+x.n] += int16(x.d)
			s.Count[x.e] += int32(x.d)
		}
		lo.total()
	}
}

// overAfter is what the nodes carry above the aim after two or three changes, at
// these places of lo.delta (-1 = none); it stops once that is enough.
func (lo *Planner) overAfter(c, p, q int, enough float64) float64 {
	over := lo.over
	dc, dp := lo.delta[c:c+len(over)], lo.delta[p:p+len(over)]
	sum := 0.0
	if q < 0 {
		for n, x := range over {
			if x += dc[n] + dp[n]; x > 0 {
				if sum += x; sum >= enough {
					break
				}
			}
		}
		return sum
	}
	dq := lo.delta[q : q+len(over)]
	for n, x := range over {
		if x += dc[n] + dp[n] + dq[n]; x > 0 {
			if sum += x; sum >= enough {
				break
			}
		}
	}
	return sum
}

// tryExchanges looks for a better exchange of replicas between nodes m and n.
func (lo *Planner) tryExchanges(m, n, may int) {
	nodes, b := len(lo.nodes), &lo.better
	roomM, roomN := int16(lo.nodes[m].gpus()), int16(lo.nodes[n].gpus())
	over, under := lo.over[m], lo.over[n]
	// Beyond what n has to spare, more only moves the excess.
	if b.gain >= min(over, max(-under, 0)) {
		return
	}
	sizes := lo.sizes[n]
	for i, f := range lo.on[m] {
		x := lo.sizes[m][i]
		if min(over, x) <= b.gain || int(f) >= lo.experts || lo.copies[int(f)*nodes+n] >= roomN {
			continue
		}
		// d = x - size must be above the gain so far, and over-under-d too.
		low, high := x-over-(-under)+b.gain, x-b.gain
		for j, y := range sizes {
			if y >= high || y <= low {
				continue
			}
			d := x - y
			gain := min(over, d) - max(0, under+d)
			e := lo.on[n][j]
			if gain <= b.gain || e == f || int(e) >= lo.experts || lo.copies[int(e)*nodes+m] >= roomM {
				continue
			}
			hf, he := int(lo.homeAt[f]), int(lo.homeAt[e])
			out := lo.out
			if hf == m {
				out++
			} else if hf == n {
				out--
			}
			if he == n {
				out++
			} else if he == m {
				out--
			}
			if out <= may {
				b.take(gain, copyStep{e, n, -1}, copyStep{f, n, 1}, copyStep{f, m, -1}, copyStep{e, m, 1})
				low, high = x-over-(-under)+gain, x-gain
			}
		}
	}
}
