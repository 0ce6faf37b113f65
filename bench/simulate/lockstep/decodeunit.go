package lockstep

// wheelSize is how many ticks ahead a request's end is told apart; later ones
// pass by and stay.
const wheelSize = 1 << 12

// DecodeUnit is one unit that generates tokens, one a request and tick.
type DecodeUnit struct {
	KV, N []int64 // tokens and requests, by rank
	Total int64   // requests
	ticks int64   // tokens that a request would have got since the start
	all   *[]Request
	first []int32 // the requests of a rank, latest first; -1 = none
	wheel []int32 // requests by the tick in which they end, modulo its length
}

// NewDecodeUnit returns an empty unit for some of the requests.
func NewDecodeUnit(ranks int, all *[]Request) DecodeUnit {
	u := DecodeUnit{KV: make([]int64, ranks), N: make([]int64, ranks), all: all, first: make([]int32, ranks), wheel: make([]int32, wheelSize)}
	for _, list := range [2][]int32{u.first, u.wheel} {
		for i := range list {
			list[i] = -1
		}
	}
	return u
}

// Latest is the request that came to a rank last; -1 = none.
func (u *DecodeUnit) Latest(rank int) int32 { return u.first[rank] }

// Join lets a request run from now on.
func (u *DecodeUnit) Join(id int32, rank int) {
	q := &(*u.all)[id]
	q.ends = u.ticks + int64(q.Output-q.Made)
	at := &u.wheel[q.ends%wheelSize]
	q.ring, *at = *at, id
	u.Total++
	u.enter(id, rank)
}

// Tick gives every request a token and appends those whose last it was, which leave.
func (u *DecodeUnit) Tick(ended []int32) []int32 {
	u.ticks++
	for r, n := range u.N {
		u.KV[r] += n
	}
	at := &u.wheel[u.ticks%wheelSize]
	id := *at
	*at = -1
	for id >= 0 {
		q := &(*u.all)[id]
		next := q.ring
		if q.ends != u.ticks {
			q.ring, *at = *at, id
		} else {
			u.Total--
			u.leave(q)
			ended = append(ended, id)
		}
		id = next
	}
	return ended
}

// Remove takes a request off that has not ended; what it has generated stays its.
func (u *DecodeUnit) Remove(id int32) {
	q := &(*u.all)[id]
	at := &u.wheel[q.ends%wheelSize]
	for *at != id {
		at = &(*u.all)[*at].ring
	}
	*at = q.ring
	u.Total--
	u.leave(q)
}

// Move lets a request that runs go on on another rank.
func (u *DecodeUnit) Move(id int32, rank int) {
	u.leave(&(*u.all)[id])
	u.enter(id, rank)
}

// enter puts a request first on a rank's list.
func (u *DecodeUnit) enter(id int32, rank int) {
	q := &(*u.all)[id]
	q.Rank, q.prev, q.next = int32(rank), -1, u.first[rank]
	if q.next >= 0 {
		(*u.all)[q.next].prev = id
	}
	u.first[rank] = id
	u.KV[rank] += q.KV()
	u.N[rank]++
}

// leave takes a request off its rank's list, and notes what it has generated.
func (u *DecodeUnit) leave(q *Request) {
	q.Made = q.Output - int32(q.ends-u.ticks)
	u.KV[q.Rank] -= q.KV()
	u.N[q.Rank]--
	if q.prev >= 0 {
		(*u.all)[q.prev].next = q.next
	} else {
		u.first[q.Rank] = q.next
	}
	if q.next >= 0 {
		(*u.all)[q.next].prev = q.prev
	}
	q.Rank = -1
}
