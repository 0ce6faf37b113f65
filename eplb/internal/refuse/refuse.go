// Package refuse words what Plan and its neighbours refuse.
package refuse

import (
	"errors"
	"fmt"

	"github.com/moelb/moelb/placement"
)

// Value is an error about a field as a whole where a value of it is bad, nil elsewhere;
// Shape and Fit are the same of their kinds.
func Value(bad bool, field, format string, args ...any) error {
	return where(bad, placement.ErrValue, field, format, args...)
}

func Shape(bad bool, field, format string, args ...any) error {
	return where(bad, placement.ErrShape, field, format, args...)
}

func Fit(bad bool, field, format string, args ...any) error {
	return where(bad, placement.ErrFit, field, format, args...)
}

func where(bad bool, kind error, field, format string, args ...any) error {
	if !bad {
		return nil
	}
	return Errorf(kind, field, format, args...)
}

// Edit changes the words of an error; nil stays nil.
func Edit(err error, change func(e *placement.Error)) error {
	var e *placement.Error
	if errors.As(err, &e) {
		change(e)
	}
	return err
}

// Errorf is an error about a field as a whole, of no one layer or index.
func Errorf(kind error, field string, format string, args ...any) error {
	return At(kind, field, -1, -1, format, args...)
}

// At is an error about an entry of a field; -1 = of no one layer or index.
func At(kind error, field string, layer, index int, format string, args ...any) error {
	return &placement.Error{Field: field, Layer: layer, Index: index, Kind: kind, Detail: fmt.Sprintf(format, args...)}
}
