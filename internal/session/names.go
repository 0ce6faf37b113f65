package session

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// names are the requests of a session: what its caller calls them, and the ids
// that the balancer knows them by.
type names[ID ~uint64] struct {
	ids map[string]ID
	at  map[ID]string
}

func newNames[ID ~uint64](n int) names[ID] {
	return names[ID]{ids: make(map[string]ID, n), at: make(map[ID]string, n)}
}

// enter names a request by an id: asked's, or one that was loaded.
func (n *names[ID]) enter(name string, id ID) { n.ids[name], n.at[id] = id, name }

// asked is the id of a request that is not known by its name: the same however often it
// is asked for and refused. Where others have that, in any of these tables, it is the
// next that is free.
func (n *names[ID]) asked(name string, others ...map[ID]string) ID {
	sum := sha256.Sum256([]byte(name))                // nobody finds names by the thousand that have one id
	id := ID(binary.LittleEndian.Uint64(sum[:]) >> 2) // as restored takes it
	taken := func(at map[ID]string) bool { _, ok := at[id]; return ok }
	for taken(n.at) || slices.ContainsFunc(others, taken) {
		id++
	}
	return id
}

func (n *names[ID]) of(id ID) string { return n.at[id] }

func (n *names[ID]) drop(id ID) {
	delete(n.ids, n.at[id])
	delete(n.at, id)
}

// find returns the id of a request that must be there.
func (n *names[ID]) find(name string) (ID, error) {
	id, ok := n.ids[name]
	if !ok {
		return 0, named(decode.ErrUnknown, -1, name)
	}
	return id, nil
}

// free is an error where a request is there already; index is its place in a list,
// -1 = it stands alone.
func (n *names[ID]) free(name string, index int) error {
	if _, ok := n.ids[name]; ok {
		return named(decode.ErrKnown, index, name)
	}
	return nil
}

// called makes an error that tells a request by its id tell it by its name: ids are
// not the caller's, and others after a load.
func (n *names[ID]) called(err error) error {
	var detail string
	d, f := (*decode.Error)(nil), (*prefill.Error)(nil)
	switch {
	case errors.As(err, &d):
		detail = d.Detail
	case errors.As(err, &f):
		detail = f.Detail
	}
	rest, ok := strings.CutPrefix(detail, "request ")
	number, rest, _ := strings.Cut(rest, " ")
	id, wrong := strconv.ParseUint(number, 10, 64)
	name, known := n.at[ID(id)]
	if !ok || wrong != nil || !known {
		return err
	}
	detail = fmt.Sprintf("request %.60q %s", name, rest)
	if d != nil {
		d.Detail = detail
	} else {
		f.Detail = detail
	}
	return err
}

// named is an error about an id.
func named(kind decode.Kind, index int, name string) error {
	return &decode.Error{Field: "id", Index: index, Kind: kind, Detail: fmt.Sprintf("%.60q is %s", name, string(kind))}
}
