package session

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

// prefillUnit is a session's prefill balancer.
type prefillUnit struct {
	b *prefill.Balancer
	names[prefill.ID]
	late names[prefill.ID] // of the latest step's last chunks: they come back if their rank dies, unless they are known again

	// The line at hand.
	line
	cfg      prefill.Config
	request  prefill.Request
	leader   string
	cachedAt []int64
	perRank  bool
	to       int
	members  []string // of requests
	running  []prefill.Running
	state    saved

	chunks []prefill.Chunk
}

// NewPrefill returns a session of a prefill balancer, whose first line is config or
// load.
func NewPrefill() *Session {
	p := &prefillUnit{names: newNames[prefill.ID](0), late: newNames[prefill.ID](0)}
	return newSession(p, &p.line)
}

func (p *prefillUnit) operations() map[string]operation {
	ok := func(do func() error) func(*wire.Encoder) error {
		return func(e *wire.Encoder) error { return done(e, do()) }
	}
	return map[string]operation{
		"config":   {first: true, mandatory: []string{"ranks"}, optional: []string{"max_tokens", "max_kv", "patience", "cost", "speed", "keep_kv", "step_seconds", "page"}, reply: ok(p.config)},
		"add":      {mandatory: []string{"id", "tokens"}, optional: []string{"cached", "among", "rank"}, reply: p.add},
		"quote":    {mandatory: []string{"id", "tokens"}, optional: []string{"cached", "among", "rank"}, reply: p.quote},
		"enqueue":  {mandatory: []string{"id", "tokens"}, optional: []string{"cached", "leader", "shared", "among", "priority"}, reply: ok(p.enqueue)},
		"cached":   {mandatory: []string{"id", "cached"}, optional: []string{"rank"}, reply: ok(p.cached)},
		"step":     {reply: p.step},
		"done":     {mandatory: []string{"id"}, reply: ok(func() error { return p.end(p.b.Done) })},
		"cancel":   {mandatory: []string{"id"}, reply: ok(func() error { return p.end(p.b.Cancel) })},
		"move":     {mandatory: []string{"id", "to"}, reply: ok(p.move)},
		"sync":     {mandatory: []string{"rank", "requests"}, reply: p.sync},
		"drain":    {mandatory: []string{"rank"}, reply: ok(func() error { return p.b.Drain(p.rank) })},
		"restore":  {mandatory: []string{"rank"}, reply: ok(func() error { return p.b.Restore(p.rank) })},
		"dead":     {mandatory: []string{"rank"}, reply: p.dead},
		"resize":   {mandatory: []string{"ranks"}, reply: ok(p.resize)},
		"stats":    {reply: p.stats},
		"snapshot": {reply: p.snapshot},
		"load":     {first: true, mandatory: []string{"state"}, reply: ok(p.load)},
	}
}

func (p *prefillUnit) configured() bool { return p.b != nil }

func (p *prefillUnit) reset() {
	p.cfg, p.request, p.leader, p.state = prefill.Config{}, prefill.Request{}, "", saved{}
	p.cachedAt, p.perRank = p.cachedAt[:0], false
	p.members, p.running = p.members[:0], p.running[:0]
}

func (p *prefillUnit) field(s *wire.Scanner, key string) (err error) {
	switch key {
	case "max_tokens":
		p.cfg.MaxTokens, err = tokens(s, key, 0)
	case "max_kv":
		err = p.oneOrEach(s, key, func() error {
			x, err := s.Whole(key, 1<<53)
			p.cfg.MaxKV = append(p.cfg.MaxKV, int64(x))
			return err
		})
	case "keep_kv":
		p.cfg.KeepKV, err = s.Bool(key)
	case "patience":
		p.cfg.Patience, err = s.Number("a number of seconds", key, -1, -1)
	case "step_seconds":
		p.cfg.StepSeconds, err = s.Number("a number of seconds", key, -1, -1)
	case "page":
		p.cfg.Page, err = tokens(s, key, 0)
	case "cost":
		p.cfg.Cost = prefill.DeepSeekV3H800()
		err = readCost(s, p.costOf)
	case "tokens":
		p.request.Tokens, err = tokens(s, key, 1)
	case "cached":
		if s.Peek() != '[' {
			p.request.Cached, err = tokens(s, key, 0)
			break
		}
		p.perRank = true
		err = s.Each(key, prefill.MaxRanks, func(int) error {
			n, err := tokens(s, key, 0)
			p.cachedAt = append(p.cachedAt, n)
			return err
		})
	case "leader":
		p.leader, err = s.Name(key)
	case "priority":
		n := 0
		n, err = s.Integer(key, -1<<30, 1<<30)
		p.request.Priority = int64(n)
	case "shared":
		p.request.Shared, err = tokens(s, key, 0)
	case "to":
		p.to, err = s.Integer(key, 0, maxRanks)
	case "requests":
		err = s.Each(key, maxBatch, func(i int) error { return p.member(s, i) })
	case "state":
		p.state, err = readSaved(s)
	default:
		err = unknown(key)
	}
	return err
}

