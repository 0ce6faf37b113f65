package simulate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// arrive lets the pending request enter: into a prefill unit, or where these have as
// many as they hold into the API server's queue.
func (s *sim) arrive() {
	q := waiting{s.now, s.pending.Blocks, s.pending.Copy, int32(s.pending.Input), int32(s.pending.Output)}
	s.count.entered.requests++
	s.count.entered.input += int64(q.input)
	s.count.entered.output += int64(q.output)
	s.inFlight++
	s.queued++
	s.peak = max(s.peak, s.inFlight)
	if s.fault == dropRequest && s.count.entered.requests == 100 {
		return
	}
	s.held.put(q)
	s.enter()
}

// heldByRank is how many prompts prefill units hold for each of their ranks; what
// comes beyond waits before them, at a third of the memory.
const heldByRank = 256

// enter lets those that wait into units, in order.
func (s *sim) enter() {
	for s.held.len() > 0 && (s.DecodeOnly || s.prompts < int64(heldByRank*s.Prefill.Groups()*s.Plan[s.plan].Fleet.Prefill)) {
		q := s.held.take()
		var id int32
		if n := len(s.free); n > 0 {
			id, s.free = s.free[n-1], s.free[:n-1]
		} else {
			id = int32(len(s.flights))
			s.flights = append(s.flights, lockstep.Request{})
		}
		s.flights[id] = lockstep.Request{Arrival: q.arrival, Prompt: q.input, Input: q.input, Output: q.output, Blocks: q.blocks, Copy: q.copy, Rank: -1}
		if s.record != nil || s.played != nil {
			s.flights[id].Came = int32(len(s.arrived))
			s.arrived = append(s.arrived, id)
		}
		s.begin(id)
	}
}

// begin sends a request to prefill, or where there is none to decode at once.
func (s *sim) begin(id int32) {
	if !s.DecodeOnly {
		s.toPrefill(id)
		return
	}
	s.count.computed += int64(s.flights[id].Input)
	s.firstToken(id)
	s.toDecode(id)
}

// waiting is a request that no unit holds yet.
type waiting struct {
	arrival       int64
	blocks        []int64
	copy          int64
	input, output int32
}

// queue is requests that wait, in order.
type queue struct {
	all   []waiting
	taken int // of all
}

func (q *queue) len() int { return len(q.all) - q.taken }

func (q *queue) put(w waiting) {
	if len(q.all) == cap(q.all) && q.taken >= len(q.all)/4 {
		q.all, q.taken = append(q.all[:0], q.all[q.taken:]...), 0
	}
	q.all = append(q.all, w)
}

func (q *queue) take() waiting {
	q.taken++
	return q.all[q.taken-1]
}

// hit is how many tokens of a request's prompt the store holds; the last one is
// always computed.
func (s *sim) hit(f *lockstep.Request) int32 {
	n := 0
	if f.Blocks != nil {
		n = min(s.store.Match(f.Blocks, f.Copy)*s.BlockTokens, int(f.Prompt)-1)
	} else if s.Hit > 0 {
		// Two of three requests go on from an earlier one, of which most is cached.
		s.draw += 0x9e3779b97f4a7c15 // splitmix64
		x := s.draw
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
		goOn := max(.65, s.Hit)
		if float64(x>>11)/(1<<53) < goOn {
			n = min(int(float64(f.Prompt)*s.Hit/goOn), int(f.Prompt)-1)
		}
	}
	return int32(max(n, 0))
}

// toPrefill hands a request to the prefill balancers: of units, then of ranks.
func (s *sim) toPrefill(id int32) {
	f := &s.flights[id]
	f.Cached = s.hit(f)
	f.Done = f.Cached
	f.Prefill = int32(s.choose(0, s.Policy.Prefill.Even))
	u := s.prefill[f.Prefill]
	n := int64(f.Input - f.Cached)
	u.holds += s.work(n, int64(f.Cached))
	u.queued++
	s.prompts++
	s.count.cached += int64(f.Cached)
	s.check(u.Former.Enqueue(prefill.Request{ID: prefill.ID(id), Tokens: int64(f.Input), Cached: int64(f.Cached)}))
	if u.next == never {
		u.next = s.now
	}
}

// work is the seconds of one rank that n new tokens after p take.
func (s *sim) work(n, p int64) float64 {
	return float64(s.cost.Pair*float64(prefill.WorkOf(n, p).Pairs)) + float64(s.cost.Token*float64(n))
}

// check keeps a policy's first error.
func (s *sim) check(err error) {
	if s.failed == nil {
		s.failed = err
	}
}

// prefillEvent ends a unit's step, or starts the next: between the two enter
// those that the API server held, who find room where prompts have left.
func (s *sim) prefillEvent(u *prefillUnit) {
	if u.stepping {
		u.stepping, u.next = false, s.now
		u.End(func(c prefill.Chunk, before int64) { s.computed(u, c, before) })
		s.enter()
		return
	}
	s.check(u.Begin(func(int32, int) {}))
	if len(u.Chunks) == 0 {
		u.next = never
		if u.queued == 0 {
			u.holds = 0 // what rounding left
			s.activate(&u.unitState, u.active, true)
		}
		return
	}
	seconds, computed := u.clock.seconds(u.Loads)
	s.start(&u.unitState, seconds, computed)
}

