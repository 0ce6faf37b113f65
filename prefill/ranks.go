package prefill

import (
	"math"
	"slices"
)

// State is where a rank is in its life. Every state can be left: Drain takes a
// rank out of service, Restore back into it, Dead says that it is gone with all that
// it held, and Resize ends the last ranks and makes new ones.
type State uint8

const (
	Gone     State = iota // there is no such rank
	Serving               // it takes new requests
	Draining              // it takes none; what runs on it runs on
	Dead                  // it holds nothing and takes nothing
)

// String is the state in a word.
func (s State) String() string {
	return [...]string{"gone", "serving", "draining", "dead"}[min(s, Dead)]
}

// rank is a rank's ledger.
type rank struct {
	state State
	open  bool // it takes new requests
	speed float64
	maxKV int64 // 0 = no limit

	work      Work // of its requests, less what Step has given out
	requests  int
	started   []int32 // by Step and unfinished, oldest first
	added     []int32
	kv        int64   // tokens of all of them, in full
	startedKV int64   // tokens of the started
	owed      float64 // seconds: see pack.Former.Owed

	// What Add goes by beside work.
	others   Work // the last report less the ledger as of its version
	seen     Work
	version  uint64
	heard    bool   // it has reported
	restored bool   // from a snapshot, and no report since has fitted the ledger
	epoch    uint64 // of the last report
	reported uint64
	past     []Work // the ledger at each of the last versions, in a ring
}

// room is the most tokens that the rank could hold.
func (k *rank) room() int64 {
	if k.maxKV == 0 {
		return math.MaxInt64
	}
	return k.maxKV
}

// serving brings up to date what depends on which ranks serve.
func (b *Balancer) serving() {
	b.live, b.power, b.roomiest, b.limited, b.unlike = 0, 0, 0, false, false
	speed := 0.0
	for g := range b.ranks {
		k := &b.ranks[g]
		k.open = k.state == Serving && k.speed > 0
		if k.open {
			b.live++
			b.power += k.speed
			b.unlike = b.unlike || speed > 0 && speed != k.speed
			speed = k.speed
		}
		b.roomiest = max(b.roomiest, k.room())
		b.limited = b.limited || k.maxKV > 0
		b.look(g)
	}
	if b.turn >= len(b.ranks) {
		b.turn = 0
	}
}

// turned is the i-th rank where the one whose turn it is comes first.
func (b *Balancer) turned(i int) int {
	if i += b.turn; i >= len(b.ranks) {
		i -= len(b.ranks)
	}
	return i
}

// exists is an error where there is no such rank.
func (b *Balancer) exists(field string, g int) error {
	if g < 0 || g >= len(b.ranks) {
		return bad(ErrValue, field, -1, "%d is not from 0 to %d", g, len(b.ranks)-1)
	}
	return nil
}

// Drain takes a rank out of service: nothing new is placed on it; what runs on
// it runs on. Doing it twice is no error. Errors: ErrValue; ErrState for a dead
// rank. O(ranks), and O(requests in the queue) where caches are local.
func (b *Balancer) Drain(rank int) error {
	if err := b.alive("rank", rank); err != nil {
		return err
	}
	b.become(rank, Draining)
	return nil
}

// Restore puts a rank that is drained or dead back into service. Doing it twice is
// no error. Errors: ErrValue. It costs what Drain does.
func (b *Balancer) Restore(rank int) error {
	if err := b.exists("rank", rank); err != nil {
		return err
	}
	b.become(rank, Serving)
	return nil
}

// become changes a rank's state, and with it which caches count.
func (b *Balancer) become(g int, s State) {
	k := &b.ranks[g]
	if k.state == s {
		return
	}
	k.state = s
	b.serving()
	for _, i := range b.queue {
		if i < 0 {
			continue
		}
		q := &b.requests[i]
		if q.where.Local && q.where.On(g) > 0 {
			b.recache(q)
		}
		if q.where.Pinned {
			b.rewait(i)
		}
	}
}

// Resize makes the unit so many ranks, 1 to MaxRanks. New ones serve, with the last
// one's speed and MaxKV. Those that vanish must be empty, and each request in the
// queue must have a rank left that may take it and could hold it: otherwise ErrState.
// Ranks that no longer exist are no longer among those of a request. O(ranks and
// requests).
func (b *Balancer) Resize(ranks int) error {
	if ranks < 1 || ranks > MaxRanks {
		return bad(ErrValue, "ranks", -1, "%d: from 1 to %d are needed", ranks, MaxRanks)
	}
	if len(b.ranks) == 0 {
		return bad(ErrState, "ranks", -1, "New makes the first")
	}
	for g := ranks; g < len(b.ranks); g++ {
		if n := b.ranks[g].requests; n > 0 {
			return bad(ErrState, "ranks", -1, "rank %d, which would vanish, holds %d requests", g, n)
		}
	}
	if ranks < len(b.ranks) {
		if err := b.checkShrink(ranks); err != nil {
			return err
		}
		for i := range b.requests {
			q := &b.requests[i]
			if q.where.Pinned {
				k, _ := slices.BinarySearch(q.where.Among, int32(ranks))
				q.where.Among = q.where.Among[:k]
			}
			q.where.CachedAt = q.where.CachedAt[:min(len(q.where.CachedAt), ranks)]
		}
	}
	b.forget()
	last := b.ranks[len(b.ranks)-1]
	b.resize(ranks, func(int) rank { return rank{state: Serving, speed: last.speed, maxKV: last.maxKV} })
	for _, s := range b.queue {
		if s >= 0 {
			b.recache(&b.requests[s])
			b.rewait(s)
		}
	}
	return nil
}

// checkShrink is an error where a request would be left that no rank can take.
func (b *Balancer) checkShrink(ranks int) error {
	room := int64(0)
	for g := range ranks {
		room = max(room, b.ranks[g].room())
	}
	for _, s := range b.queue {
		if s < 0 {
			continue
		}
		q := &b.requests[s]
		most := room
		if q.where.Pinned {
			most = 0
			for _, g := range q.where.Among {
				if int(g) < ranks {
					most = max(most, b.ranks[g].room())
				}
			}
		}
		if q.tokens > most {
			return bad(ErrState, "ranks", -1, "request %d of %d tokens is in the queue for ranks that would vanish", q.id, q.tokens)
		}
	}
	return nil
}
