package prefill

// Quote is what a request would cost a unit.
type Quote struct {
	// Rank is where Add would place it; Full = nowhere now.
	Rank int
	// Seconds is how much longer that rank would have to compute.
	Seconds float64
	// Wait is how long the rank has to compute until then, with its share of the
	// queue. A router over several units takes the one of least Wait + Seconds.
	Wait float64
}

// Quote returns what Add would answer for a request, and what it would cost the
// unit; nothing changes. Errors: those of Add. It costs what Add does.
func (b *Balancer) Quote(r Request) (Quote, error) {
	if err := b.check(&r); err != nil {
		return Quote{Rank: Full}, err
	}
	if b.countable(&r) != nil {
		return Quote{Rank: Full}, nil
	}
	g := b.choose(&r)
	if g < 0 {
		return Quote{Rank: Full}, nil
	}
	k := &b.ranks[g]
	p := r.cachedOn(g)
	waiting := b.total
	for h := range b.ranks {
		waiting = waiting.less(b.ranks[h].work)
	}
	return Quote{
		Rank:    g,
		Seconds: b.cost.of(WorkOf(r.Tokens-p, p)) / k.speed,
		Wait:    b.cost.of(k.seen)/k.speed + b.cost.of(waiting)/b.power,
	}, nil
}
