package simulate

import (
	"errors"
	"fmt"
	"slices"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// arrive lets the pending request enter.
func (s *sim) arrive() {
	q := &s.pending
	var id int32
	if n := len(s.free); n > 0 {
		id, s.free = s.free[n-1], s.free[:n-1]
	} else {
		id = int32(len(s.flights))
		s.flights = append(s.flights, flight{})
	}
	s.flights[id] = flight{arrival: s.now, prompt: int32(q.Input), input: int32(q.Input), output: int32(q.Output), blocks: q.Blocks, copy: q.Copy, rank: -1, next: -1, prev: -1, wheel: -1}
	if s.record != nil || s.played != nil {
		s.flights[id].came = int32(len(s.arrived))
		s.arrived = append(s.arrived, id)
	}
	s.count.entered.requests++
	s.count.entered.input += int64(q.Input)
	s.count.entered.output += int64(q.Output)
	s.inFlight++
	s.queued++
	s.peak = max(s.peak, s.inFlight)
	if s.fault == dropRequest && s.count.entered.requests == 100 {
		return
	}
	if s.DecodeOnly {
		s.count.computed += int64(s.flights[id].input)
		s.firstToken(id)
		s.toDecode(id)
		return
	}
	s.toPrefill(id)
}

// hit is how many tokens of a request's prompt the store holds; the last one is
// always computed.
func (s *sim) hit(f *flight) int32 {
	n := 0
	if f.blocks != nil {
		n = min(s.store.Match(f.blocks, f.copy)*s.BlockTokens, int(f.prompt)-1)
	} else if s.Hit > 0 {
		// Two of three requests go on from an earlier one, of which most is cached.
		s.draw += 0x9e3779b97f4a7c15 // splitmix64
		x := s.draw
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
		goOn := max(.65, s.Hit)
		if float64(x>>11)/(1<<53) < goOn {
			n = min(int(float64(f.prompt)*s.Hit/goOn), int(f.prompt)-1)
		}
	}
	return int32(max(n, 0))
}

// toPrefill hands a request to the prefill balancers: of units, then of ranks.
func (s *sim) toPrefill(id int32) {
	f := &s.flights[id]
	f.cached = s.hit(f)
	f.done = f.cached
	f.prefill = int32(s.choose(0, s.Policy.Prefill.Even))
	u := s.prefill[f.prefill]
	n := int64(f.input - f.cached)
	u.holds += s.work(n, int64(f.cached))
	u.queued++
	s.count.cached += int64(f.cached)
	s.check(u.former.Enqueue(prefill.Request{ID: prefill.ID(id), Tokens: int64(f.input), Cached: int64(f.cached)}))
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
		for _, c := range u.chunks {
			id := int32(c.ID)
			f := &s.flights[id]
			u.holds -= s.work(c.Tokens, int64(f.done))
			f.done += int32(c.Tokens)
			s.count.computed += c.Tokens
			if s.fault == loseToken && s.count.computed > 1e5 {
				s.fault = 0
				s.count.computed--
			}
			if !c.Last {
				continue
			}
			u.queued--
			if f.blocks != nil {
				s.store.Add(f.blocks, f.copy)
			}
			if s.now >= s.from && s.now < s.to {
				s.measured.in += int64(f.input)
			}
			s.firstToken(id)
			s.toDecode(id)
		}
		return
	}
	u.chunks = u.former.Step(u.chunks[:0])
	if len(u.chunks) == 0 {
		u.next = never
		if u.queued == 0 {
			u.holds = 0 // what rounding left
			s.activate(&u.unitState, u.active, true)
		}
		return
	}
	seconds, computed := u.clock.seconds(u.chunks, func(c prefill.Chunk) int64 { return int64(s.flights[c.ID].done) })
	s.start(&u.unitState, seconds, computed)
}

// firstToken is what prefill ends with: the first token, or the next one after
// an eviction.
func (s *sim) firstToken(id int32) {
	f := &s.flights[id]
	f.made++
	s.count.generated++
	s.queued--
	if s.now >= s.from && s.now < s.to {
		s.measured.out++
	}
	if f.made > 1 {
		return
	}
	f.first = s.now
	if s.now >= s.from && s.now < s.to {
		s.ttft.add(s.now - f.arrival)
	}
	if c := s.cell(); c != nil {
		c.input += int64(f.input)
		c.first++
		c.waited += s.now - f.arrival
	}
}

// toDecode hands a prefilled request to the decode balancer of units; its KV
// travels over RDMA. One that has all its tokens leaves.
func (s *sim) toDecode(id int32) {
	f := &s.flights[id]
	if f.made == f.output {
		s.leave(id)
		return
	}
	kv := int64(f.input) + 1
	f.ready = s.now + int64(float64(kv*s.Decode.KVBytes())/(.9*s.Decode.GPU.RDMA)*second)
	if s.DecodeOnly {
		f.ready = s.now
	}
	s.assign(id, kv, f.ready)
}

// assign hands a request to the decode balancer of units; its KV of so many tokens
// is there from ready on.
func (s *sim) assign(id int32, kv, ready int64) {
	f := &s.flights[id]
	f.ready = ready
	f.decode = int32(s.choose(1, s.Policy.Decode.Even))
	u := s.decode[f.decode]
	u.holds += float64(kv)
	s.queued++
	u.wait = append(u.wait, id)
	if u.next == never {
		u.next = f.ready
	}
}

// kv is the tokens that a request keeps.
func (f *flight) kv() int64 { return int64(f.prompt) + int64(f.made) }

