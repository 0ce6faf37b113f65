package prefill_test

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moelb/moelb/prefill"
)

// model is a prefill unit as its caller would write it down: a list of requests,
// searched for everything. It shares nothing with the balancer; where that decides,
// it checks that the decision is allowed and follows it.
type model struct {
	most    int64 // tokens of a rank in a step; 0 = no limit
	keep    bool
	ranks   []modelRank
	there   []*modelRequest // in the order in which they came
	ended   []*modelRequest // by the latest step
	credits map[*modelRequest]credit
}

type modelRank struct {
	state prefill.State
	speed float64
	cap   int64 // 0 = no limit
}

type modelRequest struct {
	id      prefill.ID
	tokens  int64
	told    int64   // cached on all ranks
	extra   int64   // told, or what a leader's end made of it
	local   []int64 // nil = not local
	among   []int   // nil = all
	leader  *modelRequest
	shared  int64
	how     string // added, queued, started, held
	on      int
	pos     int64
	arrived int
}

// credit is what a leader's end changed for a follower.
type credit struct {
	rank int
	old  int64
}

func (m *model) find(id prefill.ID) *modelRequest {
	for _, x := range m.there {
		if x.id == id {
			return x
		}
	}
	return nil
}

func (m *model) on(g int) (out []*modelRequest) {
	for _, x := range m.there {
		if x.how != "queued" && x.on == g {
			out = append(out, x)
		}
	}
	return out
}

func (m *model) kv(g int) (sum int64) {
	for _, x := range m.on(g) {
		sum += x.tokens
	}
	return sum
}

// allowed reports whether a request may be on a rank, and how much that could hold.
func (m *model) allowed(x *modelRequest, g int) bool {
	return x.among == nil || slices.Contains(x.among, g)
}

func (m *model) open(x *modelRequest, g int) bool {
	return m.ranks[g].state == prefill.Serving && m.ranks[g].speed > 0 && m.allowed(x, g)
}

func (m *model) fits(x *modelRequest, g int) bool {
	return m.ranks[g].cap == 0 || m.kv(g)+x.tokens <= m.ranks[g].cap
}

// never reports whether no rank of the first n could hold a request.
func (m *model) never(x *modelRequest, n int) bool {
	for g, k := range m.ranks[:min(n, len(m.ranks))] {
		if m.allowed(x, g) && (k.cap == 0 || x.tokens <= k.cap) {
			return false
		}
	}
	return true
}

func (x *modelRequest) hit(g int) int64 {
	if x.local == nil {
		return x.extra
	}
	return x.local[g]
}

func (m *model) drop(x *modelRequest) {
	m.there = slices.DeleteFunc(m.there, func(y *modelRequest) bool { return y == x })
	for _, y := range m.there {
		if y.leader == x {
			y.leader = nil
		}
	}
}

// credit lets a request's followers have its prefix.
func (m *model) credit(x *modelRequest, latest bool) {
	for _, y := range m.there {
		if y.leader != x {
			continue
		}
		y.leader = nil
		switch {
		case y.local != nil:
			y.local[x.on] = max(y.local[x.on], y.shared)
		case y.shared > y.extra:
			if latest {
				m.credits[y] = credit{x.on, y.extra}
			}
			y.extra = y.shared
		}
	}
}

// wrong is what is wrong with a new request; nil = nothing.
func (m *model) wrong(r *prefill.Request) error {
	bad := r.Tokens < 1 || r.Tokens > prefill.MaxPrompt || r.Cached < 0 || r.Cached > r.Tokens || r.Shared < 0 || r.Shared > r.Tokens || r.CachedAt != nil && len(r.CachedAt) != len(m.ranks)
	for _, c := range r.CachedAt {
		bad = bad || c < 0 || c > r.Tokens
	}
	for _, g := range r.Among {
		bad = bad || g < 0 || g >= len(m.ranks)
	}
	switch {
	case bad:
		return prefill.ErrValue
	case m.find(r.ID) != nil:
		return prefill.ErrKnown
	}
	return nil
}

