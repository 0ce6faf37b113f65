package decode

import "math"

// forecast is what a rank is expected to hold over the coming steps, with what it
// runs and nothing more: for each horizon the mean and the variance of its KV use
// up to it, as of the clock when the lives' curve was drawn.
type forecast struct {
	version        int64 // of the curve; 0 = what the rank runs has changed since
	tight          int   // the horizon at which it was last found too full
	mean, variance [horizons]float64
	kv, width      float64 // where nothing ended: KV use, and by how much it grew in a step
	deviations     float64
	bound          float64 // no peak is beyond it, as of the curve numbered at, though requests came and went
	at             int64
}

// peak is what so much more leads to at a horizon: deviations standard deviations above
// the mean, and no more than if nothing ended. A few large requests deviate far.
func (f *forecast) peak(j int, mean, variance, kv, width float64) float64 {
	spread := float64(f.deviations * math.Sqrt(f.variance[j]+variance))
	return min(f.mean[j]+mean+spread, f.kv+kv+float64((f.width+width)*horizon(j)))
}

// fits reports whether rank g is expected to hold a request, which brings so many
// tokens, and all that is there to their ends within its KV capacity. An idle rank
// takes whatever it has room for now: nowhere will there be more, and the output is
// a guess. O(1) where room is ample, else O(requests of the rank) once for as long
// as they are the same.
func (b *Balancer) fits(g int, r *Request, kv int64) bool {
	k := &b.ranks[g]
	now, capacity := b.kv(g)+kv, k.capacity
	if capacity == unlimited {
		return true
	}
	if !b.own(g) {
		capacity -= 2 * b.long // what its own router may be placing there now, and one more that looks beyond its share
	}
	if now+leastOut > capacity {
		return false
	}
	told := b.believed(r.Output, r.Generated)
	if len(k.members) == 0 && k.width == 0 {
		return now+told <= capacity
	}
	// Even if nothing ended before all have generated three times the mean.
	mean := int64(b.lives.rest[0])
	if now+k.outputs+told+3*mean*(k.guesses+1) <= capacity {
		return true
	}
	if f := k.forecast; f != nil && f.at == b.lives.version && f.bound+b.most(r, kv) <= float64(capacity) {
		return true
	}
	f := b.forecast(g)
	width := float64(r.Width)
	late := float64(width * float64(b.clock-b.lives.at)) // what it would have grown by since
	left, first := float64(told)+late, float64(kv)-late
	chance := &b.lives.chance[ageClass(r.Generated)]
	came := 0 // by how many horizons a life is the younger that was not there when the curve was drawn
	if float64(r.Generated) < late {
		came = 1
	}
	full := func(j int) bool {
		x, c := first+float64(width*horizon(j)), 1.0
		switch {
		case told == 0:
			c = chance[max(j-came, 0)]
		case float64(width*horizon(j-1)) >= left:
			c = 0
		case j == horizons-1 || float64(width*horizon(j)) > left:
			x = first + left
		}
		if c <= 0 {
			return false
		}
		return f.peak(j, float64(x*c), float64(x*x*c*(1-c)), first, width) > float64(capacity)
	}
	if full(f.tight) {
		b.barred = true
		return false
	}
	for j := range horizons {
		if full(j) {
			f.tight, b.barred = j, true
			return false
		}
	}
	return true
}

// most is no less than what a request adds to the peak of a rank's forecast, at any
// horizon.
func (b *Balancer) most(r *Request, kv int64) float64 {
	l := &b.lives
	switch {
	case r.Generated > 0 || r.Shared > 0 || r.Waiting:
		return math.Inf(1)
	case b.believed(r.Output, 0) > 0:
		return float64(kv + r.Output)
	}
	return float64(l.golden*float64(kv)) + float64(l.growth*float64(r.Width))
}

// forecast returns a rank's, drawn up anew where it is out of date.
func (b *Balancer) forecast(g int) *forecast {
	k := &b.ranks[g]
	if k.forecast == nil {
		k.forecast = new(forecast)
	}
	if f := k.forecast; f.version != b.lives.version {
		b.foresee(g, f)
		f.version, f.at, f.bound = b.lives.version, b.lives.version, 0
		for j := range horizons {
			f.bound = max(f.bound, f.mean[j]+float64(f.deviations*math.Sqrt(f.variance[j])))
		}
		f.bound += 1 + f.bound/(1<<40) // rounding
	}
	return k.forecast
}

// foreseen is the scratch of forecasts.
type foreseen struct {
	classes [ageClasses + 1]lifeClass // the last: of those who came since the curve was drawn
	ending  [horizons]lifeClass       // of those whose output was told; n = KV use at their ends
}

