package workload

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
)

// ServeGenDay is a day of DeepSeek-R1 in production, as ServeGen describes it: what
// each client sends in windows of ten minutes, and how long its requests are in
// windows of six hours.
type ServeGenDay struct {
	clients []serveClient
	rate    float64 // of all clients, the day's mean
}

const (
	serveDaySeconds = 86400
	serveWindow     = 600
	serveWindows    = serveDaySeconds / serveWindow
	serveSpans      = 4 // windows of serveLengths
)

// serveClient is one client.
type serveClient struct {
	rate          [serveWindows]float64 // requests a second
	dist          [serveWindows]string  // of the time between requests
	shape         [serveWindows]float64
	input, output [serveSpans]serveLengths
}

// serveLengths is a distribution of token counts.
type serveLengths struct {
	tokens []int
	upTo   []float64 // shares, added up
}

func (d *serveLengths) draw(r *rand.Rand) int {
	x := float64(r.Float64() * d.upTo[len(d.upTo)-1])
	return d.tokens[min(sort.SearchFloat64s(d.upTo, x), len(d.tokens)-1)]
}

// ReadServeGenDay reads the two files of a folder: servegen_deepseek_r1_client_rates
// .csv.gz and servegen_deepseek_r1_length_hists.jsonl.gz, from
// github.com/alibaba/ServeGen. An error names the file and the line.
func ReadServeGenDay(dir string) (*ServeGenDay, error) {
	s := &ServeGenDay{}
	for _, f := range []struct {
		name string
		read func(io.Reader) error
	}{{"servegen_deepseek_r1_client_rates.csv.gz", s.readRates}, {"servegen_deepseek_r1_length_hists.jsonl.gz", s.readLengths}} {
		file, err := os.Open(filepath.Join(dir, f.name))
		if err != nil {
			return nil, err
		}
		z, err := gzip.NewReader(file)
		if err == nil {
			err = f.read(z)
		}
		if err = errors.Join(err, file.Close()); err != nil {
			return nil, fmt.Errorf("%s: %w", f.name, err)
		}
	}
	for i := range s.clients {
		c := &s.clients[i]
		sum := 0.0
		for w, x := range c.rate {
			sum += x
			if span := w * serveSpans / serveWindows; x > 0 && (c.input[span].tokens == nil || c.output[span].tokens == nil) {
				return nil, fmt.Errorf("client %d: no lengths from second %d on", i, w*serveWindow)
			}
		}
		s.rate += sum / serveWindows
	}
	if !(s.rate > 0) {
		return nil, errors.New("no client sends anything")
	}
	return s, nil
}

func (s *ServeGenDay) client(i int) (*serveClient, error) {
	const most = 1 << 12
	if i < 0 || i >= most {
		return nil, fmt.Errorf("client %d is not between 0 and %d", i, most-1)
	}
	for len(s.clients) <= i {
		s.clients = append(s.clients, serveClient{})
	}
	return &s.clients[i], nil
}

// readRates reads client,t_s,rate_rps,cv,dist,p1,p2.
func (s *ServeGenDay) readRates(r io.Reader) error {
	rows := csv.NewReader(r)
	rows.FieldsPerRecord, rows.ReuseRecord = 7, true
	for line := 1; ; line++ {
		row, err := rows.Read()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if line == 1 {
			continue
		}
		var x [4]float64 // client, t_s, rate_rps, p1
		for i, column := range []int{0, 1, 2, 5} {
			if x[i], err = strconv.ParseFloat(row[column], 64); err != nil || !(x[i] >= 0 && x[i] < 1e9) {
				return fmt.Errorf("line %d: %.40q is out of range", line, row[column])
			}
		}
		c, err := s.client(int(x[0]))
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
		w := int(x[1]) / serveWindow
		if w >= serveWindows {
			return fmt.Errorf("line %d: second %v is beyond the day", line, x[1])
		}
		if row[4] != "" && x[3] <= 0 {
			return fmt.Errorf("line %d: shape %v", line, x[3])
		}
		c.rate[w], c.dist[w], c.shape[w] = x[2], row[4], x[3]
	}
}

func (s *ServeGenDay) readLengths(r io.Reader) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxTraceLine)
	for line := 1; lines.Scan(); line++ {
		var x struct {
			Client int                `json:"client"`
			Second int                `json:"t_s"`
			Input  map[string]float64 `json:"input_tokens"`
			Output map[string]float64 `json:"output_tokens"`
		}
		err := json.Unmarshal(lines.Bytes(), &x)
		var c *serveClient
		if err == nil {
			c, err = s.client(x.Client)
		}
		if span := x.Second / (serveDaySeconds / serveSpans); err == nil && (x.Second < 0 || span >= serveSpans) {
			err = fmt.Errorf("second %d is beyond the day", x.Second)
		} else if err == nil {
			if c.input[span], err = newServeLengths(x.Input); err == nil {
				c.output[span], err = newServeLengths(x.Output)
			}
		}
		if err != nil {
			return fmt.Errorf("line %d: %w", line, err)
		}
	}
	return lines.Err()
}

func newServeLengths(shares map[string]float64) (serveLengths, error) {
	type part struct {
		tokens int
		share  float64
	}
	var parts []part
	for text, share := range shares {
		n, err := tokens(text)
		if err != nil {
			return serveLengths{}, err
		}
		if !(share >= 0 && share < 1e9) {
			return serveLengths{}, fmt.Errorf("share %v of %d tokens", share, n)
		}
		parts = append(parts, part{max(n, 1), share})
	}
	slices.SortFunc(parts, func(a, b part) int {
		return cmp.Or(cmp.Compare(a.tokens, b.tokens), cmp.Compare(a.share, b.share))
	})
	var d serveLengths
	sum := 0.0
	for _, p := range parts {
		sum += p.share
		d.tokens, d.upTo = append(d.tokens, p.tokens), append(d.upTo, sum)
	}
	return d, nil
}

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
