package session

import (
	"encoding/base64"
	"math"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// decodeState is what a snapshot holds: the balancer's own bytes, and the names
// of the running requests in its order.
type decodeState struct {
	unit string
	ids  []string
}

func readDecodeState(s *wire.Scanner) (state decodeState, err error) {
	err = s.Object("state", func(key string) (err error) {
		switch key {
		case "unit":
			state.unit, err = s.Blob(key)
		case "ids":
			err = s.Each(key, math.MaxInt32, func(int) error {
				id, err := s.Name(key)
				state.ids = append(state.ids, id)
				return err
			})
		default:
			err = wire.Bad(placement.ErrValue, "state", -1, -1, "%.40q is an unknown field", key)
		}
		return err
	})
	return state, err
}

func (d *decodeUnit) snapshot(e *wire.Encoder) error {
	e.Raw(`{"state":{"unit":"`)
	e.B = base64.StdEncoding.AppendEncode(e.B, d.b.AppendSnapshot(nil))
	e.Raw(`"`)
	e.Field("ids")
	wire.List(e, d.b.Running(nil), func(id decode.ID) { e.Name(d.of(id)) })
	e.Raw("}}")
	return nil
}

func (d *decodeUnit) load(e *wire.Encoder) error {
	unit, err := base64.StdEncoding.DecodeString(d.state.unit)
	if err != nil {
		return wire.Bad(placement.ErrValue, "state", -1, -1, "unit is not base64")
	}
	b, err := decode.FromSnapshot(unit)
	if err != nil {
		return err
	}
	running := b.Running(nil)
	if len(running) != len(d.state.ids) {
		return wire.Bad(placement.ErrShape, "state", -1, -1, "%d ids for %d running requests", len(d.state.ids), len(running))
	}
	loaded := newNames[decode.ID](len(running))
	for i, id := range running {
		name := d.state.ids[i]
		if id > 1<<62 {
			return wire.Bad(placement.ErrValue, "state", -1, -1, "a request of the unit is %d", uint64(id))
		}
		if _, ok := loaded.ids[name]; ok {
			return wire.Bad(placement.ErrValue, "state", -1, -1, "id %.60q stands there twice", name)
		}
		loaded.enter(name, id)
	}
	d.b, d.names = b, loaded
	return done(e, nil)
}
