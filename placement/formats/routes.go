package formats

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// Routes is what a file of tokens' experts holds.
type Routes struct {
	// Routes are tokens of the file, evenly chosen over its length where it holds
	// more than were asked for.
	Routes placement.Routes
	// Loads counts the experts of all its tokens, [layers][experts]; experts are as
	// many as the largest id asks for.
	Loads  placement.Loads
	Tokens []int // of each layer, in the file
	Format string
}

// MostTokens is how many tokens a layer ReadRoutes keeps where it is not told.
const MostTokens = 1 << 17

// ReadRoutes reads a file of tokens' experts as a stream, in memory bounded by
// most, the tokens a layer to keep (0 = MostTokens), not by the file:
//
//   - JSON, [layers][tokens][k], bare or as {"routes": …};
//   - .npy of whole numbers (layers, tokens, k);
//   - CSV with a header: a line a token, its number and then a column a layer with
//     the ids, separated by blanks: 17,8 26 56,3 38 50
//   - SGLang's recorder in mode per_token (.pt, topk_ids_of_layer): slots become
//     experts by the file's map, ids below 0 are no tokens of the layer.
//
// gzip is unpacked.
func ReadRoutes(path string, most int) (Routes, error) {
	r, err := fromFile(path, func(r io.Reader) (Routes, error) { return DecodeRoutes(r, most) })
	if err != nil {
		return Routes{}, named(path, err)
	}
	return r, nil
}

// DecodeRoutes is ReadRoutes of a stream.
func DecodeRoutes(r io.Reader, most int) (Routes, error) {
	return caught(func() (Routes, error) { return decodeRoutes(r, most, &guard.Standard) })
}

func decodeRoutes(r io.Reader, most int, lim *guard.Limits) (Routes, error) {
	if most == 0 {
		most = MostTokens
	}
	b, err := open(r, math.MaxInt64, lim)
	if err != nil {
		return Routes{}, err
	}
	k, err := sniff(b)
	if err != nil {
		return Routes{}, err
	}
	t := &tokens{most: most, lim: lim}
	switch k {
	case empty:
		return Routes{}, errEmpty
	case npyFile:
		return t.routes("npy", t.npy(b))
	case zipFile:
		return t.routes("sglang-pt", t.sglang(b))
	case oldPickle:
		return Routes{}, errOldPickle
	case jsonArray:
		s := newScanner(b, lim)
		err := t.json(s)
		if err == nil {
			err = s.finish()
		}
		return t.routes("json", err)
	case jsonObject:
		s := newScanner(b, lim)
		return t.routes("json", t.object(s))
	case plainText:
		return t.routes("csv", t.csv(b))
	}
	return Routes{}, errors.New("not a known file of tokens' experts: JSON, CSV, .npy or SGLang's .pt is expected")
}

// tokens collects the tokens of all layers, evenly thinned.
type tokens struct {
	lim    *guard.Limits
	most   int // of a layer
	topK   int
	layers []thinned
	total  int // ids kept
}

// thinned keeps every stride-th token of a layer, and counts all.
type thinned struct {
	ids    []uint16
	seen   int
	stride int
	counts []float64
}

const routesField = "routes"

// add takes a token of a layer.
func (t *tokens) add(l int, token []float64) error {
	if l >= t.lim.Layers {
		return guard.Errorf(placement.ErrShape, routesField, -1, -1, "more than %d layers, the most that is supported", t.lim.Layers)
	}
	for len(t.layers) <= l {
		t.layers = append(t.layers, thinned{stride: 1})
	}
	y := &t.layers[l]
	switch {
	case len(token) == 0 || len(token) > placement.MaxTopK:
		return guard.Errorf(placement.ErrShape, routesField, l, y.seen, "%d experts: between 1 and %d are supported", len(token), placement.MaxTopK)
	case t.topK == 0:
		t.topK = len(token)
	case len(token) != t.topK:
		return guard.Errorf(placement.ErrShape, routesField, l, y.seen, "%d experts, but the first token has %d", len(token), t.topK)
	}
	for i, e := range token {
		if !(e >= 0 && e < float64(t.lim.Experts)) || e != math.Trunc(e) {
			return guard.Errorf(placement.ErrValue, routesField, l, y.seen, "%v is no expert's number below %d", e, t.lim.Experts)
		}
		if slices.Contains(token[:i], e) {
			return guard.Errorf(placement.ErrValue, routesField, l, y.seen, "expert %d twice in a token", int(e))
		}
		for len(y.counts) <= int(e) {
			y.counts = append(y.counts, 0)
		}
		y.counts[int(e)]++
	}
	if y.seen%y.stride == 0 {
		if len(y.ids) == t.most*t.topK { // every other one makes room
			n := 0
			for i := 0; i < len(y.ids); i += 2 * t.topK {
				n += copy(y.ids[n:], y.ids[i:i+t.topK])
			}
			t.total -= len(y.ids) - n
			y.ids = y.ids[:n]
			y.stride *= 2
		}
		if y.seen%y.stride == 0 {
			for _, e := range token {
				y.ids = append(y.ids, uint16(e))
			}
			if t.total += t.topK; t.total > placement.MaxRouteIDs {
				return guard.Errorf(placement.ErrShape, routesField, l, y.seen, "more than %d expert ids in all layers", placement.MaxRouteIDs)
			}
		}
	}
	y.seen++
	return nil
}

