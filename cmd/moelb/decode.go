package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"math"

	"github.com/spf13/cobra"

	dec "github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/placement"
)

func decodeCommand(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "decode [FILE | -]",
		Short: "Balance decode requests over ranks, line by line",
		Long: `Decide which rank each decode request joins, so that KV-cache use and request
count are even over the ranks of a unit.

A session over JSON Lines: one request line, one reply line, in order. The first
line is config; then add, batch, step, grow, done, rebalance, drain, restore, dead,
resize, stats, snapshot and load. A line that fails is answered with its error
and changes nothing.`,
		Example: `  printf '%s\n' '{"op":"config","ranks":4}' '{"op":"add","id":"a","kv":5000}' '{"op":"step"}' '{"op":"stats"}' | moelb decode`,
		Args:    atMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return c.session(args, "decode", &decodeSession{})
		},
	}
}

// session serves the argument's lines, or standard input's.
func (c *console) session(args []string, command string, h handler) error {
	if len(args) == 0 || args[0] == "-" {
		if len(args) == 0 && !piped(c.stdin) {
			return usagef("moelb %s wants a file, or \"-\" for standard input", command)
		}
		return serve(bufio.NewReaderSize(c.stdin, 1<<16), c.stdout, h)
	}
	in, err := c.open(args)
	if err != nil {
		return err
	}
	defer in.close()
	if in.r == nil {
		return fmt.Errorf("%s: is a folder", in.name())
	}
	return serve(in.r, c.stdout, h)
}

// decodeSession is a session of the decode balancer.
type decodeSession struct {
	b     *dec.Balancer
	names map[string]dec.ID
	ids   []string // by the low half of the ID

	// The line at hand.
	cfg      dec.Config
	id       string
	one      dec.Request
	tokens   int
	rank     int
	moves    int
	batchIDs []string
	batch    []dec.Request
	state    decodeState

	assigned []dec.Assignment
	moved    []dec.Move
}

// decodeState is what a snapshot holds: the balancer's own bytes, and the names
// of the running requests in its order.
type decodeState struct {
	unit string
	ids  []string
}

func (d *decodeSession) fields() map[string][]string {
	return map[string][]string{
		"config":    {"ranks", "?kv_capacity", "?max_requests", "?cost", "?output", "?link"},
		"add":       {"id", "kv", "?output", "?width"},
		"batch":     {"requests"},
		"step":      {},
		"grow":      {"id", "tokens"},
		"done":      {"id"},
		"rebalance": {"max_moves"},
		"drain":     {"rank"},
		"restore":   {"rank"},
		"dead":      {"rank"},
		"resize":    {"ranks"},
		"stats":     {},
		"snapshot":  {},
		"load":      {"state"},
	}
}

func (d *decodeSession) reset() {
	d.cfg, d.one, d.id = dec.Config{}, dec.Request{}, ""
	d.batchIDs, d.batch = d.batchIDs[:0], d.batch[:0]
	d.state = decodeState{}
}

// maxBatch bounds the requests of one line.
const maxBatch = 1 << 20

func (d *decodeSession) field(s *scanner, key string) (err error) {
	switch key {
	case "ranks":
		d.cfg.Ranks, err = s.integer(key, 1, dec.MaxRanks)
	case "kv_capacity":
		d.cfg.KVCapacity, err = s.integer(key, 0, math.MaxInt32)
	case "max_requests":
		d.cfg.MaxRequests, err = s.integer(key, 0, dec.MaxTokens)
	case "link":
		d.cfg.Link, err = s.number("tokens a second", key, -1, -1)
	case "cost":
		d.cfg.Cost, err = readDecodeCost(s)
	case "id":
		d.id, err = s.id(key)
	case "kv", "width":
		err = requestField(s, key, &d.one)
	case "output":
		err = requestField(s, key, &d.one)
		d.cfg.Output = d.one.Output
	case "tokens":
		d.tokens, err = s.integer(key, -dec.MaxTokens, dec.MaxTokens)
	case "rank":
		d.rank, err = s.integer(key, 0, dec.MaxRanks)
	case "max_moves":
		d.moves, err = s.integer(key, 0, maxBatch)
	case "requests":
		err = s.each(key, maxBatch, func(i int) error { return d.member(s, i) })
	case "state":
		d.state, err = readDecodeState(s)
	default:
		err = bad(placement.ErrValue, key, -1, -1, "unknown field")
	}
	return err
}

func readDecodeCost(s *scanner) (dec.Cost, error) {
	cost := dec.DeepSeekV3H800
	err := s.object("cost", func(key string) (err error) {
		x := 0.0
		switch key {
		case "kv", "request", "step":
			x, err = s.number("a number of seconds", "cost."+key, -1, -1)
		default:
			return bad(placement.ErrValue, "cost", -1, -1, "%.40q is an unknown field", key)
		}
		switch key {
		case "kv":
			cost.KV = x
		case "request":
			cost.Request = x
		case "step":
			cost.Step = x
		}
		return err
	})
	return cost, err
}

