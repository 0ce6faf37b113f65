package session

import (
	"encoding/base64"
	"math"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

// saved is what a snapshot holds: the balancer's own bytes, and the names of its
// requests in its order; in prefill also of those that ended in the latest step.
type saved struct {
	unit       string
	ids, ended []string
}

func readSaved(s *wire.Scanner) (state saved, err error) {
	names := func(key string, to *[]string) error {
		return s.Each(key, math.MaxInt32, func(int) error {
			id, err := s.Name(key)
			*to = append(*to, id)
			return err
		})
	}
	err = s.Object("state", func(key string) (err error) {
		switch key {
		case "unit":
			state.unit, err = s.Blob(key)
		case "ids":
			err = names(key, &state.ids)
		case "ended":
			err = names(key, &state.ended)
		default:
			err = wire.Bad(placement.ErrValue, "state", -1, -1, "%.40q is an unknown field", key)
		}
		return err
	})
	return state, err
}

// bytes is the balancer's own part.
func (s *saved) bytes() ([]byte, error) {
	unit, err := base64.StdEncoding.DecodeString(s.unit)
	if err != nil {
		return nil, wire.Bad(placement.ErrValue, "state", -1, -1, "unit is not base64")
	}
	return unit, nil
}

// restored gives the requests of a loaded balancer their names.
func restored[ID ~uint64](ids []ID, saved []string) (names[ID], error) {
	n := newNames[ID](len(ids))
	if len(ids) != len(saved) {
		return n, wire.Bad(placement.ErrShape, "state", -1, -1, "%d ids for %d requests", len(saved), len(ids))
	}
	for i, id := range ids {
		name := saved[i]
		if id > 1<<62 {
			return n, wire.Bad(placement.ErrValue, "state", -1, -1, "a request of the unit is %d", uint64(id))
		}
		if _, ok := n.ids[name]; ok {
			return n, wire.Bad(placement.ErrValue, "state", -1, -1, "id %.60q stands there twice", name)
		}
		if _, ok := n.at[id]; ok {
			return n, wire.Bad(placement.ErrValue, "state", -1, -1, "request %d of the unit stands there twice", uint64(id))
		}
		n.enter(name, id)
	}
	return n, nil
}

// save starts the reply with a balancer's own part.
func save(e *wire.Encoder, unit []byte) {
	e.Raw(`{"state":{"unit":"`)
	e.B = base64.StdEncoding.AppendEncode(e.B, unit)
	e.Raw(`"`)
	e.Field("ids")
}

func (d *decodeUnit) snapshot(e *wire.Encoder) error {
	save(e, d.b.AppendSnapshot(nil))
	wire.List(e, d.b.Known(nil), func(id decode.ID) { e.Name(d.of(id)) })
	e.Raw("}}")
	return nil
}

func (d *decodeUnit) load(e *wire.Encoder) error {
	unit, err := d.state.bytes()
	if err != nil {
		return err
	}
	b, err := decode.FromSnapshot(unit)
	if err != nil {
		return err
	}
	if len(d.state.ended) > 0 {
		return wire.Bad(placement.ErrValue, "state", -1, -1, "a decode unit has no ended")
	}
	loaded, err := restored(b.Known(nil), d.state.ids)
	if err != nil {
		return err
	}
	d.b, d.names = b, loaded
	return done(e, nil)
}

func (p *prefillUnit) snapshot(e *wire.Encoder) error {
	save(e, p.b.AppendSnapshot(nil))
	wire.List(e, p.b.Known(nil), func(id prefill.ID) { e.Name(p.of(id)) })
	e.Field("ended")
	wire.List(e, p.b.Ended(nil), func(id prefill.ID) { e.Name(p.late.of(id)) })
	e.Raw("}}")
	return nil
}

func (p *prefillUnit) load() error {
	unit, err := p.state.bytes()
	if err != nil {
		return err
	}
	b, err := prefill.FromSnapshot(unit)
	if err != nil {
		return err
	}
	known, err := restored(b.Known(nil), p.state.ids)
	if err != nil {
		return err
	}
	late, err := restored(b.Ended(nil), p.state.ended)
	if err != nil {
		return err
	}
	for name, id := range late.ids {
		now, used := known.ids[name]
		if as, again := known.at[id]; used != again || used && (now != id || as != name) {
			return wire.Bad(placement.ErrValue, "state", -1, -1, "id %.60q stands there twice", name)
		}
	}
	p.b, p.names, p.late = b, known, late
	return nil
}
