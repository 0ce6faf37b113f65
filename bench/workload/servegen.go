package workload

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ServeGen draws n requests of the clients that DeepSeek-R1 served in production,
// from dir's files servegen_deepseek_r1_*: each client as often as it asked,
// input and output independently from its histograms of the same six hours.
// Arrivals are one a second. Derived from github.com/alibaba/ServeGen.
func ServeGen(dir string, n int, seed uint64) ([]Request, error) {
	rates, err := serveGenRates(filepath.Join(dir, "servegen_deepseek_r1_client_rates.csv.gz"))
	if err != nil {
		return nil, err
	}
	sources, err := serveGenLengths(filepath.Join(dir, "servegen_deepseek_r1_length_hists.jsonl.gz"), rates)
	if err != nil {
		return nil, err
	}
	r := rand.New(rand.NewPCG(seed, 2))
	requests := make([]Request, n)
	for i := range requests {
		s := sources[draw(r, sources, func(s serveGenSource) float64 { return s.until })]
		requests[i] = Request{float64(i), s.input.draw(r), s.output.draw(r), nil}
	}
	return requests, nil
}

// serveGenSource is a client in a window of six hours.
type serveGenSource struct {
	until         float64 // its rate and those of all before it
	input, output histogram
}

type histogram []bin

type bin struct {
	tokens int
	until  float64 // its weight and that of all before it
}

func (h histogram) draw(r *rand.Rand) int {
	return max(1, h[draw(r, h, func(b bin) float64 { return b.until })].tokens)
}

// draw returns an index by weight.
func draw[T any](r *rand.Rand, items []T, until func(T) float64) int {
	last := len(items) - 1
	i, _ := slices.BinarySearchFunc(items, r.Float64()*until(items[last]), func(x T, at float64) int { return cmp.Compare(until(x), at) })
	return min(i, last)
}

const serveGenWindow = 6 * 3600

type serveGenKey struct{ client, window int }

// gunzip calls read on a file's unpacked text; its errors name the file.
func gunzip(path string, read func(io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err == nil {
		err = read(z)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return nil
}

func serveGenRates(path string) (map[serveGenKey]float64, error) {
	rates := map[serveGenKey]float64{}
	err := gunzip(path, func(r io.Reader) error {
		lines := bufio.NewScanner(r)
		for n := 1; lines.Scan(); n++ {
			if n == 1 {
				continue // the head: client,t_s,rate_rps,…
			}
			cells := strings.Split(lines.Text(), ",")
			if len(cells) < 3 {
				return fmt.Errorf("line %d: %d columns", n, len(cells))
			}
			client, err1 := strconv.Atoi(cells[0])
			at, err2 := strconv.Atoi(cells[1])
			rate, err3 := strconv.ParseFloat(cells[2], 64)
			if err := cmp.Or(err1, err2, err3); err != nil {
				return fmt.Errorf("line %d: %w", n, err)
			}
			rates[serveGenKey{client, at / serveGenWindow}] += rate
		}
		return lines.Err()
	})
	return rates, err
}

func serveGenLengths(path string, rates map[serveGenKey]float64) ([]serveGenSource, error) {
	var sources []serveGenSource
	all := 0.0
	err := gunzip(path, func(r io.Reader) error {
		d := json.NewDecoder(r)
		for n := 1; ; n++ {
			var line struct {
				Client int                `json:"client"`
				At     int                `json:"t_s"`
				Input  map[string]float64 `json:"input_tokens"`
				Output map[string]float64 `json:"output_tokens"`
			}
			if err := d.Decode(&line); err == io.EOF {
				break
			} else if err != nil {
				return fmt.Errorf("record %d: %w", n, err)
			}
			rate := rates[serveGenKey{line.Client, line.At / serveGenWindow}]
			if rate <= 0 || len(line.Input) == 0 || len(line.Output) == 0 {
				continue
			}
			in, err1 := newHistogram(line.Input)
			out, err2 := newHistogram(line.Output)
			if err := cmp.Or(err1, err2); err != nil {
				return fmt.Errorf("record %d: %w", n, err)
			}
			all += rate
			sources = append(sources, serveGenSource{all, in, out})
		}
		if len(sources) == 0 {
			return fmt.Errorf("no client with a rate")
		}
		return nil
	})
	return sources, err
}

func newHistogram(weights map[string]float64) (histogram, error) {
	h := make(histogram, 0, len(weights))
	for text, w := range weights {
		n, err := strconv.Atoi(text)
		if err != nil {
			return nil, err
		}
		h = append(h, bin{n, w})
	}
	slices.SortFunc(h, func(a, b bin) int { return cmp.Compare(a.tokens, b.tokens) })
	for i := 1; i < len(h); i++ {
		h[i].until += h[i-1].until
	}
	return h, nil
}
