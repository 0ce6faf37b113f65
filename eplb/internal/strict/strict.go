// Package strict reads JSON that this module wrote, and nothing else.
package strict

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Decode reads one JSON value of the given version, of which errors say what it is,
// with no field that into does not have.
func Decode(text []byte, what string, version int, into any) error {
	var is struct {
		Version int `json:"version"`
	}
	_ = json.Unmarshal(text, &is) // what is wrong with the rest is seen below
	wrong := refuse.Value(is.Version != version, "version", "%d: this is version %d", is.Version, version)
	if is.Version != 0 && wrong != nil {
		return wrong
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		var typed *json.UnmarshalTypeError
		if errors.As(err, &typed) {
			return wrongType(typed, what)
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return refuse.Errorf(placement.ErrShape, what, "more than one JSON value")
	}
	return wrong
}

// wrongType says of a value of another type what is needed, in the words of JSON.
func wrongType(e *json.UnmarshalTypeError, what string) error {
	field := strings.TrimPrefix(strings.ReplaceAll("."+e.Field, ".plain", ""), ".") // an embedded struct is no field
	needed := map[reflect.Kind]string{reflect.Struct: "an object", reflect.Slice: "a list", reflect.Float64: "a number"}[e.Type.Kind()]
	return refuse.Errorf(placement.ErrValue, cmp.Or(field, what), "%s before byte %d of the %s: %s is needed", strings.TrimPrefix(e.Value, "number "), e.Offset, what, cmp.Or(needed, "a whole number"))
}
