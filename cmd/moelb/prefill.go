package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/placement"
	pre "github.com/moelb/moelb/prefill"
)

func prefillCommand(c *console) *cobra.Command {
	return &cobra.Command{
		Use:   "prefill [FILE | -]",
		Short: "Balance prefill requests over ranks, line by line",
		Long: `Decide which rank computes which prompt, and how much of it in each lockstep
step, so that attention work and tokens are both even over the ranks of a unit.

A session over JSON Lines: one request line, one reply line, in order. The first
line is config; then add (place one now), enqueue and step (form the next step
from what waits), cached, done, drain, restore and stats. A line that fails is
answered with its error and changes nothing.`,
		Example: `  printf '%s\n' '{"op":"config","ranks":4}' '{"op":"enqueue","id":"a","tokens":90000,"cached":0}' '{"op":"step"}' | moelb prefill`,
		Args:    atMost(1),
		RunE: func(_ *cobra.Command, args []string) error {
			return c.session(args, "prefill", &prefillSession{})
		},
	}
}

// prefillSession is a session of the prefill balancer.
type prefillSession struct {
	b     *pre.Balancer
	ids   map[string]int64
	names []string // by id
	free  []int64  // ids to use again

	// The line at hand.
	cfg      pre.Config
	id       string
	leader   string
	one      pre.Request
	cachedAt []int64
	perRank  bool
	rank     int

	chunks []pre.Chunk
}

func (p *prefillSession) fields() map[string][]string {
	return map[string][]string{
		"config":  {"ranks", "?max_tokens", "?max_kv", "?patience", "?cost"},
		"add":     {"id", "tokens", "?cached"},
		"enqueue": {"id", "tokens", "?cached", "?leader", "?shared"},
		"cached":  {"id", "cached", "?rank"},
		"step":    {},
		"done":    {"id"},
		"drain":   {"rank"},
		"restore": {"rank"},
		"stats":   {},
	}
}

func (p *prefillSession) reset() {
	p.cfg, p.one, p.id, p.leader, p.rank = pre.Config{}, pre.Request{}, "", "", -1
	p.cachedAt, p.perRank = p.cachedAt[:0], false
}

func (p *prefillSession) field(s *scanner, key string) (err error) {
	n := 0
	switch key {
	case "ranks":
		p.cfg.Ranks, err = s.integer(key, 1, pre.MaxRanks)
	case "max_tokens":
		n, err = s.integer(key, 0, pre.MaxPrompt)
		p.cfg.MaxTokens = int64(n)
	case "max_kv":
		x := 0.0
		x, err = s.whole(key, 1<<53)
		p.cfg.MaxKV = int64(x)
	case "patience":
		p.cfg.Patience, err = s.number("a number of seconds", key, -1, -1)
	case "cost":
		p.cfg.Cost, err = readPrefillCost(s)
	case "id":
		p.id, err = s.id(key)
	case "leader":
		p.leader, err = s.id(key)
	case "tokens":
		n, err = s.integer(key, 1, pre.MaxPrompt)
		p.one.Tokens = int64(n)
	case "shared":
		n, err = s.integer(key, 0, pre.MaxPrompt)
		p.one.Shared = int64(n)
	case "cached":
		if s.peek() != '[' {
			n, err = s.integer(key, 0, pre.MaxPrompt)
			p.one.Cached = int64(n)
			break
		}
		p.perRank = true
		err = s.each(key, pre.MaxRanks, func(int) error {
			n, err := s.integer(key, 0, pre.MaxPrompt)
			p.cachedAt = append(p.cachedAt, int64(n))
			return err
		})
	case "rank":
		p.rank, err = s.integer(key, 0, pre.MaxRanks)
	default:
		err = bad(placement.ErrValue, key, -1, -1, "unknown field")
	}
	return err
}

// whole reads a whole number from 0 to most.
func (s *scanner) whole(field string, most float64) (float64, error) {
	x, err := s.number("a whole number", field, -1, -1)
	if err == nil && (x < 0 || x > most || x != float64(int64(x))) {
		err = bad(placement.ErrValue, field, -1, -1, "%s: a whole number from 0 to %s is needed", plain(x), plain(most))
	}
	return x, err
}

func readPrefillCost(s *scanner) (pre.Cost, error) {
	cost := pre.DeepSeekV3H800()
	err := s.object("cost", func(key string) (err error) {
		x, field := 0.0, "cost."+key
		switch key {
		case "pair", "token", "step", "prefix":
			x, err = s.number("a number of seconds", field, -1, -1)
		default:
			return bad(placement.ErrValue, field, -1, -1, "unknown field")
		}
		switch key {
		case "pair":
			cost.Pair = x
		case "token":
			cost.Token = x
		case "step":
			cost.Step = x
		case "prefix":
			cost.Prefix = x
		}
		return err
	})
	return cost, err
}

