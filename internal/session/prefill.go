package session

import (
	"errors"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

// prefillUnit is a session's prefill balancer.
type prefillUnit struct {
	b *prefill.Balancer
	names[prefill.ID]

	// The line at hand.
	line
	cfg      prefill.Config
	request  prefill.Request
	leader   string
	cachedAt []int64
	perRank  bool

	chunks []prefill.Chunk
}

// NewPrefill returns a session of a prefill balancer, whose first line is config.
func NewPrefill() *Session {
	p := &prefillUnit{names: newNames[prefill.ID](0)}
	return newSession(p, &p.line)
}

func (p *prefillUnit) operations() map[string]operation {
	return map[string]operation{
		"config":  {first: true, mandatory: []string{"ranks"}, optional: []string{"max_tokens", "max_kv", "patience", "cost"}, reply: p.config},
		"add":     {mandatory: []string{"id", "tokens"}, optional: []string{"cached"}, reply: p.add},
		"enqueue": {mandatory: []string{"id", "tokens"}, optional: []string{"cached", "leader", "shared"}, reply: p.enqueue},
		"cached":  {mandatory: []string{"id", "cached"}, optional: []string{"rank"}, reply: p.cached},
		"step":    {reply: p.step},
		"done":    {mandatory: []string{"id"}, reply: p.done},
		"drain":   {mandatory: []string{"rank"}, reply: func(e *wire.Encoder) error { return done(e, p.b.Drain(p.rank)) }},
		"restore": {mandatory: []string{"rank"}, reply: func(e *wire.Encoder) error { return done(e, p.b.Restore(p.rank)) }},
		"stats":   {reply: p.stats},
	}
}

func (p *prefillUnit) configured() bool { return p.b != nil }

func (p *prefillUnit) reset() {
	p.cfg, p.request, p.leader = prefill.Config{}, prefill.Request{}, ""
	p.cachedAt, p.perRank = p.cachedAt[:0], false
}

func (p *prefillUnit) field(s *wire.Scanner, key string) (err error) {
	switch key {
	case "max_tokens":
		p.cfg.MaxTokens, err = tokens(s, key, 0)
	case "max_kv":
		x := 0.0
		x, err = s.Whole(key, 1<<53)
		p.cfg.MaxKV = []int64{int64(x)}
	case "patience":
		p.cfg.Patience, err = s.Number("a number of seconds", key, -1, -1)
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
	case "shared":
		p.request.Shared, err = tokens(s, key, 0)
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

func (p *prefillUnit) config(e *wire.Encoder) (err error) {
	p.cfg.Ranks = p.ranks
	b, err := prefill.New(p.cfg)
	if err == nil {
		p.b = b
	}
	return done(e, err)
}

// take completes the line's request with an id, hands it to the balancer, and
// remembers its name where that took it.
func (p *prefillUnit) take(to func(prefill.Request) error) error {
	if err := p.free(p.id, -1); err != nil {
		return err
	}
	r := p.request
	r.ID = p.fresh()
	if p.perRank {
		r.CachedAt = p.cachedAt
	}
	if id, ok := p.ids[p.leader]; ok {
		r.Leader = id
	} else {
		r.Leader = r.ID // nobody
	}
	if err := to(r); err != nil {
		return err
	}
	p.enter(p.id, r.ID)
	return nil
}

// errFull: nothing was taken, and that is no error.
var errFull = errors.New("full")

func (p *prefillUnit) add(e *wire.Encoder) error {
	rank := -1
	err := p.take(func(r prefill.Request) (err error) {
		rank, err = p.b.Add(r)
		if err == nil && rank < 0 {
			return errFull
		}
		return err
	})
	if err != nil && err != errFull {
		return err
	}
	assignment(e, p.id, rank)
	return nil
}

func (p *prefillUnit) enqueue(e *wire.Encoder) error { return done(e, p.take(p.b.Enqueue)) }

func (p *prefillUnit) cached(e *wire.Encoder) error {
	id, err := p.find(p.id)
	switch {
	case err == nil && p.perRank:
		err = wire.Bad(placement.ErrShape, "cached", -1, -1, "a list: one number, and its rank where caches are local, is needed")
	case err == nil:
		err = p.b.SetCached(id, p.rank, p.request.Cached)
	}
	return done(e, err)
}

func (p *prefillUnit) done(e *wire.Encoder) error {
	id, err := p.find(p.id)
	if err == nil {
		err = p.b.Done(id)
	}
	if err == nil {
		p.drop(id)
	}
	return done(e, err)
}

func (p *prefillUnit) step(e *wire.Encoder) error {
	p.chunks = p.b.Step(p.chunks[:0])
	e.Raw(`{"chunks":`)
	wire.List(e, p.chunks, func(c prefill.Chunk) {
		e.Raw(`{"id":`)
		e.Name(p.of(c.ID))
		e.Field("rank")
		e.Int(int64(c.Rank))
		e.Field("tokens")
		e.Int(c.Tokens)
		e.Field("last")
		e.Bool(c.Last)
		if c.Last {
			p.drop(c.ID)
		}
		e.Field("half")
		e.Int(int64(c.Half))
		e.Raw("}")
	})
	e.Raw("}")
	return nil
}

func (p *prefillUnit) stats(e *wire.Encoder) error {
	var tokens, attention []int64
	e.Raw(`{"ranks":[`)
	for g := range p.b.Ranks() {
		if g > 0 {
			e.Raw(",")
		}
		k := p.b.Rank(g)
		e.Raw(`{"requests":`)
		e.Int(int64(k.Requests))
		e.Field("tokens")
		e.Int(k.Work.Tokens)
		e.Field("attention")
		e.Int(k.Work.Pairs)
		e.Raw("}")
		if k.State == prefill.Serving {
			tokens, attention = append(tokens, k.Work.Tokens), append(attention, k.Work.Pairs)
		}
	}
	e.Raw("]")
	e.Field("queued")
	e.Int(int64(p.b.Queued()))
	e.Field("imbalance")
	e.Raw(`{"tokens":`)
	e.Float(overMean(tokens))
	e.Field("attention")
	e.Float(overMean(attention))
	e.Raw("}}")
	return nil
}

// overMean is max/mean; 1 if there is nothing.
func overMean(x []int64) float64 {
	most, sum := 0.0, 0.0
	for _, v := range x {
		most, sum = max(most, float64(v)), sum+float64(v)
	}
	if sum == 0 {
		return 1
	}
	return most * float64(len(x)) / sum
}
