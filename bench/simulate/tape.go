package simulate

import (
	"errors"

	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/prefill"
)

// tape is the steps of a run's prefill units. Where no request returns from decode
// they do not depend on what decode does: a run on the same requests, with another
// decode policy, plays them in place of forming them anew.
type tape struct {
	units []unitTape
	full  bool // longer than is kept
	kept  int
}

// unitTape is one unit's steps: chunks whose ID is how many requests had arrived
// before theirs.
type unitTape struct {
	chunks []prefill.Chunk
	ends   []int // of the steps, in chunks
}

// mostTaped bounds the chunks that a tape keeps: 40 MB.
const mostTaped = 1 << 20

// errReturned says that a tape does not fit the run: a request came back to prefill.
var errReturned = errors.New("a request returned to prefill under a tape")

// recorder forms steps by a policy and keeps them.
type recorder struct {
	prefill.Former
	sim  *sim
	unit int
}

// Step forms the next step.
func (r *recorder) Step(dst []prefill.Chunk) []prefill.Chunk {
	from := len(dst)
	dst = r.Former.Step(dst)
	t := r.sim.record
	if t.kept += len(dst) - from; t.kept > mostTaped {
		t.units, t.full = nil, true
	}
	if t.full {
		return dst
	}
	for r.unit >= len(t.units) {
		t.units = append(t.units, unitTape{})
	}
	u := &t.units[r.unit]
	for _, c := range dst[from:] {
		c.ID = prefill.ID(r.sim.flights[c.ID].Came)
		u.chunks = append(u.chunks, c)
	}
	u.ends = append(u.ends, len(u.chunks))
	return dst
}

// tapes are those of the runs of a study, by what prefill depends on.
type tapes map[tapeKey]*tape

type tapeKey struct {
	prefill string
	experts experts.Policy
}

// run simulates c on the requests of a traffic, with the tape of an earlier run where
// there is one that fits.
func (t tapes) run(c Config, traffic Traffic, rate float64) (Result, error) {
	if c.Backlog > 0 || len(c.Failures) > 0 {
		return Run(c, traffic.New(rate)) // prefill depends on decode
	}
	key := tapeKey{c.Policy.Prefill.Name, c.Policy.Experts}
	if c.played = t[key]; c.played != nil {
		r, err := Run(c, traffic.New(rate))
		if !errors.Is(err, errReturned) {
			return r, err
		}
		c.played = nil
	}
	c.record = &tape{}
	r, err := Run(c, traffic.New(rate))
	if err == nil && !c.record.full && r.Returned == 0 {
		t[key] = c.record
	}
	return r, err
}

// player is the tape of one unit.
func (t *tape) player(s *sim, unit int) *player {
	p := &player{sim: s, unit: &unitTape{}}
	if unit < len(t.units) {
		p.unit = &t.units[unit]
	}
	return p
}

// player plays a unit's tape.
type player struct {
	sim        *sim
	unit       *unitTape
	step, next int
}

// Enqueue takes a request whose chunks the tape has.
func (p *player) Enqueue(r prefill.Request) error {
	if p.sim.returned > 0 {
		return errReturned
	}
	return nil
}

// Done cancels nothing: every prompt is computed to its end.
func (p *player) Done(prefill.ID) error { return errReturned }

// Step plays the next step.
func (p *player) Step(dst []prefill.Chunk) []prefill.Chunk {
	if p.step == len(p.unit.ends) {
		return dst
	}
	for ; p.next < p.unit.ends[p.step]; p.next++ {
		c := p.unit.chunks[p.next]
		c.ID = prefill.ID(p.sim.arrived[c.ID])
		dst = append(dst, c)
	}
	p.step++
	return dst
}