// routes is what was collected, unless reading failed.
func (t *tokens) routes(format string, err error) (Routes, error) {
	if err != nil {
		return Routes{}, err
	}
	if t.topK == 0 {
		return Routes{}, guard.Errorf(placement.ErrShape, routesField, -1, -1, "no tokens")
	}
	experts := 0
	for l := range t.layers {
		experts = max(experts, len(t.layers[l].counts))
	}
	if len(t.layers)*experts > t.lim.Cells {
		return Routes{}, guard.Errorf(placement.ErrShape, routesField, -1, -1, "%d layers of %d experts: at most %d numbers are supported", len(t.layers), experts, t.lim.Cells)
	}
	out := Routes{Routes: placement.Routes{TopK: t.topK}, Loads: placement.NewLoads(len(t.layers), experts), Format: format}
	for l := range t.layers {
		out.Routes.IDs = append(out.Routes.IDs, t.layers[l].ids)
		out.Tokens = append(out.Tokens, t.layers[l].seen)
		copy(out.Loads[l], t.layers[l].counts)
	}
	return out, nil
}

// json reads [layers][tokens][k].
func (t *tokens) json(s *scanner) error {
	return s.array(routesField, -1, s.lim.Layers, func(l int) error {
		for len(t.layers) <= l {
			t.layers = append(t.layers, thinned{stride: 1})
		}
		return s.array(routesField, l, math.MaxInt, func(int) error {
			if err := s.open(routesField, l); err != nil {
				return err
			}
			token, err := s.numbers(routesField, l, placement.MaxTopK+1)
			if err != nil {
				return err
			}
			return t.add(l, token)
		})
	})
}

// npy reads an array (layers, tokens, k) row by row.
func (t *tokens) npy(b *bufio.Reader) error {
	text, err := matrix.NpyHeaderText(b, t.lim)
	if err != nil {
		return err
	}
	a, err := matrix.ParseNpyHeader(text)
	if err != nil {
		return err
	}
	if len(a.Shape) != 3 || a.Fortran || a.Of.Kind != 'i' && a.Of.Kind != 'u' || a.Shape[0] > t.lim.Layers || a.Shape[2] > placement.MaxTopK || a.Shape[2] == 0 {
		return guard.Errorf(placement.ErrShape, "npy", -1, -1, "shape %s of type %c%d: whole numbers (layers, tokens, k) are expected, not in Fortran's order, k between 1 and %d", guard.Shape(a.Shape), a.Of.Kind, a.Of.Size, placement.MaxTopK)
	}
	raw := make([]byte, a.Shape[2]*a.Of.Size)
	token := make([]float64, a.Shape[2])
	for l := range a.Shape[0] {
		for i := range a.Shape[1] {
			if _, err := io.ReadFull(b, raw); err != nil {
				return guard.Errorf(placement.ErrShape, "npy", l, i, "the input ends here, but the shape is %s", guard.Shape(a.Shape))
			}
			a.Of.Read(token, raw, a.Of.Size)
			if err := t.add(l, token); err != nil {
				return err
			}
		}
	}
	if _, err := b.ReadByte(); err != io.EOF {
		return guard.Errorf(placement.ErrShape, "npy", -1, -1, "more bytes than shape %s needs", guard.Shape(a.Shape))
	}
	return nil
}

// mostLine bounds a line of CSV.
const mostLine = 1 << 20

