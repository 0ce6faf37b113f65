package session

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

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
	grown    int64
	growth   []decode.Growth // of many at once
	growing  []string        // their names
	many     bool
	moves    int
	to       int
	members  []string // of requests
	requests []decode.Request
	state    saved

	ranksOf []int
	moved   []decode.Move
}

// NewDecode returns a session of a decode balancer, whose first line is config or
// load.
func NewDecode() *Session {
	d := &decodeUnit{names: newNames[decode.ID](0)}
	return newSession(d, &d.line)
}

func (d *decodeUnit) operations() map[string]operation {
	request := []string{"output", "width", "generated", "prefix", "shared", "waiting", "among", "rank"}
	ok := func(do func() error) func(*wire.Encoder) error {
		return func(e *wire.Encoder) error { return done(e, do()) }
	}
	return map[string]operation{
		"config":    {first: true, mandatory: []string{"ranks"}, optional: []string{"kv_capacity", "max_requests", "cost", "output", "link", "speed"}, reply: d.config},
		"add":       {mandatory: []string{"id", "kv"}, optional: request, reply: d.add},
		"quote":     {mandatory: []string{"id", "kv"}, optional: request, reply: d.quote},
		"batch":     {mandatory: []string{"requests"}, reply: d.batch},
		"step":      {reply: ok(d.step)},
		"grow":      {mandatory: []string{"tokens"}, optional: []string{"id"}, reply: ok(d.grow)},
		"start":     {mandatory: []string{"id"}, reply: ok(func() error { return d.named(d.b.Start) })},
		"done":      {mandatory: []string{"id"}, reply: ok(func() error { return d.end(d.b.Done) })},
		"cancel":    {mandatory: []string{"id"}, reply: ok(func() error { return d.end(d.b.Cancel) })},
		"move":      {mandatory: []string{"id", "to"}, reply: ok(func() error { return d.named(func(id decode.ID) error { return d.b.Move(id, d.to) }) })},
		"rebalance": {mandatory: []string{"max_moves"}, reply: d.rebalance},
		"sync":      {mandatory: []string{"rank", "requests"}, reply: d.sync},
		"drain":     {mandatory: []string{"rank"}, reply: ok(func() error { return d.b.Drain(d.rank) })},
		"restore":   {mandatory: []string{"rank"}, reply: ok(func() error { return d.b.Restore(d.rank) })},
		"dead":      {mandatory: []string{"rank"}, reply: d.dead},
		"resize":    {mandatory: []string{"ranks"}, reply: ok(func() error { return d.b.Resize(d.ranks) })},
		"stats":     {reply: d.stats},
		"snapshot":  {reply: d.snapshot},
		"load":      {first: true, mandatory: []string{"state"}, reply: d.load},
	}
}

func (d *decodeUnit) configured() bool { return d.b != nil }

func (d *decodeUnit) reset() {
	d.cfg, d.request, d.state = decode.Config{}, decode.Request{}, saved{}
	d.growth, d.growing, d.many = d.growth[:0], d.growing[:0], false
	d.members, d.requests = d.members[:0], d.requests[:0]
}

// maxBatch bounds the requests of one line.
const maxBatch = 1 << 20

func (d *decodeUnit) field(s *wire.Scanner, key string) (err error) {
	switch key {
	case "kv_capacity":
		err = d.oneOrEach(s, key, func() error {
			x, err := s.Whole(key, decode.MaxCapacity)
			d.cfg.KVCapacity = append(d.cfg.KVCapacity, int64(x))
			return err
		})
	case "max_requests":
		d.cfg.MaxRequests, err = s.Integer(key, 0, decode.MaxTokens)
	case "link":
		d.cfg.Link, err = s.Number("tokens a second", key, -1, -1)
	case "cost":
		d.cfg.Cost = decode.DeepSeekV3H800()
		err = readCost(s, d.costOf)
	case "tokens":
		if s.Peek() != '{' {
			d.grown, err = grownTokens(s, key)
			break
		}
		d.many = true
		err = s.Named(key, maxBatch, func(name string) error {
			n, err := grownTokens(s, key)
			d.growth, d.growing = append(d.growth, decode.Growth{Tokens: n}), append(d.growing, name)
			return err
		})
	case "to":
		d.to, err = s.Integer(key, 0, maxRanks)
	case "max_moves":
		d.moves, err = s.Integer(key, 0, maxBatch)
	case "requests":
		err = s.Each(key, maxBatch, func(i int) error { return d.member(s, i) })
	case "state":
		d.state, err = readSaved(s)
	default:
		err = requestField(s, key, &d.request)
		d.cfg.Output = d.request.Output
	}
	return err
}

