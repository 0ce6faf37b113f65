package lockstep

import (
	"fmt"

	"github.com/moelb/moelb/prefill"
)

// PrefillUnit is one unit that computes prompts, step by step.
type PrefillUnit struct {
	Former prefill.Former
	Chunks []prefill.Chunk // of the step that runs
	Loads  []Load          // of that step, by rank
	all    *[]Request
}

// Load is what a rank computes in a step.
type Load struct {
	Tokens, Pairs int64
	Prefix        int64 // tokens before its chunks
}

// NewPrefillUnit returns an empty unit for some of the requests.
func NewPrefillUnit(ranks int, all *[]Request) PrefillUnit {
	return PrefillUnit{Loads: make([]Load, ranks), all: all}
}

// Begin forms a step, which may be empty. Requests whose first chunk it has start on
// its rank. Its error is that of a former that places what it has not, or twice.
func (u *PrefillUnit) Begin(start func(id int32, rank int)) error {
	u.Chunks = u.Former.Step(u.Chunks[:0])
	clear(u.Loads)
	for _, c := range u.Chunks {
		q := &(*u.all)[c.ID]
		if q.Rank < 0 {
			q.Rank = int32(c.Rank)
			start(int32(c.ID), c.Rank)
		}
		if left := int64(q.Input - q.Done); q.Rank != int32(c.Rank) || c.Tokens < 1 || c.Tokens > left || c.Last != (c.Tokens == left) {
			return fmt.Errorf("prompt %d on rank %d has %d tokens left: %+v", c.ID, q.Rank, left, c)
		}
		l := &u.Loads[c.Rank]
		l.Tokens += c.Tokens
		l.Prefix += int64(q.Done)
		l.Pairs += prefill.WorkOf(c.Tokens, int64(q.Done)).Pairs
	}
	return nil
}

// End counts a step's tokens as computed and calls each with every chunk and what was
// done of its request before. A request whose last one it was waits anew.
func (u *PrefillUnit) End(each func(c prefill.Chunk, before int64)) {
	for _, c := range u.Chunks {
		q := &(*u.all)[c.ID]
		before := int64(q.Done)
		q.Done += int32(c.Tokens)
		if c.Last {
			q.Rank = -1
		}
		each(c, before)
	}
}
