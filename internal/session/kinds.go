package session

import (
	"errors"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/prefill"
)

// kinds are what a reply says of an error, by what it wraps; whatever else is
// wrong, the line is bad.
var kinds = [...]struct {
	err  error
	kind string
}{
	{decode.ErrKnown, "known"},
	{decode.ErrUnknown, "unknown"},
	{decode.ErrNever, "never"},
	{decode.ErrState, "state"},
	{prefill.ErrKnown, "known"},
	{prefill.ErrUnknown, "unknown"},
	{prefill.ErrNever, "never"},
	{prefill.ErrState, "state"},
}

// refusal appends the reply to a line that failed.
func refusal(e *wire.Encoder, err error) {
	e.Raw(`{"error":`)
	e.Name(wire.OneLine(err))
	e.Field("kind")
	kind := "value"
	for _, k := range kinds {
		if errors.Is(err, k.err) {
			kind = k.kind
		}
	}
	e.Quote(kind)
	index := -1
	if d := (*decode.Error)(nil); errors.As(err, &d) {
		index = d.Index
	} else if f := (*prefill.Error)(nil); errors.As(err, &f) {
		index = f.Index
	} else if p := (*placement.Error)(nil); errors.As(err, &p) {
		index = p.Index
	}
	if index >= 0 {
		e.Field("index")
		e.Int(int64(index))
	}
	e.Raw("}")
}

// state is the error for a line that does not fit the state of the session.
func state(field, detail string) error {
	return &decode.Error{Field: field, Index: -1, Kind: decode.ErrState, Detail: detail}
}
