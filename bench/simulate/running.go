package simulate

import (
	"fmt"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/bench/workload"
)

// later is a source whose requests come so many seconds sooner, as if it had begun
// before the run.
type later struct {
	Source
	by float64
}

func (l *later) Next() (workload.Request, bool) {
	q, ok := l.Source.Next()
	q.Arrival -= l.by
	return q, ok
}

// enterRunning puts the requests of Past that still generate into the decode units,
// as far as they have come; into prefill alone none of them.
func (s *sim) enterRunning() error {
	if s.Past == 0 {
		return nil
	}
	l := &later{s.source, s.Past}
	s.source = l
	for {
		q, more := l.Next()
		if !more {
			break
		}
		if q.Arrival >= 0 {
			s.source = &first{q, false, l}
			break
		}
		made := 1 + int64(-q.Arrival/s.PastTPOT)
		if q.Input < 1 || q.Output < 1 {
			return fmt.Errorf("request: %d prompt and %d generated tokens: each must be at least 1", q.Input, q.Output)
		}
		if q.Blocks != nil {
			s.store.Add(q.Blocks, q.Copy)
		}
		if s.PrefillOnly || made >= int64(q.Output) || int64(q.Input)+int64(q.Output) > s.most {
			continue
		}
		id := int32(len(s.flights))
		s.flights = append(s.flights, lockstep.Request{First: -1, Prompt: int32(q.Input), Input: int32(q.Input), Output: int32(q.Output), Made: int32(made), Cached: int32(made), Rank: -1})
		s.count.entered.requests++
		s.count.entered.input += int64(q.Input)
		s.count.entered.output += int64(q.Output)
		s.count.computed += int64(q.Input)
		s.count.generated += made
		s.inFlight++
		s.assign(id, int64(q.Input)+made, 0)
	}
	s.peak = s.inFlight
	return nil
}

// first is a source with one request put back.
type first struct {
	q    workload.Request
	gone bool
	rest Source
}

func (f *first) Next() (workload.Request, bool) {
	if !f.gone {
		f.gone = true
		return f.q, true
	}
	return f.rest.Next()
}

// demand is what requests of a traffic ask of decode, on average.
type demand struct {
	input, output float64 // tokens
	kv            float64 // tokens of one that runs, at a random moment
}

// sample draws requests of a traffic.
func sample(t Traffic) demand {
	source := t.New(1e4)
	var d demand
	n, kv := 0.0, 0.0
	for range 1 << 14 {
		q, ok := source.Next()
		if !ok {
			break
		}
		n++
		d.input += float64(q.Input)
		d.output += float64(q.Output)
		kv += float64(q.Output) * (float64(q.Input) + float64(q.Output)/2)
	}
	d.kv = kv / max(d.output, 1)
	d.input, d.output = d.input/max(n, 1), d.output/max(n, 1)
	return d
}

// pace is how decode steps of a full and even unit last.
type pace struct {
	clock *decodeClock
	kv    float64
	each  float64 // tokens a request and step
	seed  uint64
}

// newPace is the pace of a configuration's decode units on a traffic, with the
// experts as they are at the start.
func newPace(c *Config, t Traffic) (*pace, error) {
	if c.topics[1] == nil {
		c.setTopics(c.Seconds)
	}
	at := &c.starts[1][c.Policy.Experts]
	if *at == nil {
		e, err := experts.New(&c.Decode, c.Policy.Experts, c.topics[1])
		if err != nil {
			return nil, err
		}
		*at = e
	}
	s := &sim{Config: *c}
	return &pace{newDecodeClock(&c.Decode, *at, c.MaxRequests, float64(c.Queries), c.Seed), sample(t).kv, s.perStep(), c.Seed}, nil
}

// tpot is the seconds a token where every rank holds so many requests.
func (p *pace) tpot(requests int) float64 {
	n := len(p.clock.p)
	held, kv := make([]int64, n), make([]int64, n)
	for g := range held {
		held[g], kv[g] = int64(requests), int64(p.kv*float64(requests))
	}
	p.clock.noise.Seed(p.seed, 2)
	p.clock.total = -1 << 40 // drawn anew
	step, _ := p.clock.seconds(kv, held, int64(requests*n))
	return step / p.each
}

// most is the largest number of requests a rank, up to top, that ok holds for, at
// least 1. ok holds for all below one that it holds for.
func most(top int, ok func(int) bool) int {
	low := 1
	for high := top; low < high; {
		mid := (low + high + 1) / 2
		if ok(mid) {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return low
}

// settle is the seconds a token at which units of so many ranks in all, which have
// so many requests a second to serve, hold as many as leave; +Inf cannot be: at
// most what they have room for.
func (p *pace) settle(perSecond, output float64, ranks, top int) float64 {
	n := most(top, func(n int) bool {
		// More come than n a rank can serve: they hold more than n.
		return float64(n*ranks)/(output*p.tpot(n)) <= perSecond
	})
	return p.tpot(n)
}

// room is the requests of a rank that its KV holds, with some to spare.
func room(u *cost.Unit, kv float64, top int) int {
	return max(1, min(top, int(kvShare*float64(u.KVRoom())/max(kv, 1))))
}