// requestField reads one of a request's numbers.
func requestField(s *scanner, key string, r *dec.Request) (err error) {
	switch key {
	case "kv":
		r.KV, err = s.integer(key, 0, dec.MaxTokens)
	case "output":
		r.Output, err = s.integer(key, 0, dec.MaxTokens)
	case "width":
		r.Width, err = s.integer(key, 1, dec.MaxWidth)
	default:
		err = bad(placement.ErrValue, key, -1, -1, "unknown field")
	}
	return err
}

// member reads a request of a batch.
func (d *decodeSession) member(s *scanner, index int) error {
	var r dec.Request
	id, named, sized := "", false, false
	err := s.object("requests", func(key string) (err error) {
		if key == "id" {
			named = true
			id, err = s.id(key)
			return err
		}
		sized = sized || key == "kv"
		return requestField(s, key, &r)
	})
	switch {
	case err != nil:
		return fmt.Errorf("requests: index %d: %w", index, err)
	case !named:
		return bad(placement.ErrShape, "requests", -1, index, "id is missing")
	case !sized:
		return bad(placement.ErrShape, "requests", -1, index, "kv is missing")
	}
	d.batchIDs = append(d.batchIDs, id)
	d.batch = append(d.batch, r)
	return nil
}

func readDecodeState(s *scanner) (state decodeState, err error) {
	err = s.object("state", func(key string) (err error) {
		switch key {
		case "unit":
			state.unit, err = s.blob(key)
		case "ids":
			err = s.each(key, math.MaxInt32, func(int) error {
				id, err := s.id(key)
				state.ids = append(state.ids, id)
				return err
			})
		default:
			err = bad(placement.ErrValue, "state", -1, -1, "%.40q is an unknown field", key)
		}
		return err
	})
	return state, err
}

// blob reads a string of any length without escapes.
func (s *scanner) blob(field string) (string, error) {
	if s.peek() != '"' {
		return "", s.wanted("a string", field, -1, -1)
	}
	for i := s.pos + 1; i < s.end; i++ {
		if s.buf[i] == '"' {
			text := string(s.buf[s.pos+1 : i])
			s.pos = i + 1
			return text, nil
		}
	}
	return "", bad(placement.ErrShape, field, -1, -1, "a string without end")
}

func (d *decodeSession) reply(op string, e *encoder) error {
	switch {
	case op == "config":
		return d.config(e)
	case op == "load":
		return d.load(e)
	case d.b == nil:
		return bad(placement.ErrShape, "op", -1, -1, "%s before config", op)
	}
	switch op {
	case "add":
		return d.add(e)
	case "batch":
		return d.joint(e)
	case "step":
		d.b.Step()
		return done(e, nil)
	case "grow":
		id, err := d.running()
		if err == nil {
			err = d.b.Grow(id, d.tokens)
		}
		return done(e, err)
	case "done":
		id, err := d.running()
		if err == nil {
			err = d.b.Done(id)
		}
		if err == nil {
			delete(d.names, d.id)
		}
		return done(e, err)
	case "rebalance":
		return d.rebalance(e)
	case "drain":
		return done(e, d.b.Drain(d.rank))
	case "restore":
		return done(e, d.b.Restore(d.rank))
	case "dead":
		return d.dead(e)
	case "resize":
		return done(e, d.b.Resize(d.cfg.Ranks))
	case "stats":
		return d.stats(e)
	}
	return d.snapshot(e)
}

// done is the reply of what has none but its success.
func done(e *encoder, err error) error {
	if err == nil {
		e.raw(`{"ok":true}`)
	}
	return err
}

func (d *decodeSession) config(e *encoder) error {
	if d.b != nil {
		return bad(placement.ErrValue, "op", -1, -1, "config a second time")
	}
	b, err := dec.New(d.cfg)
	if err != nil {
		return err
	}
	d.b, d.names = b, map[string]dec.ID{}
	return done(e, nil)
}

func (d *decodeSession) running() (dec.ID, error) {
	id, ok := d.names[d.id]
	if !ok {
		return 0, bad(placement.ErrValue, "id", -1, -1, "%.60q is not running", d.id)
	}
	return id, nil
}

// named enters a request's name.
func (d *decodeSession) named(name string, id dec.ID) {
	i := int(uint32(id))
	for len(d.ids) <= i {
		d.ids = append(d.ids, "")
	}
	d.names[name], d.ids[i] = id, name
}

