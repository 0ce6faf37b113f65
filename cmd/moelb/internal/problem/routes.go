package problem

import (
	"fmt"
	"math"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats"
)

// readRoutes reads tokens' experts, [layers][tokens][k].
func readRoutes(s *wire.Scanner, field string) (*placement.Routes, error) {
	if !s.Take('[') {
		return nil, s.Wanted("a list of layers", field, -1, -1)
	}
	r := &placement.Routes{}
	for room := placement.MaxRouteIDs; !s.Take(']'); {
		l := len(r.IDs)
		switch {
		case l > 0 && !s.Take(','):
			return nil, s.Wanted(`"," or "]"`, field, l, -1)
		case l == placement.MaxLayers:
			return nil, wire.Bad(placement.ErrShape, field, -1, -1, "more than %d layers are not supported", placement.MaxLayers)
		case !s.Take('['):
			return nil, s.Wanted("a list of tokens", field, l, -1)
		}
		ids, err := readTokens(s, field, l, &r.TopK, room)
		if err != nil {
			return nil, err
		}
		r.IDs = append(r.IDs, ids)
		room -= len(ids)
	}
	if r.TopK == 0 {
		return nil, wire.Bad(placement.ErrShape, field, -1, -1, "no tokens")
	}
	return r, nil
}

// readTokens reads the tokens of a layer, whose opening bracket is taken. topK is
// the experts of a token, 0 = the first token says.
func readTokens(s *wire.Scanner, field string, l int, topK *int, room int) ([]uint16, error) {
	ids := []uint16{}
	for token := 0; !s.Take(']'); token++ {
		if token > 0 && !s.Take(',') {
			return nil, s.Wanted(`"," or "]"`, field, l, token)
		}
		if !s.Take('[') {
			return nil, s.Wanted("a list of a token's experts", field, l, token)
		}
		k := 0
		for ; !s.Take(']'); k++ {
			if k > 0 && !s.Take(',') {
				return nil, s.Wanted(`"," or "]"`, field, l, token)
			}
			if k == placement.MaxTopK {
				return nil, wire.Bad(placement.ErrShape, field, l, token, "more than %d experts a token are not supported", placement.MaxTopK)
			}
			e, err := s.Number("an expert's number", field, l, token)
			if err != nil {
				return nil, err
			}
			if e < 0 || e >= placement.MaxExperts || e != math.Trunc(e) {
				return nil, wire.Bad(placement.ErrValue, field, l, token, "%s is no expert's number", wire.Plain(e))
			}
			ids = append(ids, uint16(e))
		}
		switch {
		case k == 0:
			return nil, wire.Bad(placement.ErrShape, field, l, token, "a token without experts")
		case *topK == 0:
			*topK = k
		case k != *topK:
			return nil, wire.Bad(placement.ErrShape, field, l, token, "%d experts, but the first token has %d", k, *topK)
		}
		if len(ids) > room {
			return nil, wire.Bad(placement.ErrShape, field, l, token, "more than %d expert ids are not supported", placement.MaxRouteIDs)
		}
	}
	return ids, nil
}

// exampleRoutes is the name of no file, but of generated tokens.
const exampleRoutes = "example"

// ReadRoutes reads a flag's file of tokens' experts, or generates those of the example.
func ReadRoutes(name string) (formats.Routes, error) {
	if name == exampleRoutes {
		f := routedFields()
		return formats.Routes{Routes: *f.routes, Loads: f.Loads[0]}, nil
	}
	r, err := formats.ReadRoutes(name, 0)
	if err != nil {
		return r, fmt.Errorf("--routes: %w", err)
	}
	return r, nil
}

// overrideRoutes reads the routes' file that a flag names; without loads theirs
// are planned for.
func (f *Flags) overrideRoutes(cmd *cobra.Command, given *Fields) error {
	set := cmd.Flags().Changed
	if set("traffic-copies") {
		given.sends = f.Sends
	}
	if set("traffic-slack") {
		given.hasSlack, given.slack = true, f.Slack
	}
	if f.Routes == "" {
		return nil
	}
	r, err := ReadRoutes(f.Routes)
	if err != nil {
		return err
	}
	given.routes = &r.Routes
	if given.Loads == nil {
		given.Loads = []placement.Loads{r.Loads}
	}
	return nil
}

// checkRoutes takes the routes, and refuses a slack without any.
func (p *Problem) checkRoutes(f *Fields) error {
	var err error
	if p.routes, err = f.planned(); err != nil {
		return err
	}
	if f.sends != "" {
		i, err := Choice("traffic_copies", f.sends, sends)
		if err != nil {
			return err
		}
		if p.routes == nil {
			return wire.Bad(placement.ErrShape, "traffic_copies", -1, -1, "%s: only with routes or --routes", f.sends)
		}
		p.Options.Copies = eplb.Copies(i)
	}
	switch {
	case f.hasSlack && p.routes == nil:
		return wire.Bad(placement.ErrShape, "traffic_slack", -1, -1, "%v: only with routes or --routes", f.slack)
	case f.hasSlack && !(f.slack >= 0):
		return wire.Bad(placement.ErrValue, "traffic_slack", -1, -1, "%v is negative", f.slack)
	case f.hasSlack && f.slack == 0:
		p.Options.TrafficSlack = -1 // to eplb 0 is the default
	case f.hasSlack:
		p.Options.TrafficSlack = f.slack
	}
	return nil
}