func newModelRequest(r *prefill.Request, how string) *modelRequest {
	x := &modelRequest{id: r.ID, tokens: r.Tokens, told: r.Cached, extra: r.Cached, local: slices.Clone(r.CachedAt), among: slices.Clone(r.Among), shared: r.Shared, how: how, on: -1}
	if r.CachedAt != nil {
		x.told, x.extra = 0, 0
	}
	return x
}

func (m *model) enqueue(r prefill.Request) error {
	if err := m.wrong(&r); err != nil {
		return err
	}
	x := newModelRequest(&r, "queued")
	if m.never(x, len(m.ranks)) {
		return prefill.ErrNever
	}
	if r.Shared > 0 {
		x.leader = m.find(r.Leader)
	}
	m.there = append(m.there, x)
	if x.leader != nil && x.leader.how == "held" {
		m.credit(x.leader, false)
	}
	return nil
}

// add checks what Add said.
//
//lint:ignore ST1008 the error is what the model wants, not this function's
func (m *model) add(r prefill.Request, rank int, said error) (want error, complaint string) {
	if err := m.wrong(&r); err != nil {
		return err, ""
	}
	x := newModelRequest(&r, "added")
	if m.never(x, len(m.ranks)) {
		return prefill.ErrNever, ""
	}
	if said != nil {
		return nil, ""
	}
	room := false
	for g := range m.ranks {
		room = room || m.open(x, g) && m.fits(x, g)
	}
	switch {
	case rank == prefill.Full:
		if room {
			return nil, "full, with room left"
		}
		return nil, ""
	case rank < 0 || rank >= len(m.ranks) || !m.open(x, rank) || !m.fits(x, rank):
		return nil, fmt.Sprintf("placed on rank %d, which takes none of it", rank)
	}
	x.on, x.pos = rank, x.hit(rank)
	m.there = append(m.there, x)
	return nil, ""
}

func (m *model) enter(r prefill.Request, rank int) error {
	if err := m.wrong(&r); err != nil {
		return err
	}
	if rank < 0 || rank >= len(m.ranks) {
		return prefill.ErrValue
	}
	if m.ranks[rank].state == prefill.Dead {
		return prefill.ErrState
	}
	x := newModelRequest(&r, "added")
	x.on, x.pos = rank, x.hit(rank)
	x.told, x.extra, x.local, x.among = 0, 0, nil, nil
	m.there = append(m.there, x)
	return nil
}

func (m *model) end(id prefill.ID, done bool) error {
	x := m.find(id)
	if x == nil {
		return prefill.ErrUnknown
	}
	if done && x.how == "added" {
		m.credit(x, false)
	}
	m.drop(x)
	return nil
}

func (m *model) setCached(id prefill.ID, rank int, cached int64) error {
	x := m.find(id)
	switch {
	case x == nil:
		return prefill.ErrUnknown
	case x.how != "queued":
		return prefill.ErrState
	case (x.local != nil) != (rank >= 0) || rank < -1 || rank >= len(m.ranks) || cached < 0 || cached > x.tokens:
		return prefill.ErrValue
	case x.local != nil:
		x.local[rank] = cached
	default:
		x.told, x.extra = cached, cached
		delete(m.credits, x)
	}
	return nil
}

func (m *model) move(id prefill.ID, to int) error {
	x := m.find(id)
	switch {
	case x == nil:
		return prefill.ErrUnknown
	case to < 0 || to >= len(m.ranks):
		return prefill.ErrValue
	case m.ranks[to].state == prefill.Dead || x.how == "queued":
		return prefill.ErrState
	}
	x.on = to
	return nil
}