// computed is what a chunk's end brings about.
func (s *sim) computed(u *prefillUnit, c prefill.Chunk, before int64) {
	id := int32(c.ID)
	u.holds -= s.work(c.Tokens, before)
	s.count.computed += c.Tokens
	if s.fault == loseToken && s.count.computed > 1e5 {
		s.fault = 0
		s.count.computed--
	}
	if !c.Last {
		return
	}
	u.queued--
	s.prompts--
	f := &s.flights[id]
	if f.Blocks != nil {
		s.store.Add(f.Blocks, f.Copy)
	}
	if s.now >= s.from && s.now < s.to {
		s.measured.in += int64(f.Input)
	}
	s.firstToken(id)
	s.toDecode(id)
}

// firstToken is what prefill ends with: the first token, or the next one after
// an eviction.
func (s *sim) firstToken(id int32) {
	f := &s.flights[id]
	f.Made++
	s.count.generated++
	s.queued--
	if s.now >= s.from && s.now < s.to {
		s.measured.out++
	}
	if f.Made > 1 {
		return
	}
	f.First = s.now
	if s.now >= s.from && s.now < s.to {
		s.ttft.add(s.now - f.Arrival)
	}
	if c := s.cell(); c != nil {
		c.input += int64(f.Input)
		c.first++
		c.waited += s.now - f.Arrival
	}
}

// toDecode hands a prefilled request to the decode balancer of units; its KV
// travels over RDMA. One that has all its tokens leaves.
func (s *sim) toDecode(id int32) {
	f := &s.flights[id]
	if f.Made == f.Output {
		s.leave(id)
		return
	}
	kv := int64(f.Input) + 1
	f.Ready = s.now + int64(float64(kv*s.Decode.KVBytes())/(.9*s.Decode.GPU.RDMA)*second)
	if s.DecodeOnly {
		f.Ready = s.now
	}
	s.assign(id, kv, f.Ready)
}

// assign hands a request to the decode balancer of units; its KV of so many tokens
// is there from ready on.
func (s *sim) assign(id int32, kv, ready int64) {
	f := &s.flights[id]
	f.Ready = ready
	f.Decode = int32(s.choose(1, s.Policy.Decode.Even))
	u := s.decode[f.Decode]
	u.holds += float64(kv)
	s.queued++
	u.wait = append(u.wait, id)
	if u.next == never {
		u.next = f.Ready
	}
}

// decodeEvent ends a unit's step and starts the next.
func (s *sim) decodeEvent(u *decodeUnit) {
	if u.stepping {
		s.endDecodeStep(u)
	}
	s.place(u)
	if u.Total == 0 {
		u.next = never
		if len(u.wait) > 0 {
			u.next = max(s.now+1, s.flights[u.wait[0]].Ready)
			if slices.Contains(u.dead, true) {
				u.next = max(u.next, s.now+lookAgain)
			}
		} else {
			if u.holds != 0 {
				s.check(&ConservationError{fmt.Sprintf("an empty decode unit is taken to have %.0f tokens of KV", u.holds)})
			}
			s.activate(&u.unitState, u.active, true)
		}
		return
	}
	seconds, computed := u.clock.seconds(u.KV, u.N, u.Total)
	s.start(&u.unitState, seconds, computed)
}

// lookAgain is how long a unit with dead ranks that could place nothing waits, in ns.
const lookAgain = 100e6

// endDecodeStep gives every request of a unit the tokens of a step and lets go of
// those that have all of theirs.
func (s *sim) endDecodeStep(u *decodeUnit) {
	u.stepping = false
	// Of the tokens that a step verifies some are accepted: all requests of a unit
	// go on by as many, the fraction saved up.
	u.credit += s.perStep()
	tokens := int64(u.credit)
	u.credit -= float64(tokens)
	for range tokens {
		s.tick(u)
	}
}

// perStep is how many tokens a request generates in a step, on average.
func (s *sim) perStep() float64 { return 1 + float64(s.Acceptance*float64(s.Queries-1)) }

// tick gives every request of a unit a token.
func (s *sim) tick(u *decodeUnit) {
	u.holds += float64(u.Total)
	s.count.generated += u.Total
	if s.now >= s.from && s.now < s.to {
		s.measured.out += u.Total
	}
	s.batch = u.Tick(s.batch[:0])
	u.placer.Step()
	if c := s.cell(); c != nil {
		c.output += u.Total + int64(len(s.batch))
		c.observe(s, u)
	}
	for _, id := range s.batch { // those whose last token this was
		s.gone(u, id)
		s.leave(id)
	}
	s.evict(u)
}

