package prefill

import "math"

// RankState is where a rank is in its life. Every state can be left: Drain takes a
// rank out of service, Restore back into it, Dead says that it is gone with all that
// it held, and Resize ends the last ranks and makes new ones.
type RankState uint8

const (
	Gone    RankState = iota // there is no such rank
	Serving                  // it takes new requests
	Drained                  // it takes none; what runs on it runs on
	Dead                     // it holds nothing and takes nothing
)

// rank is a rank's ledger.
type rank struct {
	state RankState
	open  bool // it takes new requests
	speed float64
	maxKV int64 // 0 = no limit

	work      Work // of its requests, less what Step has given out
	requests  int
	started   []int32 // by Step and unfinished, oldest first
	added     []int32
	kv        int64 // tokens of all of them, in full
	startedKV int64 // tokens of the started

	// What Add goes by beside work.
	others   Work // the last report less the ledger as of its version
	seen     Work
	version  uint64
	heard    bool   // it has reported
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
	b.live, b.power, b.roomiest, b.limited = 0, 0, 0, false
	for g := range b.ranks {
		k := &b.ranks[g]
		k.open = k.state == Serving && k.speed > 0
		if k.open {
			b.live++
			b.power += k.speed
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

func (b *Balancer) checkRank(g int) error {
	if g < 0 || g >= len(b.ranks) {
		return bad(ErrValue, "rank", -1, "%d of %d", g, len(b.ranks))
	}
	return nil
}

// Drain takes a rank out of service: nothing new is placed on it; what runs on
// it runs on. Doing it twice is no error. Errors: ErrValue; ErrState for a dead
// rank. O(ranks), and O(requests in the queue) where caches are local.
func (b *Balancer) Drain(rank int) error {
	if err := b.checkRank(rank); err != nil {
		return err
	}
	if b.ranks[rank].state == Dead {
		return bad(ErrState, "rank", -1, "rank %d is dead", rank)
	}
	b.become(rank, Drained)
	return nil
}

// Restore puts a rank that is drained or dead back into service. Doing it twice is
// no error. Errors: ErrValue. It costs what Drain does.
func (b *Balancer) Restore(rank int) error {
	if err := b.checkRank(rank); err != nil {
		return err
	}
	b.become(rank, Serving)
	return nil
}

// become changes a rank's state, and with it which caches count.
func (b *Balancer) become(g int, s RankState) {
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
		if q := &b.requests[i]; q.local && q.on(g) > 0 {
			b.recache(q)
		}
	}
}

// RankStats is a rank's ledger.
type RankStats struct {
	State    RankState
	Requests int   // on it: added, or started and not ended by Step
	Work     Work  // theirs, less what Step has given out
	KV       int64 // their tokens, in full
	Capacity int64 // tokens it holds; 0 = no limit
	Over     int64 // tokens above its capacity
}

// Rank returns the ledger of a rank; of one that does not exist, the zero
// RankStats.
func (b *Balancer) Rank(rank int) RankStats {
	if rank < 0 || rank >= len(b.ranks) {
		return RankStats{}
	}
	k := &b.ranks[rank]
	return RankStats{k.state, k.requests, k.work, k.kv, k.maxKV, max(0, k.kv-k.room())}
}

// Ranks returns how many ranks the unit has, in service or not.
func (b *Balancer) Ranks() int { return len(b.ranks) }

// Queued returns how many requests wait to be started by Step.
func (b *Balancer) Queued() int { return len(b.queue) - b.holes }
