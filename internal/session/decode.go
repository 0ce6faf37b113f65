package session

import (
	"fmt"
	"math"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// decodeUnit is a session's decode balancer.
type decodeUnit struct {
	b *decode.Balancer
	names[decode.ID]

	// The line at hand.
	line
	cfg      decode.Config
	request  decode.Request
	grown    int
	moves    int
	batchIDs []string
	requests []decode.Request
	state    decodeState

	assigned []decode.Assignment
	moved    []decode.Move
}

// NewDecode returns a session of a decode balancer, whose first line is config or
// load.
func NewDecode() *Session {
	d := &decodeUnit{names: decodeNames(0)}
	return newSession(d, &d.line)
}

func decodeNames(n int) names[decode.ID] {
	return names[decode.ID]{known: "is running already", unknown: "is not running", ids: make(map[string]decode.ID, n)}
}

func (d *decodeUnit) operations() map[string]operation {
	return map[string]operation{
		"config":    {first: true, mandatory: []string{"ranks"}, optional: []string{"kv_capacity", "max_requests", "cost", "output", "link"}, reply: d.config},
		"add":       {mandatory: []string{"id", "kv"}, optional: []string{"output", "width"}, reply: d.add},
		"batch":     {mandatory: []string{"requests"}, reply: d.batch},
		"step":      {reply: d.step},
		"grow":      {mandatory: []string{"id", "tokens"}, reply: d.grow},
		"done":      {mandatory: []string{"id"}, reply: d.done},
		"rebalance": {mandatory: []string{"max_moves"}, reply: d.rebalance},
		"drain":     {mandatory: []string{"rank"}, reply: func(e *wire.Encoder) error { return done(e, d.b.Drain(d.rank)) }},
		"restore":   {mandatory: []string{"rank"}, reply: func(e *wire.Encoder) error { return done(e, d.b.Restore(d.rank)) }},
		"dead":      {mandatory: []string{"rank"}, reply: d.dead},
		"resize":    {mandatory: []string{"ranks"}, reply: func(e *wire.Encoder) error { return done(e, d.b.Resize(d.ranks)) }},
		"stats":     {reply: d.stats},
		"snapshot":  {reply: d.snapshot},
		"load":      {first: true, mandatory: []string{"state"}, reply: d.load},
	}
}

func (d *decodeUnit) configured() bool { return d.b != nil }

func (d *decodeUnit) reset() {
	d.cfg, d.request, d.state = decode.Config{}, decode.Request{}, decodeState{}
	d.batchIDs, d.requests = d.batchIDs[:0], d.requests[:0]
}

// maxBatch bounds the requests of one line.
const maxBatch = 1 << 20

func (d *decodeUnit) field(s *wire.Scanner, key string) (err error) {
	switch key {
	case "kv_capacity":
		d.cfg.KVCapacity, err = s.Integer(key, 0, math.MaxInt32)
	case "max_requests":
		d.cfg.MaxRequests, err = s.Integer(key, 0, decode.MaxTokens)
	case "link":
		d.cfg.Link, err = s.Number("tokens a second", key, -1, -1)
	case "cost":
		d.cfg.Cost = decode.DeepSeekV3H800
		err = readCost(s, d.costOf)
	case "tokens":
		d.grown, err = s.Integer(key, -decode.MaxTokens, decode.MaxTokens)
	case "max_moves":
		d.moves, err = s.Integer(key, 0, maxBatch)
	case "requests":
		err = s.Each(key, maxBatch, func(i int) error { return d.member(s, i) })
	case "state":
		d.state, err = readDecodeState(s)
	default:
		err = requestField(s, key, &d.request)
		d.cfg.Output = d.request.Output
	}
	return err
}

func (d *decodeUnit) costOf(key string) (*float64, error) {
	switch c := &d.cfg.Cost; key {
	case "kv":
		return &c.KV, nil
	case "request":
		return &c.Request, nil
	case "step":
		return &c.Step, nil
	}
	return nil, wire.Bad(placement.ErrValue, "cost", -1, -1, "%.40q is an unknown field", key)
}

// requestField reads one of a request's numbers.
func requestField(s *wire.Scanner, key string, r *decode.Request) (err error) {
	switch key {
	case "kv":
		r.KV, err = s.Integer(key, 0, decode.MaxTokens)
	case "output":
		r.Output, err = s.Integer(key, 0, decode.MaxTokens)
	case "width":
		r.Width, err = s.Integer(key, 1, decode.MaxWidth)
	default:
		err = unknown(key)
	}
	return err
}

// member reads a request of a batch.
func (d *decodeUnit) member(s *wire.Scanner, index int) error {
	var r decode.Request
	id, named, sized := "", false, false
	err := s.Object("requests", func(key string) (err error) {
		if key == "id" {
			named = true
			id, err = s.Name(key)
			return err
		}
		sized = sized || key == "kv"
		return requestField(s, key, &r)
	})
	switch {
	case err != nil:
		return fmt.Errorf("requests: index %d: %w", index, err)
	case !named:
		return wire.Bad(placement.ErrShape, "requests", -1, index, "id is missing")
	case !sized:
		return wire.Bad(placement.ErrShape, "requests", -1, index, "kv is missing")
	}
	d.batchIDs = append(d.batchIDs, id)
	d.requests = append(d.requests, r)
	return nil
}

func (d *decodeUnit) config(e *wire.Encoder) error {
	d.cfg.Ranks = d.ranks
	b, err := decode.New(d.cfg)
	if err == nil {
		d.b = b
	}
	return done(e, err)
}

func (d *decodeUnit) add(e *wire.Encoder) error {
	if err := d.names.free(d.id); err != nil {
		return err
	}
	id, rank, err := d.b.Add(d.request)
	if err != nil {
		return err
	}
	if rank >= 0 {
		d.enter(d.id, id)
	}
	assignment(e, d.id, rank)
	return nil
}

func (d *decodeUnit) batch(e *wire.Encoder) (err error) {
	for i, name := range d.batchIDs {
		if _, ok := d.ids[name]; ok {
			for _, n := range d.batchIDs[:i] {
				delete(d.ids, n)
			}
			return wire.Bad(placement.ErrValue, "requests", -1, i, "id %.60q %s", name, d.known)
		}
		d.ids[name] = 0
	}
	d.assigned, err = d.b.Batch(d.assigned[:0], d.requests)
	for i, name := range d.batchIDs {
		if err != nil || d.assigned[i].Rank < 0 {
			delete(d.ids, name)
		} else {
			d.enter(name, d.assigned[i].ID)
		}
	}
	if err != nil {
		return err
	}
	e.Raw(`{"assignments":[`)
	for i, a := range d.assigned {
		if i > 0 {
			e.Raw(",")
		}
		assignment(e, d.batchIDs[i], a.Rank)
	}
	e.Raw("]}")
	return nil
}

func (d *decodeUnit) step(e *wire.Encoder) error {
	d.b.Step()
	return done(e, nil)
}

func (d *decodeUnit) grow(e *wire.Encoder) error {
	id, err := d.find(d.id)
	if err == nil {
		err = d.b.Grow(id, d.grown)
	}
	return done(e, err)
}

func (d *decodeUnit) done(e *wire.Encoder) error {
	id, err := d.find(d.id)
	if err == nil {
		err = d.b.Done(id)
	}
	if err == nil {
		d.drop(id)
	}
	return done(e, err)
}

func (d *decodeUnit) rebalance(e *wire.Encoder) (err error) {
	if d.moved, err = d.b.Rebalance(d.moved[:0], d.moves); err != nil {
		return err
	}
	e.Raw(`{"moves":`)
	wire.List(e, d.moved, func(m decode.Move) {
		e.Raw(`{"id":`)
		e.Name(d.of(m.ID))
		e.Field("from")
		e.Int(int64(m.From))
		e.Field("to")
		e.Int(int64(m.To))
		e.Raw("}")
	})
	e.Raw("}")
	return nil
}

// dead replies with the requests that ran on the rank: they run no longer.
func (d *decodeUnit) dead(e *wire.Encoder) error {
	lost, err := d.b.Dead(nil, d.rank)
	if err != nil {
		return err
	}
	e.Raw(`{"requests":`)
	wire.List(e, lost, func(l decode.Lost) {
		e.Raw(`{"id":`)
		e.Name(d.of(l.ID))
		d.drop(l.ID)
		e.Field("kv")
		e.Int(int64(l.Request.KV))
		if l.Request.Output > 0 {
			e.Field("output")
			e.Int(int64(l.Request.Output))
		}
		e.Raw("}")
	})
	e.Raw("}")
	return nil
}

func (d *decodeUnit) stats(e *wire.Encoder) error {
	s := d.b.Stats()
	e.Raw(`{"ranks":`)
	wire.List(e, s.Ranks, func(r decode.RankStats) {
		e.Raw(`{"requests":`)
		e.Int(int64(r.Requests))
		e.Field("kv")
		e.Int(int64(r.KV))
		e.Field("kept")
		e.Int(int64(r.Kept))
		e.Field("serving")
		e.Bool(r.Serving)
		e.Raw("}")
	})
	e.Field("imbalance")
	e.Raw(`{"requests":`)
	e.Float(s.Imbalance.Requests)
	e.Field("kv")
	e.Float(s.Imbalance.KV)
	e.Raw("}}")
	return nil
}