func grownTokens(s *wire.Scanner, key string) (int64, error) {
	n, err := s.Integer(key, -decode.MaxTokens, decode.MaxTokens)
	return int64(n), err
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

// requestField reads one of a request's fields beside its id and the ranks it may
// be on.
func requestField(s *wire.Scanner, key string, r *decode.Request) (err error) {
	n := 0
	switch key {
	case "kv":
		n, err = s.Integer(key, 0, decode.MaxTokens)
		r.KV = int64(n)
	case "output":
		n, err = s.Integer(key, 0, decode.MaxTokens)
		r.Output = int64(n)
	case "generated":
		n, err = s.Integer(key, 0, decode.MaxTokens)
		r.Generated = int64(n)
	case "shared":
		n, err = s.Integer(key, 0, decode.MaxTokens)
		r.Shared = int64(n)
	case "width":
		r.Width, err = s.Integer(key, 1, decode.MaxWidth)
	case "waiting":
		r.Waiting, err = s.Bool(key)
	case "prefix":
		name := ""
		name, err = s.Name(key)
		sum := sha256.Sum256([]byte(name))
		r.Prefix = binary.LittleEndian.Uint64(sum[:])
	default:
		err = unknown(key)
	}
	return err
}

// member reads a request of a list.
func (d *decodeUnit) member(s *wire.Scanner, index int) error {
	var r decode.Request
	var given []string
	id := ""
	err := s.Object("requests", func(key string) (err error) {
		given = append(given, key)
		switch key {
		case "id":
			id, err = s.Name(key)
		case "among":
			r.Among, err = ranksOf(s, key)
		default:
			err = requestField(s, key, &r)
		}
		return err
	})
	has := func(key string) bool { return slices.Contains(given, key) }
	switch {
	case err != nil:
		return fmt.Errorf("requests: index %d: %w", index, err)
	case !has("id"):
		return wire.Bad(placement.ErrShape, "requests", -1, index, "id is missing")
	case !has("kv"):
		return wire.Bad(placement.ErrShape, "requests", -1, index, "kv is missing")
	case has("prefix") != has("shared"):
		return wire.Bad(placement.ErrShape, "requests", -1, index, "prefix and shared belong together")
	}
	d.members = append(d.members, id)
	d.requests = append(d.requests, r)
	return nil
}

func (d *decodeUnit) config(e *wire.Encoder) error {
	if err := d.eachRank(); err != nil {
		return err
	}
	d.cfg.Ranks, d.cfg.Speed = d.ranks, d.speed
	b, err := decode.New(d.cfg)
	if err == nil {
		d.b = b
	}
	return done(e, err)
}

// new is the request of a line that is to be known.
func (d *decodeUnit) new() (decode.Request, error) {
	r := d.request
	r.ID, r.Among = d.asked(d.id), d.among
	if slices.Contains(d.given, "prefix") != slices.Contains(d.given, "shared") {
		return r, wire.Bad(placement.ErrShape, "prefix", -1, -1, "prefix and shared belong together")
	}
	return r, d.free(d.id, -1)
}

func (d *decodeUnit) add(e *wire.Encoder) error {
	r, err := d.new()
	rank := d.rank
	switch {
	case err != nil:
	case rank >= 0:
		err = d.b.Enter(r, rank)
	default:
		rank, err = d.b.Add(r)
	}
	if err != nil {
		return err
	}
	if rank >= 0 {
		d.enter(d.id, r.ID)
	}
	assignment(e, d.id, rank)
	return nil
}

// quote replies what add would, and the seconds; a rank that is named is the only
// one that may take the request.
func (d *decodeUnit) quote(e *wire.Encoder) error {
	r, err := d.new()
	if err != nil {
		return err
	}
	if d.rank >= 0 {
		r.Among = []int{d.rank}
	}
	q, err := d.b.Quote(r)
	if err != nil {
		return err
	}
	quotation(e, q.Rank, q.Seconds)
	return nil
}

// named does something to the request of the line.
func (d *decodeUnit) named(do func(decode.ID) error) error {
	id, err := d.find(d.id)
	if err == nil {
		err = do(id)
	}
	return err
}

// end is named of what takes the request off.
func (d *decodeUnit) end(do func(decode.ID) error) error {
	id, err := d.find(d.id)
	if err == nil {
		err = do(id)
	}
	if err == nil {
		d.drop(id)
	}
	return err
}

// list gives the requests of the line their ids, those that are not known new
// ones; known = it is no error that one is known.
func (d *decodeUnit) list(known bool) error {
	given := newNames[decode.ID](len(d.members))
	for i, name := range d.members {
		id, ok := d.ids[name]
		if given.free(name, -1) != nil || ok && !known {
			return &decode.Error{Field: "requests", Index: i, Kind: decode.ErrKnown, Detail: fmt.Sprintf("id %.60q is known", name)}
		}
		if !ok {
			id = d.asked(name, given.at)
		}
		given.enter(name, id)
		d.requests[i].ID = id
	}
	return nil
}

func (d *decodeUnit) batch(e *wire.Encoder) (err error) {
	if err = d.list(false); err != nil {
		return err
	}
	if d.ranksOf, err = d.b.Batch(d.ranksOf[:0], d.requests); err != nil {
		return err
	}
	e.Raw(`{"assignments":[`)
	for i, rank := range d.ranksOf {
		if rank >= 0 {
			d.enter(d.members[i], d.requests[i].ID)
		}
		if i > 0 {
			e.Raw(",")
		}
		assignment(e, d.members[i], rank)
	}
	e.Raw("]}")
	return nil
}

func (d *decodeUnit) step() error {
	d.b.Step()
	return nil
}

func (d *decodeUnit) grow() error {
	alone := slices.Contains(d.given, "id")
	if d.many == alone {
		return wire.Bad(placement.ErrShape, "tokens", -1, -1, "an id and a number of tokens, or an object of such, is needed")
	}
	if alone {
		return d.named(func(id decode.ID) error { return d.b.Grow(id, d.grown) })
	}
	seen := make(map[decode.ID]bool, len(d.growing))
	for i, name := range d.growing {
		id, ok := d.ids[name]
		switch {
		case !ok:
			return named(decode.ErrUnknown, i, name)
		case seen[id]:
			return wire.Bad(placement.ErrValue, "tokens", -1, i, "%.60q is given twice", name)
		}
		seen[id] = true
		d.growth[i].ID = id
	}
	return d.b.GrowAll(d.growth)
}

func (d *decodeUnit) sync(e *wire.Encoder) error {
	if err := d.list(true); err != nil {
		return err
	}
	c, err := d.b.Sync(decode.Changes{}, d.rank, d.requests)
	if err != nil {
		return err
	}
	for i, name := range d.members {
		d.enter(name, d.requests[i].ID)
	}
	changes(e, c.Entered, c.Gone, c.Moved, d.of)
	for _, id := range c.Gone {
		d.drop(id)
	}
	return nil
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
		e.Field("kv")
		e.Int(m.KV)
		e.Field("seconds")
		e.Float(m.Seconds)
		e.Field("gain")
		e.Float(m.Gain)
		e.Raw("}")
	})
	if large, all := d.b.Standouts(nil); len(large) > 0 {
		e.Field("standouts")
		wire.List(e, large, func(s decode.Standout) {
			e.Raw(`{"id":`)
			e.Name(d.of(s.ID))
			e.Field("rank")
			e.Int(int64(s.Rank))
			e.Field("kv")
			e.Int(s.KV)
			e.Field("split_gain")
			e.Float(s.Split)
			e.Raw("}")
		})
		e.Field("split_gain")
		e.Float(all)
	}
	if evict := d.b.Overfull(nil); len(evict) > 0 {
		e.Field("evict")
		wire.List(e, evict, func(id decode.ID) { e.Name(d.of(id)) })
	}
	e.Raw("}")
	return nil
}

// dead replies with the requests that were on the rank: they are not known any
// more.
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
		e.Int(l.KV)
		if l.Output > 0 {
			e.Field("output")
			e.Int(l.Output)
		}
		if l.Generated > 0 {
			e.Field("generated")
			e.Int(l.Generated)
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
		e.Int(r.KV)
		e.Field("kept")
		e.Int(r.Kept)
		rankState(e, r.State == decode.Serving, r.Capacity, r.Over)
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