// tokens reads a number of tokens of a prompt.
func tokens(s *wire.Scanner, key string, least int) (int64, error) {
	n, err := s.Integer(key, least, prefill.MaxPrompt)
	return int64(n), err
}

func (p *prefillUnit) costOf(key string) (*float64, error) {
	switch c := &p.cfg.Cost; key {
	case "pair":
		return &c.Pair, nil
	case "token":
		return &c.Token, nil
	case "step":
		return &c.Step, nil
	case "prefix":
		return &c.Prefix, nil
	}
	return nil, unknown("cost." + key)
}

// member reads a request of a list.
func (p *prefillUnit) member(s *wire.Scanner, index int) error {
	id, n := "", 0
	x := prefill.Running{Computed: -1}
	err := s.Object("requests", func(key string) (err error) {
		switch key {
		case "id":
			id, err = s.Name(key)
			n++
		case "tokens":
			x.Tokens, err = tokens(s, key, 1)
		case "computed":
			x.Computed, err = tokens(s, key, 0)
		default:
			err = unknown(key)
		}
		return err
	})
	switch {
	case err != nil:
		return fmt.Errorf("requests: index %d: %w", index, err)
	case n == 0 || x.Tokens == 0 || x.Computed < 0:
		return wire.Bad(placement.ErrShape, "requests", -1, index, "id, tokens and computed are needed")
	}
	p.members, p.running = append(p.members, id), append(p.running, x)
	return nil
}

func (p *prefillUnit) config() error {
	if err := p.eachRank(); err != nil {
		return err
	}
	p.cfg.Ranks, p.cfg.Speed = p.ranks, p.speed
	b, err := prefill.New(p.cfg)
	if err == nil {
		p.b = b
	}
	return err
}

// idOf is the id of a name that is not known. One that ended in the latest step gets
// its own again, so that the old request does not come back beside it.
func (p *prefillUnit) idOf(name string, given map[prefill.ID]string) prefill.ID {
	if id, ok := p.late.ids[name]; ok {
		return id
	}
	return p.asked(name, p.late.at, given)
}

// new is the request of a line that is to be known.
func (p *prefillUnit) new() (prefill.Request, error) {
	r := p.request
	r.ID, r.Among = p.idOf(p.id, nil), p.among
	if p.perRank {
		r.CachedAt = p.cachedAt
	}
	r.Leader = r.ID // nobody
	if id, ok := p.ids[p.leader]; ok {
		r.Leader = id
	}
	return r, p.free(p.id, -1)
}

func (p *prefillUnit) add(e *wire.Encoder) error {
	r, err := p.new()
	rank := p.rank
	switch {
	case err != nil:
	case rank >= 0:
		err = p.b.Enter(r, rank)
	default:
		rank, err = p.b.Add(r)
	}
	if err != nil {
		return err
	}
	if rank >= 0 {
		p.enter(p.id, r.ID)
	}
	assignment(e, p.id, rank)
	return nil
}

// quote replies what add would, and the seconds; a rank that is named is the only
// one that may take the request.
func (p *prefillUnit) quote(e *wire.Encoder) error {
	r, err := p.new()
	if err != nil {
		return err
	}
	if p.rank >= 0 {
		r.Among = []int{p.rank}
	}
	q, err := p.b.Quote(r)
	if err != nil {
		return err
	}
	quotation(e, q.Rank, q.Seconds)
	return nil
}

func (p *prefillUnit) enqueue() error {
	r, err := p.new()
	if err == nil {
		err = p.b.Enqueue(r)
	}
	if err == nil {
		p.enter(p.id, r.ID)
	}
	return err
}

