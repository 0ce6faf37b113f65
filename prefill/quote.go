package prefill

// Quote is what a request would cost a unit.
type Quote struct {
	Rank    int     // where Add would place it; Full = nowhere now
	Seconds float64 // 0 where it is Full
}

// Quote says what Add would answer, and by how many seconds the request would
// lengthen what the unit has to do until it is computed: its own work on that rank,
// behind what the rank has and its share of the queue. So a router over several units,
// of whatever size and speed, takes the least. Nothing changes. Errors: as Add. It
// costs what Add does.
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
	own := b.cost.of(WorkOf(r.Tokens-p, p)) + b.cost.of(k.seen)
	return Quote{g, own/k.speed + b.cost.of(waiting)/b.power}, nil
}
