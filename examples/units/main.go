// Command units routes requests over several units, two of prefill and three of
// decode, none like another, by what each says a request would cost it: the least
// seconds win. It prints how soon first tokens come, and how long the
// decode units' steps take, in turns and by quotes.
package main

import (
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"slices"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

func main() {
	log.SetFlags(0)
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
}

// site is what the router holds.
type site struct {
	prompts []*prefill.Balancer
	running []*decode.Balancer
	turn    int // of a router that asks nobody
}

func newSite() (*site, error) {
	s := &site{}
	for _, c := range []prefill.Config{
		{Ranks: 32},
		{Ranks: 8, Speed: []float64{2}}, // fewer, newer
	} {
		b, err := prefill.New(c)
		if err != nil {
			return nil, err
		}
		s.prompts = append(s.prompts, b)
	}
	for _, c := range []decode.Config{
		{Ranks: 144, KVCapacity: []int64{550_000}},
		{Ranks: 72, KVCapacity: []int64{550_000}},
		{Ranks: 32, KVCapacity: []int64{1_100_000}, Speed: []float64{2}},
	} {
		b, err := decode.New(c)
		if err != nil {
			return nil, err
		}
		s.running = append(s.running, b)
	}
	return s, nil
}

// prefill places a prompt on the unit that would have it computed first, or the one
// whose turn it is, and returns that and its rank.
func (s *site) prefill(r prefill.Request, quotes bool) (unit, rank int, err error) {
	unit = s.turn % len(s.prompts)
	if quotes {
		unit = -1
		least := 0.0
		for i, b := range s.prompts {
			q, err := b.Quote(r)
			if err != nil {
				return -1, -1, err
			}
			if q.Rank != prefill.Full && (unit < 0 || q.Seconds < least) {
				unit, least = i, q.Seconds
			}
		}
	}
	if unit < 0 {
		return -1, -1, fmt.Errorf("prompt %d: all units are full", r.ID)
	}
	rank, err = s.prompts[unit].Add(r)
	return unit, rank, err
}

// decode is prefill for what follows it.
func (s *site) decode(r decode.Request, quotes bool) (unit int, err error) {
	unit = s.turn % len(s.running)
	if quotes {
		unit = -1
		least := 0.0
		for i, b := range s.running {
			q, err := b.Quote(r)
			if err != nil {
				return -1, err
			}
			if q.Rank != decode.Full && (unit < 0 || q.Seconds < least) {
				unit, least = i, q.Seconds
			}
		}
	}
	if unit < 0 {
		return -1, fmt.Errorf("request %d: all units are full", r.ID)
	}
	_, err = s.running[unit].Add(r)
	return unit, err
}

// prompt is one that is being computed or waits for it.
type prompt struct {
	id   prefill.ID
	unit int
	ends float64
}

const (
	apart   = .0105  // seconds from a request to the next: 80% of what the prefill units can do
	running = 15_000 // requests that the decode units run
)

// route routes requests and prints what became of them. The ranks compute their
// prompts one after the other; the oldest request ends with each that comes.
func route(w io.Writer, requests []workload.Request, quotes bool) error {
	s, err := newSite()
	if err != nil {
		return err
	}
	cost := prefill.DeepSeekV3H800()
	speed := []float64{1, 2}
	busy := [][]float64{make([]float64, 32), make([]float64, 8)} // until when each rank is
	var ahead []prompt
	var first []float64 // seconds to the first token
	var units []int     // decode's, of each request
	for i, q := range requests {
		now := apart * float64(i)
		ahead = slices.DeleteFunc(ahead, func(p prompt) bool {
			done := p.ends <= now
			if done {
				err = errors.Join(err, s.prompts[p.unit].Done(p.id))
			}
			return done
		})
		if err != nil {
			return err
		}
		r := prefill.Request{ID: prefill.ID(i), Tokens: int64(q.Input)}
		unit, rank, err := s.prefill(r, quotes)
		if err != nil {
			return err
		}
		ends := max(now, busy[unit][rank]) + cost.Seconds(prefill.WorkOf(r.Tokens, 0))/speed[unit]
		busy[unit][rank] = ends
		ahead = append(ahead, prompt{r.ID, unit, ends})
		first = append(first, ends-now)
		if unit, err = s.decode(decode.Request{ID: decode.ID(i), KV: r.Tokens, Output: int64(q.Output)}, quotes); err != nil {
			return err
		}
		units = append(units, unit)
		s.turn++
		if old := i - running; old >= 0 {
			if err := s.running[units[old]].Done(decode.ID(old)); err != nil {
				return err
			}
		}
	}
	slices.Sort(first)
	fmt.Fprintf(w, "first tokens after %.2f s (median), %.2f s (99%%); a step takes the decode units", first[len(first)/2], first[len(first)*99/100])
	for _, b := range s.running {
		fmt.Fprintf(w, " %.0f", 1000*b.StepSeconds())
	}
	fmt.Fprintf(w, " ms\n")
	return nil
}

func run(w io.Writer) error {
	requests := workload.Chat(20_000, 4)
	for _, quotes := range []bool{false, true} {
		how := "in turns:  "
		if quotes {
			how = "by quotes: "
		}
		fmt.Fprint(w, how)
		if err := route(w, requests, quotes); err != nil {
			return err
		}
	}
	return nil
}
