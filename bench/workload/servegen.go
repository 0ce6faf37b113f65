package workload

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"

	"github.com/moelb/moelb/internal/gunzip"
)

// ServeGen draws n requests of the clients that DeepSeek-R1 served in production,
// from dir's files (see ReadServeGenDay): each client as often as it asked, input
// and output independently from its lengths of the same six hours. Arrivals are one
// a second.
func ServeGen(dir string, n int, seed uint64) ([]Request, error) {
	s, err := ReadServeGenDay(dir)
	if err != nil {
		return nil, err
	}
	type source struct{ input, output *serveLengths }
	var sources []source
	var upTo []float64
	all := 0.0
	for i := range s.clients {
		c := &s.clients[i]
		for span := range serveSpans {
			rate := 0.0
			for _, x := range c.rate[span*serveWindows/serveSpans : (span+1)*serveWindows/serveSpans] {
				rate += x
			}
			if rate > 0 {
				all += rate
				sources, upTo = append(sources, source{&c.input[span], &c.output[span]}), append(upTo, all)
			}
		}
	}
	r := rand.New(rand.NewPCG(seed, 2))
	requests := make([]Request, n)
	for i := range requests {
		x := float64(r.Float64() * all)
		q := sources[min(sort.SearchFloat64s(upTo, x), len(sources)-1)]
		requests[i] = Request{Arrival: float64(i), Input: q.input.draw(r), Output: q.output.draw(r)}
	}
	return requests, nil
}

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
		if err := unpacked(filepath.Join(dir, f.name), f.read); err != nil {
			return nil, err
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

// unpacked calls read on a file's unpacked text; its errors name the file.
func unpacked(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gunzip.New(f)
	if err == nil {
		err = read(z)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}