func (p *prefillSession) reply(op string, e *encoder) error {
	switch {
	case op == "config":
		return p.config(e)
	case p.b == nil:
		return bad(placement.ErrShape, "op", -1, -1, "%s before config", op)
	}
	switch op {
	case "add":
		return p.add(e)
	case "enqueue":
		return p.enqueue(e)
	case "cached":
		id, err := p.known()
		switch {
		case err == nil && p.perRank:
			err = bad(placement.ErrShape, "cached", -1, -1, "a list: one number, and its rank where caches are local, is needed")
		case err == nil:
			err = p.b.SetCached(id, p.rank, p.one.Cached)
		}
		return done(e, err)
	case "step":
		return p.step(e)
	case "done":
		id, err := p.known()
		if err == nil {
			err = p.b.Done(id)
		}
		if err == nil {
			p.forget(id)
		}
		return done(e, err)
	case "drain":
		return done(e, p.b.Drain(p.rank))
	case "restore":
		return done(e, p.b.Restore(p.rank))
	}
	return p.stats(e)
}

func (p *prefillSession) config(e *encoder) error {
	if p.b != nil {
		return bad(placement.ErrValue, "op", -1, -1, "config a second time")
	}
	b, err := pre.New(p.cfg)
	if err != nil {
		return err
	}
	p.b, p.ids = b, map[string]int64{}
	return done(e, nil)
}

// request completes the line's request with an id that is free.
func (p *prefillSession) request() (pre.Request, error) {
	r := p.one
	if _, ok := p.ids[p.id]; ok {
		return r, bad(placement.ErrValue, "id", -1, -1, "%.60q is known already", p.id)
	}
	r.ID = int64(len(p.names))
	if n := len(p.free); n > 0 {
		r.ID = p.free[n-1]
	}
	if p.perRank {
		r.CachedAt = p.cachedAt
	}
	r.Leader = -1
	if id, ok := p.ids[p.leader]; ok {
		r.Leader = id
	}
	return r, nil
}

// enter remembers the name of a request that the balancer has taken.
func (p *prefillSession) enter(id int64) {
	if id == int64(len(p.names)) {
		p.names = append(p.names, p.id)
	} else {
		p.names[id] = p.id
		p.free = p.free[:len(p.free)-1]
	}
	p.ids[p.id] = id
}

func (p *prefillSession) forget(id int64) {
	delete(p.ids, p.names[id])
	p.names[id] = ""
	p.free = append(p.free, id)
}

func (p *prefillSession) known() (int64, error) {
	id, ok := p.ids[p.id]
	if !ok {
		return 0, bad(placement.ErrValue, "id", -1, -1, "%.60q is unknown", p.id)
	}
	return id, nil
}

func (p *prefillSession) add(e *encoder) error {
	r, err := p.request()
	if err != nil {
		return err
	}
	rank, err := p.b.Assign(r)
	switch {
	case err == nil:
		p.enter(r.ID)
	case errors.Is(err, pre.ErrFull):
		rank = -1
	default:
		return err
	}
	e.raw(`{"id":`)
	e.name(p.id)
	e.field("rank")
	e.int(int64(rank))
	e.raw("}")
	return nil
}

func (p *prefillSession) enqueue(e *encoder) error {
	r, err := p.request()
	if err == nil {
		err = p.b.Enqueue(r)
	}
	if err == nil {
		p.enter(r.ID)
	}
	return done(e, err)
}

func (p *prefillSession) step(e *encoder) error {
	p.chunks = p.b.Step(p.chunks[:0])
	e.raw(`{"chunks":`)
	list(e, p.chunks, func(c pre.Chunk) {
		e.raw(`{"id":`)
		e.name(p.names[c.ID])
		e.field("rank")
		e.int(int64(c.Rank))
		e.field("tokens")
		e.int(c.Tokens)
		e.field("last")
		if c.Last {
			e.raw("true")
			p.forget(c.ID)
		} else {
			e.raw("false")
		}
		e.field("half")
		e.int(int64(c.Half))
		e.raw("}")
	})
	e.raw("}")
	return nil
}

func (p *prefillSession) stats(e *encoder) error {
	var tokens, attention []int64
	e.raw(`{"ranks":[`)
	for g := range p.b.Ranks() {
		if g > 0 {
			e.raw(",")
		}
		k := p.b.Rank(g)
		e.raw(`{"requests":`)
		e.int(int64(k.Requests))
		e.field("tokens")
		e.int(k.Work.Tokens)
		e.field("attention")
		e.int(k.Work.Pairs)
		e.raw("}")
		if !k.Drained {
			tokens, attention = append(tokens, k.Work.Tokens), append(attention, k.Work.Pairs)
		}
	}
	e.raw("]")
	e.field("queued")
	e.int(int64(p.b.Queued()))
	e.field("imbalance")
	e.raw(`{"tokens":`)
	e.float(overMean(tokens))
	e.field("attention")
	e.float(overMean(attention))
	e.raw("}}")
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
