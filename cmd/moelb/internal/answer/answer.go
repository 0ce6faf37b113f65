// Package answer writes what a command answers as JSON. A result is a struct whose
// fields have the tags of encoding/json: names, and omitempty, which leaves out nil
// and nothing else. Beside them, the tag lines:"" gives a list one item a line, so that
// a person, or diff, finds a layer, and lines:"open" the same with the closing
// bracket behind the last item.
package answer

import (
	"fmt"
	"math"
	"reflect"
	"strings"

	"golang.org/x/exp/constraints"

	"github.com/moelb/moelb/internal/wire"
)

// Members is an object whose names are known only when it is written.
type Members []Member

// Member is one of them.
type Member struct {
	Name  string
	Value any
}

// JSON is a struct as a line of its own. NaN, infinities and nil are null.
// Errors are those of a member's MarshalJSON.
func JSON(v any) ([]byte, error) {
	e := &wire.Encoder{B: make([]byte, 0, 1<<20)}
	if err := value(e, reflect.ValueOf(v), "none"); err != nil {
		return nil, err
	}
	e.Raw("\n")
	return e.B, nil
}

// value appends one value; style is the tag lines of its field, none = no such tag.
func value(e *wire.Encoder, v reflect.Value, style string) error {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			e.Raw("null")
			return nil
		}
		return value(e, v.Elem(), style)
	case reflect.Struct:
		if m, ok := v.Interface().(interface{ MarshalJSON() ([]byte, error) }); ok {
			text, err := m.MarshalJSON()
			e.Raw(string(text))
			return err
		}
		return object(e, v)
	case reflect.Slice, reflect.Array:
		if all, ok := v.Interface().(Members); ok {
			return members(e, all)
		}
		return list(e, v, style)
	case reflect.String:
		e.Quote(v.String())
	case reflect.Bool:
		e.Bool(v.Bool())
	case reflect.Float64:
		if x := v.Float(); math.IsNaN(x) || math.IsInf(x, 0) {
			e.Raw("null")
		} else {
			e.Float(x)
		}
	case reflect.Int, reflect.Int64:
		e.Int(v.Int())
	default:
		panic(fmt.Sprintf("answer: no JSON for %v", v.Type()))
	}
	return nil
}

// object appends a struct's exported fields, those of embedded structs as its own.
func object(e *wire.Encoder, v reflect.Value) error {
	e.Raw("{")
	first := true
	for _, f := range reflect.VisibleFields(v.Type()) {
		name, option, _ := strings.Cut(f.Tag.Get("json"), ",")
		if name == "" {
			continue
		}
		x := v.FieldByIndex(f.Index)
		if option == "omitempty" && x.IsNil() {
			continue
		}
		if !first {
			e.Raw(",")
		}
		first = false
		e.Raw(`"` + name + `":`)
		style, ok := f.Tag.Lookup("lines")
		if !ok {
			style = "none"
		}
		if err := value(e, x, style); err != nil {
			return err
		}
	}
	e.Raw("}")
	return nil
}

// members appends members in their order.
func members(e *wire.Encoder, all Members) error {
	e.Raw("{")
	for i, m := range all {
		if i > 0 {
			e.Raw(",")
		}
		e.Quote(m.Name)
		e.Raw(":")
		if err := value(e, reflect.ValueOf(m.Value), "none"); err != nil {
			return err
		}
	}
	e.Raw("}")
	return nil
}

// list appends a list. Plans are full of rows of whole numbers, which are written
// as they are.
func list(e *wire.Encoder, v reflect.Value, style string) (err error) {
	between, last := "", ""
	switch style {
	case "":
		between, last = "\n", "\n"
	case "open":
		between = "\n"
	}
	item := func(i int) error { return value(e, v.Index(i), "none") }
	switch rows := v.Interface().(type) {
	case []int:
		item = func(i int) error { e.Int(int64(rows[i])); return nil }
	case []int64:
		item = func(i int) error { e.Int(rows[i]); return nil }
	case [][]int:
		item = func(i int) error { ints(e, rows[i]); return nil }
	case [][]int64:
		item = func(i int) error { ints(e, rows[i]); return nil }
	case [][][]int:
		item = func(i int) error { wire.List(e, rows[i], func(row []int) { ints(e, row) }); return nil }
	}
	e.Raw("[" + between)
	for i := range v.Len() {
		if i > 0 {
			e.Raw("," + between)
		}
		if err := item(i); err != nil {
			return err
		}
	}
	e.Raw(last + "]")
	return nil
}

// ints appends a row.
func ints[T constraints.Integer](e *wire.Encoder, row []T) {
	wire.List(e, row, func(n T) { e.Int(int64(n)) })
}