// csv reads a line a token, a column a layer, after a header.
func (t *tokens) csv(b *bufio.Reader) error {
	s := bufio.NewScanner(b)
	s.Buffer(nil, mostLine)
	columns := 0
	var token []float64
	for line := 1; s.Scan(); line++ {
		text := bytes.TrimSpace(s.Bytes())
		if len(text) == 0 {
			continue
		}
		if columns == 0 {
			if columns = bytes.Count(text, []byte(",")); columns == 0 || wire.IsDigits(text[0]) {
				return guard.Errorf(placement.ErrShape, "csv, line 1", -1, -1, "a header is expected: token, and a column a layer")
			}
			continue
		}
		_, rest, _ := bytes.Cut(text, []byte(","))
		if n := bytes.Count(text, []byte(",")); n != columns {
			return guard.Errorf(placement.ErrShape, fmt.Sprintf("csv, line %d", line), -1, -1, "%d columns, but the header has %d", n+1, columns+1)
		}
		for l := range columns {
			var cell []byte
			cell, rest, _ = bytes.Cut(rest, []byte(","))
			token = token[:0]
			for field := range bytes.FieldsSeq(cell) {
				v, bad := parseNumber(field)
				if bad != "" {
					return guard.Errorf(placement.ErrValue, fmt.Sprintf("csv, line %d", line), l, len(token), "%s", bad)
				}
				token = append(token, v)
			}
			if err := t.add(l, token); err != nil {
				return fmt.Errorf("line %d: %w", line, err)
			}
		}
	}
	if err := s.Err(); errors.Is(err, bufio.ErrTooLong) {
		return fmt.Errorf("csv: a line of more than %d bytes", mostLine)
	} else if err != nil {
		return err
	}
	return nil
}

// object reads {"routes": …}, or names what stands there instead.
func (t *tokens) object(s *scanner) error {
	s.Peek()
	s.Skip() // the brace that told an object
	for first := true; ; first = false {
		ok, err := s.more(first, '}')
		if err != nil {
			return err
		}
		if !ok {
			return s.finish()
		}
		key, err := s.str()
		if err != nil {
			return err
		}
		if key != routesField || !first {
			return guard.Errorf(placement.ErrValue, key, -1, -1, "unknown field: an object with routes alone is expected")
		}
		if err := s.take(':'); err != nil {
			return err
		}
		if err := t.json(s); err != nil {
			return err
		}
	}
}

// sglang reads topk_ids_of_layer of the recorder's per_token records.
func (t *tokens) sglang(b *bufio.Reader) error {
	a, x, err := torch.Open(b, t.lim)
	if err != nil {
		return err
	}
	root, ok := x.(*torch.Dict)
	if !ok {
		return guard.Errorf(placement.ErrShape, "pickle", -1, -1, "a dict with records is expected, as SGLang's recorder writes it in mode per_token")
	}
	layout, err := decodeLayout(root, a)
	if err != nil {
		return err
	}
	v, _ := root.Get("records")
	records, ok := v.(*torch.List)
	if !ok || len(records.Items) == 0 {
		return guard.Errorf(placement.ErrShape, "records", -1, -1, "a list of at least one record is expected")
	}
	for i, x := range records.Items {
		record, ok := x.(*torch.Dict)
		if !ok {
			return guard.Errorf(placement.ErrValue, "records", -1, i, "not a dict")
		}
		x, ok := record.Get("topk_ids_of_layer")
		if !ok {
			return guard.Errorf(placement.ErrShape, "records", -1, i, "no topk_ids_of_layer: the recorder's mode per_token writes it, no other does")
		}
		ids, ok := x.(*torch.Tensor)
		if !ok || len(ids.Shape) != 3 || ids.Shape[2] == 0 || ids.Shape[0] != len(layout.PhysicalToLogical) {
			return guard.Errorf(placement.ErrShape, "records", -1, i, "topk_ids_of_layer: a tensor [%d, tokens, k] is expected", len(layout.PhysicalToLogical))
		}
		if err := t.record(a, ids, &layout, i); err != nil {
			return fmt.Errorf("records, record %d: %w", i, err)
		}
	}
	return nil
}

// record reads the tokens of one record.
func (t *tokens) record(a *torch.Archive, ids *torch.Tensor, layout *placement.Placement, i int) error {
	for l, row := range layout.PhysicalToLogical {
		for n := range ids.Shape[1] {
			a.Work = 0 // bounded by the file
			token, err := a.Row(ids, l, n)
			if err != nil {
				return err
			}
			if slices.Min(token) < 0 || len(token) > 1 && slices.Min(token) == slices.Max(token) {
				continue // padding, or a dense layer's zeros
			}
			for k, v := range token {
				if v >= float64(len(row)) || v != math.Trunc(v) {
					return guard.Errorf(placement.ErrValue, "topk_ids_of_layer", l, n, "%v is no slot: there are %d", v, len(row))
				}
				token[k] = float64(row[int(v)])
			}
			if err := t.add(l, token); err != nil {
				return err
			}
		}
	}
	return nil
}