// sync returns the changes that are due.
func (m *model) sync(rank int, list []prefill.Running) (c prefill.Changes, err error) {
	if rank < 0 || rank >= len(m.ranks) {
		return c, prefill.ErrValue
	}
	if m.ranks[rank].state == prefill.Dead {
		return c, prefill.ErrState
	}
	for i, y := range list {
		if y.Tokens < 1 || y.Tokens > prefill.MaxPrompt || y.Computed < 0 || y.Computed > y.Tokens {
			return c, prefill.ErrValue
		}
		for _, z := range list[:i] {
			if z.ID == y.ID {
				return c, prefill.ErrKnown
			}
		}
	}
	for _, x := range m.on(rank) {
		if !slices.ContainsFunc(list, func(y prefill.Running) bool { return y.ID == x.id }) {
			c.Gone = append(c.Gone, x.id)
			m.drop(x)
		}
	}
	for _, y := range list {
		x := m.find(y.ID)
		switch {
		case x == nil:
			x = &modelRequest{id: y.ID, how: "added"}
			m.there = append(m.there, x)
			c.Entered = append(c.Entered, y.ID)
		case x.how == "queued":
			x.how, x.leader = "started", nil
			delete(m.credits, x)
		case x.on != rank:
			c.Moved = append(c.Moved, y.ID)
		}
		x.on, x.tokens, x.pos = rank, y.Tokens, y.Computed
		x.told, x.extra = min(x.told, x.tokens), min(x.extra, x.tokens)
		for g := range x.local {
			x.local[g] = min(x.local[g], x.tokens)
		}
	}
	return c, nil
}

func (m *model) service(rank int, s prefill.State) error {
	if rank < 0 || rank >= len(m.ranks) {
		return prefill.ErrValue
	}
	if s == prefill.Draining && m.ranks[rank].state == prefill.Dead {
		return prefill.ErrState
	}
	m.ranks[rank].state = s
	return nil
}

func (m *model) dead(rank int) (lost []prefill.Lost, err error) {
	if rank < 0 || rank >= len(m.ranks) {
		return nil, prefill.ErrValue
	}
	for x, c := range m.credits {
		if c.rank == rank && x.how == "queued" {
			x.extra = c.old
			delete(m.credits, x)
		}
	}
	held := m.on(rank)
	var rest []*modelRequest
	for _, x := range m.ended {
		switch {
		case x.on != rank:
			rest = append(rest, x)
		case m.find(x.id) == nil:
			held = append(held, x)
			m.there = append(m.there, x)
		}
	}
	m.ended = rest
	slices.SortStableFunc(m.there, func(x, y *modelRequest) int { return x.arrived - y.arrived })
	slices.SortStableFunc(held, func(x, y *modelRequest) int { return x.arrived - y.arrived })
	for _, x := range held {
		l := prefill.Lost{ID: x.id, Tokens: x.tokens, Computed: x.pos, Queued: x.how != "added" && !m.never(x, len(m.ranks))}
		lost = append(lost, l)
		if !l.Queued {
			m.drop(x)
			continue
		}
		x.how, x.on, x.pos, x.extra, x.leader = "queued", -1, 0, x.told, nil
		for _, y := range m.there {
			if y.leader == x {
				y.leader = nil
			}
		}
		delete(m.credits, x)
	}
	for _, x := range append(slices.Clone(m.there), m.ended...) {
		if x.local != nil {
			x.local[rank] = 0
		}
	}
	m.ranks[rank].state = prefill.Dead
	return lost, nil
}

func (m *model) resize(n int) error {
	if n < 1 || n > prefill.MaxRanks {
		return prefill.ErrValue
	}
	for _, x := range m.there {
		if x.how != "queued" && x.on >= n || n < len(m.ranks) && x.how == "queued" && m.never(x, n) {
			return prefill.ErrState
		}
	}
	for _, x := range m.there {
		x.among = slices.DeleteFunc(x.among, func(g int) bool { return g >= n })
		if x.local != nil {
			x.local = append(x.local, make([]int64, max(0, n-len(x.local)))...)[:n]
		}
	}
	last := m.ranks[len(m.ranks)-1]
	last.state = prefill.Serving
	for len(m.ranks) < n {
		m.ranks = append(m.ranks, last)
	}
	m.ranks = m.ranks[:n]
	m.ended, m.credits = nil, map[*modelRequest]credit{}
	return nil
}

