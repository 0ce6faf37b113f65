package decode

// Quote is what a request would cost the unit.
type Quote struct {
	Rank    int     // where Add would place it; Full = nowhere now
	KV      int64   // its KV use, without the request
	Seconds float64 // 0 where it is Full
	Step    float64 // what a step takes with it, on a mean rank or its own where that takes longer
	Beyond  float64 // by how much its rank exceeds what the unit pays for anyway, seconds a step, the more the worse; 0 where ranks are unlike, since Step has it
}

// Quote says what Add would answer, and by how many seconds it would lengthen what
// the unit has to do: the request takes its expected output times a step, and each
// step is longer by what it adds to a mean rank, for all that run beside it. So a
// router over several units, of whatever size and speed, takes the least; one that
// keeps their steps alike takes, of those of about the least Step, the least Beyond.
// Nothing changes. Errors: as Add.
func (b *Balancer) Quote(r Request) (Quote, error) {
	r, err := b.check(r, -1)
	if err == nil {
		err = b.possible(&r, -1)
	}
	if err != nil {
		return Quote{Rank: Full}, err
	}
	if b.active == 0 {
		return Quote{Rank: Full}, nil
	}
	l := b.level(b.rule(r.KV), r.KV, int64(r.Width), int64(r.Width))
	g := b.placeAt(&l, &r)
	if g < 0 {
		return Quote{Rank: Full}, nil
	}
	output := b.believed(r.Output, r.Generated)
	if output == 0 {
		output = b.expected(r.Generated)
	}
	c, n := &b.cfg.Cost, float64(b.active)
	speed := n * b.ranks[g].speed
	if b.unlike {
		speed = 0
		for i := range b.ranks {
			if b.ranks[i].open() {
				speed += b.ranks[i].speed
			}
		}
	}
	kv := float64(r.KV-b.there(&r, g)) + float64(output)/2
	more := (float64(c.KV*kv) + float64(c.Request*float64(r.Width))) / speed // on each of all, evenly
	step := c.Step + (float64(c.KV*float64(b.sumBase+b.sumWidth*b.clock))+float64(c.Request*float64(b.sumWidth)))/speed + more
	// Never less than the rank itself takes, where it holds most.
	own := (float64(c.KV*(float64(b.kv(g))+kv)) + float64(c.Request*float64(b.ranks[g].width+int64(r.Width)))) / b.ranks[g].speed
	step = max(step, c.Step+own)
	beside := float64(b.sumWidth) / n
	beyond := 0.0
	if !b.unlike {
		beyond = b.costOn(&l, g, b.kv(g)+r.KV-b.there(&r, g), b.ranks[g].width+int64(r.Width))
	}
	return Quote{
		Rank: g, KV: b.kv(g), Seconds: float64(steps(output, int64(r.Width))) * (step + float64(more*n*beside)), Step: step, Beyond: beyond,
	}, nil
}
