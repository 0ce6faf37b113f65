// Package strict reads JSON that this module wrote, and nothing else.
package strict

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/moelb/moelb/eplb/internal/refuse"
	"github.com/moelb/moelb/placement"
)

// Decode reads one JSON value, of which errors say what it is, with no field that
// into does not have.
func Decode(text []byte, what string, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return refuse.Errorf(placement.ErrShape, what, "more than one JSON value")
	}
	return nil
}

// Version demands version 1.
func Version(v int) error {
	if v != 1 {
		return refuse.Errorf(placement.ErrValue, "version", "%d: this is version 1", v)
	}
	return nil
}