func (p *prefillUnit) cached() error {
	id, err := p.find(p.id)
	switch {
	case err == nil && p.perRank:
		err = wire.Bad(placement.ErrShape, "cached", -1, -1, "a list: one number, and its rank where caches are local, is needed")
	case err == nil:
		err = p.b.SetCached(id, p.rank, p.request.Cached)
	}
	return err
}

// end takes the request of the line off.
func (p *prefillUnit) end(do func(prefill.ID) error) error {
	id, err := p.find(p.id)
	if err == nil {
		err = do(id)
	}
	if err == nil {
		p.drop(id)
	}
	return err
}

func (p *prefillUnit) move() error {
	id, err := p.find(p.id)
	if err == nil {
		err = p.b.Move(id, p.to)
	}
	return err
}

func (p *prefillUnit) sync(e *wire.Encoder) error {
	given := newNames[prefill.ID](len(p.members))
	for i, name := range p.members {
		if err := given.free(name, i); err != nil {
			return err
		}
		id, ok := p.ids[name]
		if !ok {
			id = p.idOf(name, given.at)
		}
		given.enter(name, id)
		p.running[i].ID = id
	}
	c, err := p.b.Sync(prefill.Changes{}, p.rank, p.running)
	if err != nil {
		return err
	}
	for i, name := range p.members {
		p.enter(name, p.running[i].ID)
	}
	changes(e, c.Entered, c.Gone, c.Moved, p.of)
	for _, id := range c.Gone {
		p.drop(id)
	}
	return nil
}

func (p *prefillUnit) step(e *wire.Encoder) error {
	p.chunks = p.b.Step(p.chunks[:0])
	clear(p.late.ids)
	clear(p.late.at)
	e.Raw(`{"chunks":`)
	wire.List(e, p.chunks, func(c prefill.Chunk) {
		name := p.of(c.ID)
		e.Raw(`{"id":`)
		e.Name(name)
		e.Field("rank")
		e.Int(int64(c.Rank))
		e.Field("tokens")
		e.Int(c.Tokens)
		e.Field("last")
		e.Bool(c.Last)
		e.Field("half")
		e.Int(int64(c.Half))
		e.Raw("}")
		if _, err := p.b.Where(c.ID); err != nil {
			p.drop(c.ID)
			p.late.enter(name, c.ID)
		}
	})
	e.Raw("}")
	return nil
}

// dead replies with what the rank held: queued again, or not known any more.
func (p *prefillUnit) dead(e *wire.Encoder) error {
	lost, err := p.b.Dead(nil, p.rank)
	if err != nil {
		return err
	}
	e.Raw(`{"requests":`)
	wire.List(e, lost, func(l prefill.Lost) {
		name, known := p.at[l.ID]
		if !known { // it had ended
			name = p.late.of(l.ID)
			p.late.drop(l.ID)
		}
		if l.Queued {
			p.enter(name, l.ID)
		} else {
			p.drop(l.ID)
		}
		e.Raw(`{"id":`)
		e.Name(name)
		e.Field("tokens")
		e.Int(l.Tokens)
		e.Field("computed")
		e.Int(l.Computed)
		e.Field("queued")
		e.Bool(l.Queued)
		e.Raw("}")
	})
	e.Raw("}")
	return nil
}

func (p *prefillUnit) resize() error {
	err := p.b.Resize(p.ranks)
	if err == nil {
		clear(p.late.ids)
		clear(p.late.at)
	}
	return err
}

func (p *prefillUnit) stats(e *wire.Encoder) error {
	s := p.b.Stats()
	e.B = slices.Grow(e.B, 128*len(s.Ranks)) // at once, not by doubling
	e.Raw(`{"ranks":`)
	wire.List(e, s.Ranks, func(k prefill.RankStats) {
		e.Raw(`{"requests":`)
		e.Int(int64(k.Requests))
		e.Field("tokens")
		e.Int(k.Work.Tokens)
		e.Field("attention")
		e.Int(k.Work.Pairs)
		e.Field("kv")
		e.Int(k.KV)
		rankState(e, k.State == prefill.Serving, k.Capacity, k.Over)
		e.Raw("}")
	})
	e.Field("queued")
	e.Int(int64(s.Queued))
	e.Field("imbalance")
	e.Raw(`{"tokens":`)
	e.Float(s.Imbalance.Tokens)
	e.Field("attention")
	e.Float(s.Imbalance.Attention)
	e.Raw("}}")
	return nil
}
