package session

import (
	"fmt"
	"slices"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

// Session is a balancer that is spoken to in JSON. It is not safe for concurrent
// use.
type Session struct {
	unit unit
	line *line // the unit's
	ops  map[string]operation
	scan wire.Scanner
	out  wire.Encoder
}

// unit is what is particular to the sessions of one balancer.
type unit interface {
	// operations lists what a line may ask for, by its op.
	operations() map[string]operation
	// configured reports whether there is a balancer yet.
	configured() bool
	// reset forgets the fields of the line before.
	reset()
	// field reads the value of a field that the sessions do not share; s stands
	// before it.
	field(s *wire.Scanner, key string) error
	// called makes an error that tells a request by its id tell it by its name.
	called(err error) error
}

// operation is what a line asks for.
type operation struct {
	first     bool // it may come before config
	mandatory []string
	optional  []string
	// reply carries the operation out and appends its reply, one line without its
	// end. On an error nothing may have changed.
	reply func(e *wire.Encoder) error
}

// line holds what the lines of all sessions may hold.
type line struct {
	op    string
	given []string // the fields beside op, in their order
	id    string
	ranks int
	rank  int   // -1 = not given
	among []int // nil = not given
	speed []float64
	lists []list // of values, one a rank
}

// list is a field that was given as a list of so many values.
type list struct {
	key string
	n   int
}

// maxRanks is what the balancers accept at most; each checks for itself.
const maxRanks = max(prefill.MaxRanks, decode.MaxRanks)

// MaxLine bounds one line of a session, in bytes.
const MaxLine = 1 << 26

var errLongLine = fmt.Errorf("the line is longer than %d MiB", MaxLine>>20)

func newSession(u unit, l *line) *Session {
	return &Session{unit: u, line: l, ops: u.operations()}
}

// Do carries out one line and appends its reply to dst, one line without its end.
// On an error nothing has changed, and dst is returned as it was. It keeps neither
// line nor dst.
func (s *Session) Do(dst, line []byte) ([]byte, error) {
	if len(line) > MaxLine {
		return dst, errLongLine
	}
	s.out.B = dst
	s.scan.Reset(line)
	err := s.carryOut()
	reply := s.out.B
	s.scan.Reset(nil)
	s.out.B = nil
	if err != nil {
		return dst, err
	}
	return reply, nil
}

// Answer is Do that replies to a line that fails with its error.
func (s *Session) Answer(dst, line []byte) []byte {
	reply, err := s.Do(dst, line)
	if err == nil {
		return reply
	}
	e := wire.Encoder{B: dst}
	refusal(&e, err)
	return e.B
}

// carryOut reads the line and does what it asks for.
func (s *Session) carryOut() error {
	l := s.line
	*l = line{given: l.given[:0], lists: l.lists[:0], rank: -1}
	s.unit.reset()
	err := s.scan.Object("line", s.field)
	if err == nil {
		err = s.scan.Finish("line")
	}
	if err != nil {
		return err
	}
	if l.op == "" {
		return wire.Bad(placement.ErrShape, "op", -1, -1, "missing")
	}
	o, ok := s.ops[l.op]
	if !ok {
		return wire.Bad(placement.ErrValue, "op", -1, -1, "%.40q is unknown", l.op)
	}
	for _, key := range l.given {
		if !slices.Contains(o.mandatory, key) && !slices.Contains(o.optional, key) {
			return wire.Bad(placement.ErrValue, key, -1, -1, "%s has no such field", l.op)
		}
	}
	for _, key := range o.mandatory {
		if !slices.Contains(l.given, key) {
			return wire.Bad(placement.ErrShape, key, -1, -1, "missing")
		}
	}
	switch {
	case !o.first && !s.unit.configured():
		return state("op", l.op+" before config")
	case l.op == "config" && s.unit.configured():
		return state("op", "config a second time")
	}
	return s.unit.called(o.reply(&s.out))
}

// field reads one field of a line.
func (s *Session) field(key string) (err error) {
	l := s.line
	if key != "op" {
		l.given = append(l.given, key)
	}
	switch key {
	case "op":
		l.op, err = s.scan.Text(key)
	case "id":
		l.id, err = s.scan.Name(key)
	case "ranks":
		l.ranks, err = s.scan.Integer(key, 1, maxRanks)
	case "rank":
		l.rank, err = s.scan.Integer(key, 0, maxRanks)
	case "among":
		l.among, err = ranksOf(&s.scan, key)
	case "speed":
		err = l.oneOrEach(&s.scan, key, func() error {
			x, err := s.scan.Number("a relative speed", key, -1, -1)
			l.speed = append(l.speed, x)
			return err
		})
	default:
		err = s.unit.field(&s.scan, key)
	}
	return err
}

// unknown is the error for a field that no line has.
func unknown(key string) error {
	return wire.Bad(placement.ErrValue, key, -1, -1, "unknown field")
}

// ranksOf reads a list of ranks.
func ranksOf(s *wire.Scanner, key string) ([]int, error) {
	ranks := []int{}
	err := s.Each(key, maxRanks, func(int) error {
		g, err := s.Integer(key, 0, maxRanks)
		ranks = append(ranks, g)
		return err
	})
	return ranks, err
}

// oneOrEach reads one value for all ranks, or one a rank: see eachRank.
func (l *line) oneOrEach(s *wire.Scanner, key string, item func() error) error {
	if s.Peek() != '[' {
		return item()
	}
	n := 0
	err := s.Each(key, maxRanks, func(int) error { n++; return item() })
	l.lists = append(l.lists, list{key, n})
	return err
}

// eachRank is an error where a list has not one value a rank.
func (l *line) eachRank() error {
	for _, x := range l.lists {
		if x.n != l.ranks {
			return wire.Bad(placement.ErrShape, x.key, -1, -1, "%d values for %d ranks", x.n, l.ranks)
		}
	}
	return nil
}

// readCost reads the constants of a cost model; at says where one goes.
func readCost(s *wire.Scanner, at func(key string) (*float64, error)) error {
	return s.Object("cost", func(key string) error {
		to, err := at(key)
		if err == nil {
			*to, err = s.Number("a number of seconds", "cost."+key, -1, -1)
		}
		return err
	})
}

// done is the reply of what has none but its success.
func done(e *wire.Encoder, err error) error {
	if err == nil {
		e.Raw(`{"ok":true}`)
	}
	return err
}

// assignment is the reply of what was placed on a rank; -1 = it fits nowhere now.
func assignment(e *wire.Encoder, id string, rank int) {
	e.Raw(`{"id":`)
	e.Name(id)
	e.Field("rank")
	e.Int(int64(rank))
	e.Raw("}")
}

// quotation is the reply of what a request would cost.
func quotation(e *wire.Encoder, rank int, seconds float64) {
	e.Raw(`{"rank":`)
	e.Int(int64(rank))
	e.Field("seconds")
	e.Float(seconds)
	e.Raw("}")
}

// changes is the reply of what an engine's own list was otherwise than the ledger.
func changes[ID ~uint64](e *wire.Encoder, entered, gone, moved []ID, name func(ID) string) {
	sep := "{"
	for _, l := range [...]struct {
		key string
		ids []ID
	}{{"entered", entered}, {"gone", gone}, {"moved", moved}} {
		e.Raw(sep + `"` + l.key + `":`)
		wire.List(e, l.ids, func(id ID) { e.Name(name(id)) })
		sep = ","
	}
	e.Raw("}")
}

// rankState is what the stats of all sessions say of a rank.
func rankState(e *wire.Encoder, serving bool, capacity, over int64) {
	e.Field("serving")
	e.Bool(serving)
	e.Field("capacity")
	e.Int(capacity)
	e.Field("over")
	e.Int(over)
}
