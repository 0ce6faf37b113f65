package workload

import (
	"math"
	"math/rand/v2"
)

// Profile is how many requests come in each hour, 1 = the day's mean.
func (s *ServeGenDay) Profile() []float64 {
	out := make([]float64, 24)
	for i := range s.clients {
		for w, x := range s.clients[i].rate {
			out[w*24/serveWindows] += x / s.rate / (serveWindows / 24)
		}
	}
	return out
}

// Requests generates the day within so many seconds, at so many requests a
// second on average. Each client sends as ServeGen found it: times between its
// requests are Gamma, Weibull or exponential, stretched to its rate at the time.
func (s *ServeGenDay) Requests(perSecond, seconds float64, seed uint64) *ServeGenDayRequests {
	g := &ServeGenDayRequests{day: s, speed: serveDaySeconds / seconds, scale: perSecond / s.rate * seconds / serveDaySeconds, next: make([]float64, len(s.clients)), r: make([]*rand.Rand, len(s.clients))}
	for i := range g.next {
		g.r[i] = rand.New(rand.NewPCG(seed, uint64(i)))
		// A random time of its stream, or all clients would start together.
		g.next[i] = g.after(i, 0, g.r[i].Float64())
	}
	return g
}

// ServeGenDayRequests is the requests of a day, in order.
type ServeGenDayRequests struct {
	day          *ServeGenDay
	speed, scale float64
	next         []float64 // seconds of the day, by client
	r            []*rand.Rand
}

// after is when a client's rate has added up to n more requests.
func (g *ServeGenDayRequests) after(client int, t, n float64) float64 {
	c := &g.day.clients[client]
	for t < serveDaySeconds {
		w := min(int(t/serveWindow), serveWindows-1)
		end := float64((w + 1) * serveWindow)
		rate := c.rate[w] * g.scale
		if due := float64(rate * (end - t)); due < n || rate == 0 {
			n, t = n-due, end
			continue
		}
		return t + n/rate
	}
	return math.Inf(1)
}

// Next returns the next request of the day.
func (g *ServeGenDayRequests) Next() (Request, bool) {
	i := 0
	for j, t := range g.next {
		if t < g.next[i] {
			i = j
		}
	}
	t := g.next[i]
	if len(g.next) == 0 || math.IsInf(t, 1) {
		return Request{}, false
	}
	c, r := &g.day.clients[i], g.r[i]
	w := min(int(t/serveWindow), serveWindows-1)
	span := w * serveSpans / serveWindows
	q := Request{Arrival: t / g.speed, Input: c.input[span].draw(r), Output: c.output[span].draw(r)}
	g.next[i] = g.after(i, t, serveGap(c.dist[w], c.shape[w], r))
	return q, true
}

// serveGap draws the time between two requests, of mean 1.
func serveGap(dist string, shape float64, r *rand.Rand) float64 {
	exponential := -log(1 - r.Float64())
	switch dist {
	case "Gamma":
		return gamma(shape, r) / shape
	case "Weibull":
		// E^(1/shape) with E exponential, over its mean.
		return exp(log(max(exponential, 1e-12))/shape - log(gammaFunction(1+1/shape)))
	}
	return exponential
}

// gamma draws from the Gamma distribution of scale 1 (Marsaglia and Tsang).
func gamma(shape float64, r *rand.Rand) float64 {
	if shape < 1 {
		u := max(r.Float64(), 1e-300)
		return gamma(shape+1, r) * exp(max(log(u)/shape, -30))
	}
	d := shape - 1.0/3
	c := 1 / (3 * math.Sqrt(d))
	for {
		x := normal(r)
		v := 1 + float64(c*x)
		if v <= 0 {
			continue
		}
		v = float64(float64(v*v) * v)
		if log(max(1-r.Float64(), 1e-300)) < float64(x*x)/2+d-float64(d*v)+float64(d*log(v)) {
			return float64(d * v)
		}
	}
}

// gammaFunction is Euler's, for x > 0 (Stirling's series above 8).
func gammaFunction(x float64) float64 {
	down := 1.0
	for x < 8 {
		down, x = float64(down*x), x+1
	}
	series := 1/(12*x) - 1/(360*float64(x*x*x)) + 1/(1260*float64(x*x*x*x*x))
	return exp(float64((x-.5)*log(x))-x+log(2*math.Pi)/2+series) / down
}