// gone tells a unit's balancer that a request is no longer there.
func (s *sim) gone(u *decodeUnit, id int32) {
	kv := s.flights[id].KV()
	if s.fault == leakKV && s.count.left.requests == 100 {
		s.fault = 0
		u.KV[0]++
	}
	u.holds -= float64(kv)
	if !s.unknown {
		s.check(u.placer.Done(decode.ID(id)))
	}
}

// evict sends requests whose KV no longer fits back to be prefilled again with
// what they have generated, the latest to come first.
func (s *sim) evict(u *decodeUnit) {
	room := s.Decode.KVRoom()
	for r := range u.KV {
		for u.KV[r] > room {
			s.evictions++
			s.sendBack(u, u.Latest(r))
		}
	}
}

// sendBack sends a request that runs back to be prefilled again with what it has
// generated.
func (s *sim) sendBack(u *decodeUnit, id int32) {
	u.Remove(id)
	s.gone(u, id)
	f := &s.flights[id]
	s.returned++
	s.count.again += f.KV()
	f.Input = f.Prompt + f.Made
	s.queued++
	s.begin(id)
}

// place puts those that wait and whose KV has come on the unit's ranks, in order,
// as far as they fit.
func (s *sim) place(u *decodeUnit) {
	free := int64(s.MaxRequests*len(u.N)) - u.Total
	if s.Concurrency > 0 {
		free = min(free, int64(s.Concurrency*float64(len(u.N)))-u.Total)
	}
	s.batch = s.batch[:0]
	for _, id := range u.wait {
		if int64(len(s.batch)) >= free || s.flights[id].Ready > s.now {
			break
		}
		s.batch = append(s.batch, id)
	}
	if len(s.batch) == 0 {
		return
	}
	taken := len(s.batch)
	full := false
	for rest := s.batch; len(rest) > 0 && !full; {
		n := min(len(rest), placedAtOnce)
		full = s.placeSome(u, rest[:n])
		if u.Total == 0 && !slices.Contains(u.dead, true) {
			s.check(errors.New("decode policy: a request that fits is refused by an empty unit"))
			break
		}
		rest = rest[n:]
	}
	kept := taken // those that found no room go on waiting, in order
	for i := taken - 1; i >= 0; i-- {
		if id := u.wait[i]; s.flights[id].Rank < 0 {
			kept--
			u.wait[kept] = id
		}
	}
	u.wait = u.wait[kept:]
}

// placedAtOnce is how many requests are placed jointly; once some of them find no
// room, the others wait for the next step.
const placedAtOnce = 64

// placeSome asks where requests run, puts them there, and reports whether some
// found no room. The policy does not know how much they will generate.
func (s *sim) placeSome(u *decodeUnit, ids []int32) (full bool) {
	s.requests = s.requests[:0]
	for _, id := range ids {
		f := &s.flights[id]
		s.requests = append(s.requests, decode.Request{ID: decode.ID(id), KV: f.KV(), Generated: int64(f.Made)})
	}
	var err error
	if s.placed, err = u.placer.Batch(s.placed[:0], s.requests); err != nil {
		s.check(err)
		return true
	}
	if len(s.placed) != len(ids) {
		s.check(errors.New("decode policy: requests are missing"))
		return true
	}
	for i, id := range ids {
		f := &s.flights[id]
		r, kv := s.placed[i], f.KV()
		if r >= 0 && (u.dead[r] || u.KV[r]+kv > s.kvCapacity() || u.N[r] >= int64(s.MaxRequests)) {
			// Policies that do not see to it themselves.
			s.check(u.placer.Done(decode.ID(id)))
			r = -1
		}
		if r < 0 {
			full = true
			continue
		}
		u.Join(id, r)
		s.queued--
	}
	return full
}

// enoughTokens is how many tokens a request that ran before the run must have
// generated in it for its pace to count.
const enoughTokens = 64

// within says whether a time keeps an aim; 0 = there is none.
func within(ns int64, aim float64) bool { return aim == 0 || float64(ns) <= aim*second }

// leave lets a request go.
func (s *sim) leave(id int32) {
	f := &s.flights[id]
	if s.fault == twice && s.count.left.requests == 100 {
		s.count.left.requests++
	}
	s.count.left.requests++
	s.count.left.input += int64(f.Prompt)
	s.count.left.output += int64(f.Made)
	s.inFlight--
	if s.now >= s.from && s.now < s.to {
		s.measured.served++
		each := int64(0)
		switch {
		case f.First < 0 && f.Output-f.Cached >= enoughTokens:
			s.tpot.add(s.now / int64(f.Output-f.Cached))
		case f.First >= 0 && f.Output > 1:
			each = (s.now - f.First) / int64(f.Output-1)
			s.tpot.add(each)
		}
		if f.First >= 0 {
			s.measured.judged++
		}
		if f.First >= 0 && within(f.First-f.Arrival, s.TTFT) && within(each, s.TPOT) {
			s.measured.good++
		}
	}
	f.Blocks = nil
	s.free = append(s.free, id)
}