// step follows a step's chunks and says what is wrong with them.
func (m *model) step(chunks []prefill.Chunk) error {
	m.ended, m.credits = nil, map[*modelRequest]credit{}
	if len(chunks) == 0 {
		return m.idle()
	}
	load, fresh := make([]int64, len(m.ranks)), make([]bool, len(m.ranks))
	var last []*modelRequest
	for _, c := range chunks {
		x := m.find(c.ID)
		if x == nil || x.how == "added" || x.how == "held" || slices.Contains(last, x) {
			return fmt.Errorf("a chunk of nobody who waits: %+v", c)
		}
		if x.how == "queued" {
			if c.Rank < 0 || c.Rank >= len(m.ranks) || !m.open(x, c.Rank) {
				return fmt.Errorf("started where it may not: %+v", c)
			}
			x.how, x.on, x.leader, x.pos = "started", c.Rank, nil, x.hit(c.Rank)
			fresh[c.Rank] = true
		}
		left := x.tokens - x.pos
		if c.Rank != x.on || c.Tokens < 0 || c.Tokens > left || c.Tokens == 0 && left > 0 || c.Last != (c.Tokens == left) {
			return fmt.Errorf("%+v with %d tokens left on rank %d", c, left, x.on)
		}
		x.pos += c.Tokens
		load[c.Rank] += c.Tokens
		if c.Last {
			last = append(last, x)
		}
	}
	for g := range m.ranks {
		if m.most > 0 && load[g] > m.most {
			return fmt.Errorf("rank %d computes %d tokens", g, load[g])
		}
		if kv := m.kv(g); fresh[g] && m.ranks[g].cap > 0 && kv > m.ranks[g].cap {
			return fmt.Errorf("rank %d holds %d tokens of %d", g, kv, m.ranks[g].cap)
		}
	}
	for _, x := range last {
		m.credit(x, true)
		if m.keep {
			x.how = "held"
			continue
		}
		m.drop(x)
		m.ended = append(m.ended, x)
	}
	return nil
}

// idle says why a step should not have been empty.
func (m *model) idle() error {
	for _, x := range m.there {
		if x.how == "started" {
			return fmt.Errorf("an empty step, though request %d has started", x.id)
		}
		for g := range m.ranks {
			if x.how == "queued" && m.open(x, g) && m.fits(x, g) {
				return fmt.Errorf("an empty step, though rank %d is free for request %d", g, x.id)
			}
		}
	}
	return nil
}

// compare holds a balancer's ledger against the model.
func (m *model) compare(b *prefill.Balancer) error {
	s := b.Stats()
	queued := 0
	want := make([]prefill.RankStats, len(m.ranks))
	for g, k := range m.ranks {
		want[g] = prefill.RankStats{State: k.state, Capacity: k.cap}
	}
	for _, x := range m.there {
		rank, err := b.Where(x.id)
		if err != nil || rank != x.on {
			return fmt.Errorf("request %d, %s on %d, is on %d: %v", x.id, x.how, x.on, rank, err)
		}
		if x.how == "queued" {
			queued++
			continue
		}
		k, n := &want[x.on], x.tokens-x.pos
		k.Requests++
		k.KV += x.tokens
		k.Work.Tokens += n
		for i := x.pos + 1; i <= x.tokens; i++ {
			k.Work.Pairs += i
		}
	}
	for g := range want {
		if k := &want[g]; k.Capacity > 0 {
			k.Over = max(0, k.KV-k.Capacity)
		}
	}
	if !slices.Equal(s.Ranks, want) {
		return fmt.Errorf("the ledger is %+v, by the model %+v", s.Ranks, want)
	}
	if s.Requests != len(m.there) || s.Queued != queued || b.Ranks() != len(m.ranks) {
		return fmt.Errorf("%d requests, %d queued, by the model %d and %d", s.Requests, s.Queued, len(m.there), queued)
	}
	return nil
}

// same reports whether an error is of a kind, and well made.
func same(err, kind error) bool {
	var e *prefill.Error
	return kind == nil && err == nil || kind != nil && errors.Is(err, kind) && errors.As(err, &e) && e.Field != "" && e.Detail != ""
}
