package session

import (
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

// names are the requests of a session: what its caller calls them, and what the
// balancer does, whose ids' low halves are dense.
type names[ID prefill.ID | decode.ID] struct {
	known, unknown string // what an error says of a name
	ids            map[string]ID
	at             []string // by the low half of the id
}

func (n *names[ID]) enter(name string, id ID) {
	i := int(uint32(id))
	for len(n.at) <= i {
		n.at = append(n.at, "")
	}
	n.at[i], n.ids[name] = name, id
}

func (n *names[ID]) of(id ID) string { return n.at[uint32(id)] }

func (n *names[ID]) drop(id ID) {
	delete(n.ids, n.of(id))
	n.at[uint32(id)] = ""
}

// find returns the id of a request that must be there.
func (n *names[ID]) find(name string) (ID, error) {
	id, ok := n.ids[name]
	if !ok {
		return 0, wire.Bad(placement.ErrValue, "id", -1, -1, "%.60q %s", name, n.unknown)
	}
	return id, nil
}

// free is an error where a request is there already.
func (n *names[ID]) free(name string) error {
	if _, ok := n.ids[name]; ok {
		return wire.Bad(placement.ErrValue, "id", -1, -1, "%.60q %s", name, n.known)
	}
	return nil
}
