package decode

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

const snapshotMagic = "moelb decode 1\n"

// AppendSnapshot appends the whole state to dst: FromSnapshot makes a balancer of
// it that decides exactly as this one. The same state gives the same bytes.
func (b *Balancer) AppendSnapshot(dst []byte) []byte {
	start := len(dst)
	e := snapshotWriter{append(dst, snapshotMagic...)}
	c := &b.cfg
	e.ints(int64(c.Ranks), int64(c.KVCapacity), int64(c.MaxRequests), int64(c.Output), int64(c.Routers), int64(c.Router))
	e.floats(c.Cost.KV, c.Cost.Request, c.Cost.Step, c.Link)
	e.ints(b.clock, int64(len(b.requests)))
	for i := range b.requests {
		e.ints(int64(b.requests[i].generation))
	}
	for g := range b.ranks {
		k := &b.ranks[g]
		r := &k.reported
		e.ints(int64(k.state), b.base[g], k.width, int64(r.placed), int64(r.finished), int64(r.seenPlaced), int64(r.seenFinished), int64(len(r.gone)))
		for _, q := range r.gone {
			e.ints(q.base, int64(q.width), int64(q.placed), int64(q.finished))
		}
		e.ints(int64(len(k.members)))
		for _, i := range k.members {
			q := &b.requests[i]
			told := int64(0)
			if q.told {
				told = 1
			}
			e.ints(int64(i), int64(q.width), q.base, q.born, q.start, q.output, told, int64(q.placed))
		}
	}
	for _, i := range b.free {
		e.ints(int64(i))
	}
	for _, s := range [...]*tally{&b.learned, &b.prompts} {
		e.ints(s.count[:]...)
		e.ints(s.sum[:]...)
	}
	return binary.LittleEndian.AppendUint32(e.b, crc32.ChecksumIEEE(e.b[start:]))
}

type snapshotWriter struct{ b []byte }

func (e *snapshotWriter) ints(ns ...int64) {
	for _, n := range ns {
		e.b = binary.AppendVarint(e.b, n)
	}
}

func (e *snapshotWriter) floats(xs ...float64) {
	for _, x := range xs {
		e.b = binary.LittleEndian.AppendUint64(e.b, math.Float64bits(x))
	}
}

// FromSnapshot returns the balancer whose state AppendSnapshot wrote. Errors:
// ErrSnapshot.
func FromSnapshot(data []byte) (*Balancer, error) {
	n := len(data) - 4
	if n < len(snapshotMagic) || string(data[:len(snapshotMagic)]) != snapshotMagic {
		return nil, errorf(ErrSnapshot, "state", -1, "it does not start like one")
	}
	if crc32.ChecksumIEEE(data[:n]) != binary.LittleEndian.Uint32(data[n:]) {
		return nil, errorf(ErrSnapshot, "state", -1, "its checksum is wrong")
	}
	d := snapshotReader{b: data[len(snapshotMagic):n]}
	b := d.balancer()
	if d.bad || len(d.b) > 0 {
		return nil, errorf(ErrSnapshot, "state", -1, "its figures contradict each other")
	}
	return b, nil
}

// snapshotReader reads figures; bad = one was missing or out of its range, and all
// that follow are 0.
type snapshotReader struct {
	b   []byte
	bad bool
}

func (d *snapshotReader) int(least, most int64) int64 {
	if d.bad {
		return 0
	}
	x, n := binary.Varint(d.b)
	if n <= 0 || x < least || x > most {
		d.bad = true
		return 0
	}
	d.b = d.b[n:]
	return x
}

// length reads the length of a list whose items take at least a byte each.
func (d *snapshotReader) length(most int) int {
	return int(d.int(0, int64(min(most, len(d.b)))))
}

func (d *snapshotReader) float() float64 {
	if d.bad || len(d.b) < 8 {
		d.bad = true
		return 0
	}
	x := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
	d.b = d.b[8:]
	return x
}

const (
	mostSteps = 1 << 48 // steps a unit makes in its life: at 1 ms each, 8,900 years
	mostBase  = 1 << 62
)