func (d *decodeSession) add(e *encoder) error {
	if _, ok := d.names[d.id]; ok {
		return bad(placement.ErrValue, "id", -1, -1, "%.60q is running already", d.id)
	}
	id, rank, err := d.b.Add(d.one)
	if err != nil {
		return err
	}
	if rank >= 0 {
		d.named(d.id, id)
	}
	assignment(e, d.id, rank)
	return nil
}

func assignment(e *encoder, id string, rank int) {
	e.raw(`{"id":`)
	e.name(id)
	e.field("rank")
	e.int(int64(rank))
	e.raw("}")
}

func (d *decodeSession) joint(e *encoder) (err error) {
	for i, name := range d.batchIDs {
		if _, ok := d.names[name]; ok {
			for _, n := range d.batchIDs[:i] {
				delete(d.names, n)
			}
			return bad(placement.ErrValue, "requests", -1, i, "id %.60q is running already", name)
		}
		d.names[name] = 0
	}
	d.assigned, err = d.b.Batch(d.assigned[:0], d.batch)
	for i, name := range d.batchIDs {
		if err != nil || d.assigned[i].Rank < 0 {
			delete(d.names, name)
		} else {
			d.named(name, d.assigned[i].ID)
		}
	}
	if err != nil {
		return err
	}
	e.raw(`{"assignments":[`)
	for i, a := range d.assigned {
		if i > 0 {
			e.raw(",")
		}
		assignment(e, d.batchIDs[i], a.Rank)
	}
	e.raw("]}")
	return nil
}

func (d *decodeSession) rebalance(e *encoder) (err error) {
	if d.moved, err = d.b.Rebalance(d.moved[:0], d.moves); err != nil {
		return err
	}
	e.raw(`{"moves":`)
	list(e, d.moved, func(m dec.Move) {
		e.raw(`{"id":`)
		e.name(d.ids[uint32(m.ID)])
		e.field("from")
		e.int(int64(m.From))
		e.field("to")
		e.int(int64(m.To))
		e.raw("}")
	})
	e.raw("}")
	return nil
}

// dead replies with the requests that ran on the rank: they run no longer.
func (d *decodeSession) dead(e *encoder) error {
	lost, err := d.b.Dead(nil, d.rank)
	if err != nil {
		return err
	}
	e.raw(`{"requests":`)
	list(e, lost, func(l dec.Lost) {
		name := d.ids[uint32(l.ID)]
		delete(d.names, name)
		e.raw(`{"id":`)
		e.name(name)
		e.field("kv")
		e.int(int64(l.Request.KV))
		if l.Request.Output > 0 {
			e.field("output")
			e.int(int64(l.Request.Output))
		}
		e.raw("}")
	})
	e.raw("}")
	return nil
}

func (d *decodeSession) stats(e *encoder) error {
	s := d.b.Stats()
	e.raw(`{"ranks":`)
	list(e, s.Ranks, func(r dec.RankStats) {
		e.raw(`{"requests":`)
		e.int(int64(r.Requests))
		e.field("kv")
		e.int(int64(r.KV))
		e.field("kept")
		e.int(int64(r.Kept))
		e.field("serving")
		e.raw(fmt.Sprint(r.Serving))
		e.raw("}")
	})
	e.field("imbalance")
	e.raw(`{"requests":`)
	e.float(s.Imbalance.Requests)
	e.field("kv")
	e.float(s.Imbalance.KV)
	e.raw("}}")
	return nil
}

func (d *decodeSession) snapshot(e *encoder) error {
	e.raw(`{"state":{"unit":"`)
	e.b = base64.StdEncoding.AppendEncode(e.b, d.b.AppendSnapshot(nil))
	e.raw(`"`)
	e.field("ids")
	list(e, d.b.Running(nil), func(id dec.ID) { e.name(d.ids[uint32(id)]) })
	e.raw("}}")
	return nil
}

func (d *decodeSession) load(e *encoder) error {
	unit, err := base64.StdEncoding.DecodeString(d.state.unit)
	if err != nil {
		return bad(placement.ErrValue, "state", -1, -1, "unit is not base64")
	}
	b, err := dec.FromSnapshot(unit)
	if err != nil {
		return err
	}
	running := b.Running(nil)
	if len(running) != len(d.state.ids) {
		return bad(placement.ErrShape, "state", -1, -1, "%d ids for %d running requests", len(d.state.ids), len(running))
	}
	loaded := &decodeSession{b: b, names: make(map[string]dec.ID, len(running))}
	for i, id := range running {
		name := d.state.ids[i]
		if _, ok := loaded.names[name]; ok {
			return bad(placement.ErrValue, "state", -1, -1, "id %.60q stands there twice", name)
		}
		loaded.named(name, id)
	}
	d.b, d.names, d.ids = loaded.b, loaded.names, loaded.ids
	return done(e, nil)
}
