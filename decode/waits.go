package decode

import "github.com/moelb/moelb/internal/ledger"

// waits are the requests that the margin keeps waiting: that were refused for its sake
// and came again. Who is refused and never seen again does not wait. Of many that wait
// some are not counted.
type waits [1 << waitsBits]wait

type wait struct {
	id    ID
	at    int64 // clock when it was refused last
	again bool  // it was before, at another step
	taken bool
}

const waitsBits = 10

func (w *waits) of(id ID) *wait { return &w[uint64(id)*0x9e3779b97f4a7c15>>(64-waitsBits)] }

// refused takes in that a request was. The place of one that was not since the clock
// stood at stale is free.
func (w *waits) refused(id ID, clock, stale int64) {
	switch p := w.of(id); {
	case !p.taken || p.at < stale:
		*p = wait{id: id, at: clock, taken: true}
	case p.id == id && p.at < clock:
		p.at, p.again = clock, true
	}
}

// placed takes in that a request was.
func (w *waits) placed(id ID) {
	if p := w.of(id); p.taken && p.id == id {
		*p = wait{}
	}
}

// count is how many wait, of those that were refused since the clock stood at stale.
func (w *waits) count(stale int64) (n int64) {
	for i := range w {
		if p := &w[i]; p.taken && p.again && p.at >= stale {
			n++
		}
	}
	return n
}

func (w *waits) write(to *ledger.Writer) {
	n := 0
	for i := range w {
		if w[i].taken {
			n++
		}
	}
	to.Int(int64(n))
	for i := range w {
		if p := &w[i]; p.taken {
			to.Uint(uint64(p.id))
			to.Int(p.at)
			to.Bool(p.again)
		}
	}
}

func (w *waits) read(from *ledger.Reader, clock int64) {
	for range from.Length(len(w)) {
		q := wait{id: ID(from.Uint()), at: from.Int(0, clock), again: from.Bool(), taken: true}
		p := w.of(q.id)
		from.Fail(!p.taken)
		*p = q
	}
}