func (d *snapshotReader) balancer() *Balancer {
	b := &Balancer{}
	c := &b.cfg
	c.Ranks = int(d.int(1, MaxRanks))
	c.KVCapacity, c.MaxRequests, c.Output = int(d.int(0, math.MaxInt)), int(d.int(0, math.MaxInt32)), int(d.int(0, math.MaxInt32))
	c.Routers, c.Router = int(d.int(0, MaxRanks)), int(d.int(0, MaxRanks))
	c.Cost.KV, c.Cost.Request, c.Cost.Step, c.Link = d.float(), d.float(), d.float(), d.float()
	b.clock = d.int(0, mostSteps)
	n := d.length(math.MaxInt32)
	if d.bad || c.check() != nil {
		d.bad = true
		return nil
	}
	b.requests = make([]request, n)
	for i := range b.requests {
		b.requests[i] = request{rank: -1, generation: uint32(d.int(0, math.MaxUint32))}
	}
	if c.Ranks > len(d.b) {
		d.bad = true
		return nil
	}
	b.ranks, b.base = make([]rank, c.Ranks), make([]int64, c.Ranks)
	running := 0
	for g := range b.ranks {
		running += d.rank(b, g)
	}
	if d.bad {
		return nil
	}
	b.free = make([]int32, n-running)
	for j := range b.free {
		i := int32(d.int(0, int64(n)-1))
		if d.bad || b.requests[i].rank != -1 {
			d.bad = true
			return nil
		}
		b.free[j] = i
		b.requests[i].rank = -2
	}
	for _, i := range b.free {
		b.requests[i].rank = -1
	}
	d.tally(&b.learned)
	d.tally(&b.prompts)
	if d.bad {
		return nil
	}
	b.long = b.prompts.top(long)
	b.size(c.Ranks)
	return b
}

func (d *snapshotReader) tally(s *tally) {
	for i := range s.count {
		s.count[i] = d.int(0, memory)
		s.all += s.count[i]
	}
	for i := range s.sum {
		s.sum[i] = d.int(0, memory*MaxTokens)
		s.total += s.sum[i]
		if n := s.count[i]; n > 0 && (s.sum[i] < n || tallyBin(s.sum[i]/n) != i) || n == 0 && s.sum[i] > 0 {
			d.bad = true
		}
	}
	d.bad = d.bad || s.all >= memory
}

// rank reads a rank and what it runs, and returns how many requests those are.
func (d *snapshotReader) rank(b *Balancer, g int) int {
	k := &b.ranks[g]
	k.state = rankState(d.int(0, int64(dead)))
	b.base[g] = d.int(-mostBase, mostBase)
	k.width = d.int(0, MaxTokens*MaxWidth)
	r := &k.reported
	r.placed = uint64(d.int(0, math.MaxInt64))
	r.finished = uint64(d.int(0, int64(r.placed)))
	r.seenPlaced = uint64(d.int(0, int64(r.placed)))
	r.seenFinished = uint64(d.int(0, int64(r.seenPlaced)))
	for range d.length(remembered) {
		r.gone = append(r.gone, gone{d.int(-mostBase, mostBase), int32(d.int(1, MaxWidth)), uint64(d.int(0, int64(r.placed))), uint64(d.int(0, int64(r.finished)))})
	}
	base, width := int64(0), int64(0)
	n := d.length(len(b.requests))
	for range n {
		i := int32(d.int(0, int64(len(b.requests))-1))
		if d.bad || b.requests[i].rank != -1 || b.requests[i].generation == 0 {
			d.bad = true
			return 0
		}
		q := &b.requests[i]
		*q = request{
			generation: q.generation, rank: int32(g), at: int32(len(k.members)), width: int32(d.int(1, MaxWidth)), base: d.int(-mostBase, mostBase),
			born: d.int(0, b.clock), start: d.int(0, MaxTokens), output: d.int(0, MaxTokens), told: d.int(0, 1) == 1, placed: uint64(d.int(0, int64(r.placed))),
		}
		if kv := q.kv(b.clock); kv < 0 || kv > mostBase {
			d.bad = true
			return 0
		}
		k.members = append(k.members, i)
		k.outputs += q.output
		base += q.base
		width += int64(q.width)
	}
	if b.cfg.Routers == 0 && (base != b.base[g] || width != k.width) || k.state == dead && n > 0 {
		d.bad = true
	}
	return n
}
