package search

// after is the objective after a change, exactly; weigh was called before. ok is
// false where it is not below need.
func (s *State) after(c Change, need float64) (v float64, ok bool) {
	n := s.n
	for k, a := range s.t.Share {
		total := s.total[k]
		add := func(g int32, d float64) {
			i := int(g)*n + k
			total += s.raise(s.level[i]+float64(d*s.inv[g])) - s.power[i]
		}
		e := s.slot[c.A]
		g := s.gpu[c.A]
		if c.B >= 0 {
			d := s.size[int(s.slot[c.B])*n+k] - s.size[int(e)*n+k]
			add(g, d)
			add(s.gpu[c.B], -d)
		} else {
			x := c.E
			up, down := 0.0, 0.0 // what the other holders of e gain, and those of x lose
			if e >= 0 {
				up = s.size[int(e)*n+k] / float64(s.count[e]-1)
			}
			down = s.size[int(x)*n+k] / float64(s.count[x]+1)
			come := float64(down * float64(s.count[x]))
			if e >= 0 {
				add(g, come-s.size[int(e)*n+k])
				for _, i := range s.at[e] {
					if q := s.gpu[i]; i != c.A {
						if s.holds(q, x) {
							add(q, up-down)
						} else {
							add(q, up)
						}
					}
				}
			} else {
				add(g, come)
			}
			for _, i := range s.at[x] {
				if q := s.gpu[i]; e < 0 || !s.holds(q, e) {
					add(q, -down)
				}
			}
		}
		if n == 1 && total >= s.unroot(need) {
			return need, false
		}
		v += float64(a * s.root(max(0, total)))
	}
	return v, v < need
}