// lifeClass is what the requests of a rank have in common for a forecast.
type lifeClass struct {
	n         int64   // requests
	kv, width int64   // together
	square    float64 // sums of the squares of KV use,
	cross     float64 // of KV use times width,
	widths    float64 // and of the squares of widths
}

// foresee draws up a forecast: requests of about the same age together, and those
// whose output was told by the horizon in which they end.
func (b *Balancer) foresee(g int, f *forecast) {
	k, l := &b.ranks[g], &b.lives
	w := &b.foreseen
	f.deviations = l.deviations
	f.kv, f.width = float64(b.base[g]+k.width*l.at), float64(max(k.width, 0))
	clear(w.classes[:])
	clear(w.ending[:])
	rest, restWidth := b.base[g]+k.width*l.at, k.width
	for _, i := range k.members {
		q := &b.requests[i]
		width := int64(q.width)
		kv := q.kv(b.clock) - q.shared - width*(b.clock-l.at)
		rest, restWidth = rest-kv, restWidth-width
		age := kv + q.shared - q.start // below 0 where it came since
		if left := b.believed(q.output-age, age); q.told && q.output > age && left > 0 {
			j := 0
			for j < horizons-1 && float64(float64(width)*horizon(j)) < float64(left) {
				j++
			}
			e := &w.ending[j]
			e.kv, e.width, e.n = e.kv+kv, e.width+width, e.n+kv+left
			continue
		}
		c := &w.classes[ageClasses]
		if age >= 0 {
			c = &w.classes[ageClass(age)]
		}
		x, y := float64(kv), float64(width)
		c.n, c.kv, c.width = c.n+1, c.kv+kv, c.width+width
		c.square, c.cross, c.widths = c.square+float64(x*x), c.cross+float64(x*y), c.widths+float64(y*y)
	}
	// What other routers have there, and what is shared; below 0 where the rank says
	// that it holds less than the ledger.
	others := float64(rest) + float64(float64(max(restWidth, 0))*l.rest[0])
	kv, width := 0.0, 0.0
	for j := horizons - 1; j >= 0; j-- {
		e := &w.ending[j]
		f.mean[j] = others + kv + float64(width*horizon(j)) + float64(e.n)
		f.variance[j] = 0
		kv, width = kv+float64(e.kv), width+float64(e.width)
	}
	for a := range w.classes {
		c := &w.classes[a]
		if c.n == 0 {
			continue
		}
		came, age := 0, a
		if a == ageClasses {
			came, age = 1, 0
		}
		for j := range horizons {
			p, t := l.chance[age][max(j-came, 0)], horizon(j)
			if p <= 0 {
				break
			}
			f.mean[j] += p * (float64(c.kv) + float64(float64(c.width)*t))
			f.variance[j] += float64(p*(1-p)) * (c.square + float64(2*t*c.cross) + float64(t*t*c.widths))
		}
	}
}

// expectedPeak is the most KV use that rank g is expected to come to, with its spread.
func (b *Balancer) expectedPeak(g int) int64 {
	f := b.forecast(g)
	most := float64(b.kv(g))
	for j := range horizons {
		most = max(most, f.peak(j, 0, 0, 0, 0))
	}
	return int64(min(most, unlimited))
}

// believed is how many tokens a request will generate of which so many were told;
// 0 = it is not believed, or nobody told. What is told far beyond whatever was seen
// to finish is taken for a bound, and so is what others that declared as much did not
// come near.
func (b *Balancer) believed(told, generated int64) int64 {
	if told+generated > b.lives.bound || b.lives.doubts(told+generated) {
		return 0
	}
	return told
}

// refusal is the least request that no rank was expected to hold, as of a curve
// and while no rank has got more room. What needs as much is refused without a look
// at every rank: a full unit is asked often.
type refusal struct {
	Request
	version int64
}

// hopeless reports whether a request asks for as much as one that was refused.
func (b *Balancer) hopeless(r *Request) bool {
	n := &b.refused
	output, least := b.believed(r.Output, r.Generated), b.believed(n.Output, n.Generated)
	return n.version == b.lives.version && r.KV >= n.KV && output >= least && (output == 0) == (least == 0) && r.Width == n.Width && r.Generated == n.Generated
}

// refuse notes that no rank is expected to hold a request.
func (b *Balancer) refuse(r *Request) { b.refused = refusal{*r, b.lives.version} }

// room says that some rank may have got more.
func (b *Balancer) room() { b.refused.version = 0 }

func steps(tokens, width int64) int64 { return (tokens + width - 1) / width }
