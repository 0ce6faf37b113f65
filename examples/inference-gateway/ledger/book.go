package ledger

import (
	"container/list"
	"time"
)

// held is what one request holds.
type held struct {
	key   any
	rank  int
	id    uint64 // its name in the balancer
	since time.Time
	sent  bool
}

// book keeps what requests hold, those that were placed and not yet sent apart
// from the others, each in order of time.
type book struct {
	at           map[any]*list.Element
	placed, sent list.List // of *held
}

func newBook() book { return book{at: map[any]*list.Element{}} }

func (b *book) add(h *held) { b.at[h.key] = b.placed.PushBack(h) }

// send notes that a request is on its way.
func (b *book) send(key any, now time.Time) {
	if e := b.at[key]; e != nil && !e.Value.(*held).sent {
		h := b.placed.Remove(e).(*held)
		h.sent, h.since = true, now
		b.at[key] = b.sent.PushBack(h)
	}
}

// take forgets a request and returns what it held; nil = nothing.
func (b *book) take(key any) *held {
	e := b.at[key]
	if e == nil {
		return nil
	}
	delete(b.at, key)
	h := e.Value.(*held)
	if h.sent {
		b.sent.Remove(e)
	} else {
		b.placed.Remove(e)
	}
	return h
}

// all yields all that is held.
func (b *book) all(yield func(*held) bool) {
	for _, l := range [...]*list.List{&b.placed, &b.sent} {
		for e := l.Front(); e != nil; e = e.Next() {
			if !yield(e.Value.(*held)) {
				return
			}
		}
	}
}

// unsentAge is how long a request may take from its pick until it is sent. Nothing
// waits between the two, so what takes longer was given up.
const unsentAge = 10 * time.Second

// overdue returns a request that has been held for too long; nil = none.
func (b *book) overdue(now time.Time, most time.Duration) *held {
	if e := b.placed.Front(); e != nil && now.Sub(e.Value.(*held).since) > unsentAge {
		return e.Value.(*held)
	}
	if e := b.sent.Front(); e != nil && now.Sub(e.Value.(*held).since) > most {
		return e.Value.(*held)
	}
	return nil
}
