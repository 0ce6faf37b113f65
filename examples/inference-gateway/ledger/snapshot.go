package ledger

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/moelb/moelb/decode"
)

// snapshot is what a ledger writes of itself.
type snapshot struct {
	Version int            `json:"version"`
	Like    string         `json:"like"` // the configuration
	Saved   time.Time      `json:"saved"`
	ID      decode.ID      `json:"id"`
	Mean    Average        `json:"mean"`
	Units   []unitSnapshot `json:"units"`
}

type unitSnapshot struct {
	Name     string         `json:"name"`
	Balancer []byte         `json:"balancer"`
	Seats    []seatSnapshot `json:"seats"`
}

type seatSnapshot struct {
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"` // "" = nobody's
	Strikes   int    `json:"strikes,omitempty"`
}

const version = 1

// AppendSnapshot appends the ledger's state to dst, as JSON: which endpoint has which
// rank, what requests hold, how long they run, which endpoints fail.
func (d *Decode) AppendSnapshot(dst []byte) []byte {
	data, err := json.Marshal(d.snapshot())
	if err != nil {
		panic(err) // of plain values
	}
	return append(dst, data...)
}

func (d *Decode) snapshot() snapshot {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := snapshot{Version: version, Like: d.like, Saved: d.advance(), ID: d.id, Mean: d.mean}
	for _, u := range d.units {
		x := unitSnapshot{Name: u.name, Balancer: balancerOf(u).AppendSnapshot(nil)}
		for g := range u.seat {
			seat := &u.seat[g]
			x.Seats = append(x.Seats, seatSnapshot{seat.name.Namespace, seat.name.Name, seat.strikes})
		}
		s.Units = append(s.Units, x)
	}
	return s
}

// Restore takes over what another ledger of the same configuration wrote, before the
// first pick. The requests in it have lost their streams: they are taken for what runs
// until endpoints say what they have, or for as long as requests usually do. Errors:
// data that is no such snapshot, or a ledger in use; then nothing has changed.
func (d *Decode) Restore(data []byte) error {
	var s snapshot
	if err := json.Unmarshal(data, &s); err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch now := d.cfg.Now(); {
	case !d.began.IsZero():
		return fmt.Errorf("snapshot: requests have been placed already")
	case s.Version != version:
		return fmt.Errorf("snapshot: of version %d, not %d", s.Version, version)
	case s.Like != d.like:
		return fmt.Errorf("snapshot: of another configuration")
	case s.Saved.After(now.Add(time.Minute)):
		return fmt.Errorf("snapshot: written at %v, which is to come", s.Saved)
	}
	units := make([]*unit, 0, len(s.Units))
	names := map[string]bool{}
	for i := range s.Units {
		u, err := s.Units[i].unit()
		if err != nil {
			return fmt.Errorf("snapshot: unit %d: %w", i, err)
		}
		if names[u.name] {
			return fmt.Errorf("snapshot: unit %d: %q is named twice", i, u.name)
		}
		names[u.name] = true
		units = append(units, u)
	}
	d.units, d.mean, d.now = units, s.Mean, s.Saved
	d.names, d.stale = nil, true
	if now := d.cfg.Now(); now.Sub(s.Saved) > d.cfg.MaxAge { // all has ended since
		d.now = now
		for _, u := range d.units {
			for g := range u.seat {
				for _, id := range u.seat[g].before {
					_ = balancerOf(u).Cancel(id)
				}
				u.seat[g].before = nil
			}
		}
	}
	for _, u := range d.units {
		for _, id := range balancerOf(u).Known(nil) {
			d.id = max(d.id, id)
		}
		for g := range u.seat {
			if seat := &u.seat[g]; seat.strikes > 0 { // to be tried
				seat.state = shut
				d.attend(u, g)
			}
		}
	}
	d.id = max(d.id, s.ID)
	return nil
}

// unit makes a unit of what was written.
func (x *unitSnapshot) unit() (*unit, error) {
	b, err := decode.FromSnapshot(x.Balancer)
	if err != nil {
		return nil, err
	}
	if b.Ranks() != len(x.Seats) {
		return nil, fmt.Errorf("%d ranks, but %d endpoints", b.Ranks(), len(x.Seats))
	}
	u := newUnit(x.Name, decodeUnit{b})
	u.seat = make([]seat, len(x.Seats))
	for g, s := range x.Seats {
		name := Name{s.Namespace, s.Name}
		if name == (Name{}) {
			if _, err := b.Dead(nil, g); err != nil {
				return nil, err
			}
			continue
		}
		if _, ok := u.of[name]; ok {
			return nil, fmt.Errorf("endpoint %s is named twice", s.Name)
		}
		if s.Strikes < 0 {
			return nil, fmt.Errorf("endpoint %s: %d strikes", s.Name, s.Strikes)
		}
		u.of[name] = g
		u.seat[g] = seat{name: name, taken: true, health: health{strikes: min(s.Strikes, mostShut+1)}}
		if err := b.Restore(g); err != nil {
			return nil, err
		}
	}
	for _, id := range b.Known(nil) {
		g, err := b.Where(id)
		if err != nil {
			return nil, err
		}
		u.seat[g].before = append(u.seat[g].before, id)
		u.seat[g].report.told++
	}
	return u, nil
}