// decodeEvent ends a unit's step and starts the next.
func (s *sim) decodeEvent(u *decodeUnit) {
	if u.stepping {
		s.endDecodeStep(u)
	}
	s.place(u)
	if u.total == 0 {
		u.next = never
		if len(u.wait) > 0 {
			u.next = max(s.now+1, s.flights[u.wait[0]].ready)
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
	seconds, computed := u.clock.seconds(u.kv, u.n, u.total)
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
	u.ticks++
	over := false
	room := s.Decode.KVRoom()
	for r, n := range u.n {
		u.kv[r] += n
		over = over || u.kv[r] > room
	}
	u.placer.Step()
	u.holds += float64(u.total)
	s.count.generated += u.total
	if s.now >= s.from && s.now < s.to {
		s.measured.out += u.total
	}
	if c := s.cell(); c != nil {
		c.output += u.total
		c.observe(s, u)
	}
	// Those whose last token this was.
	slot := u.ticks % wheelSize
	id := u.wheel[slot]
	u.wheel[slot] = -1
	for id >= 0 {
		f := &s.flights[id]
		next := f.wheel
		if f.ends != u.ticks {
			f.wheel, u.wheel[slot] = u.wheel[slot], id
		} else {
			f.made = f.output
			s.remove(u, id)
			s.leave(id)
		}
		id = next
	}
	if over {
		s.evict(u, room)
	}
}

// evict sends requests whose KV no longer fits back to be prefilled again with
// what they have generated, the latest to come first.
func (s *sim) evict(u *decodeUnit, room int64) {
	for r := range u.kv {
		for u.kv[r] > room {
			s.evictions++
			s.sendBack(u, u.first[r])
		}
	}
}

// sendBack sends a request that runs back to be prefilled again with what it has
// generated.
func (s *sim) sendBack(u *decodeUnit, id int32) {
	f := &s.flights[id]
	// Out of its slot of the wheel.
	left := f.ends - u.ticks
	at := &u.wheel[f.ends%wheelSize]
	for *at != id {
		at = &s.flights[*at].wheel
	}
	*at = f.wheel
	f.made = f.output - int32(left)
	s.remove(u, id)
	s.returned++
	s.count.again += f.kv()
	f.input, f.wheel = f.prompt+f.made, -1
	s.queued++
	if s.DecodeOnly {
		s.count.computed += int64(f.input)
		s.firstToken(id)
		s.toDecode(id)
		return
	}
	s.toPrefill(id)
}

// remove takes a request off its rank, with the KV that it has there.
func (s *sim) remove(u *decodeUnit, id int32) {
	f := &s.flights[id]
	kv, r := f.kv(), int(f.rank)
	if s.fault == leakKV && s.count.left.requests == 100 {
		s.fault = 0
		kv--
	}
	u.kv[r] -= kv
	u.n[r]--
	u.total--
	u.holds -= float64(kv)
	if !s.unknown {
		s.check(u.placer.Done(decode.ID(id)))
	}
	if f.prev >= 0 {
		s.flights[f.prev].next = f.next
	} else {
		u.first[r] = f.next
	}
	if f.next >= 0 {
		s.flights[f.next].prev = f.prev
	}
	f.rank = -1
}

// place puts those that wait and whose KV has come on the unit's ranks, in order,
// as far as they fit.
func (s *sim) place(u *decodeUnit) {
	free := int64(s.MaxRequests*len(u.n)) - u.total
	if s.Concurrency > 0 {
		free = min(free, int64(s.Concurrency*float64(len(u.n)))-u.total)
	}
	s.batch = s.batch[:0]
	for _, id := range u.wait {
		if int64(len(s.batch)) >= free || s.flights[id].ready > s.now {
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
		if u.total == 0 && !slices.Contains(u.dead, true) {
			s.check(errors.New("decode policy: a request that fits is refused by an empty unit"))
			break
		}
		rest = rest[n:]
	}
	kept := taken // those that found no room go on waiting, in order
	for i := taken - 1; i >= 0; i-- {
		if id := u.wait[i]; s.flights[id].rank < 0 {
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
		s.requests = append(s.requests, decode.Request{ID: decode.ID(id), KV: f.kv(), Generated: int64(f.made)})
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
		r, kv := s.placed[i], f.kv()
		if r >= 0 && (u.dead[r] || u.kv[r]+kv > s.kvCapacity() || u.n[r] >= int64(s.MaxRequests)) {
			// Policies that do not see to it themselves.
			s.check(u.placer.Done(decode.ID(id)))
			r = -1
		}
		if r < 0 {
			full = true
			continue
		}
		f.rank, f.prev, f.next = int32(r), -1, u.first[r]
		if f.next >= 0 {
			s.flights[f.next].prev = id
		}
		u.first[r] = id
		u.kv[r] += kv
		u.n[r]++
		u.total++
		s.queued--
		f.ends = u.ticks + int64(f.output-f.made)
		slot := f.ends % wheelSize
		f.wheel, u.wheel[slot] = u.wheel[slot], id
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
	s.count.left.input += int64(f.prompt)
	s.count.left.output += int64(f.made)
	s.inFlight--
	if s.now >= s.from && s.now < s.to {
		s.measured.served++
		each := int64(0)
		switch {
		case f.first < 0 && f.output-f.cached >= enoughTokens:
			s.tpot.add(s.now / int64(f.output-f.cached))
		case f.first >= 0 && f.output > 1:
			each = (s.now - f.first) / int64(f.output-1)
			s.tpot.add(each)
		}
		if f.first >= 0 {
			s.measured.judged++
		}
		if f.first >= 0 && within(f.first-f.arrival, s.TTFT) && within(each, s.TPOT) {
			s.measured.good++
		}
	}
	f.blocks = nil
	s.free = append(s.free, id)
}
