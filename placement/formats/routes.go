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
	return guard(func() (Routes, error) { return decodeRoutes(r, most, &standard) })
}

func decodeRoutes(r io.Reader, most int, lim *limits) (Routes, error) {
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
	lim    *limits
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
	if l >= t.lim.layers {
		return errorf(placement.ErrShape, routesField, -1, -1, "more than %d layers, the most that is supported", t.lim.layers)
	}
	for len(t.layers) <= l {
		t.layers = append(t.layers, thinned{stride: 1})
	}
	y := &t.layers[l]
	switch {
	case len(token) == 0 || len(token) > placement.MaxTopK:
		return errorf(placement.ErrShape, routesField, l, y.seen, "%d experts: between 1 and %d are supported", len(token), placement.MaxTopK)
	case t.topK == 0:
		t.topK = len(token)
	case len(token) != t.topK:
		return errorf(placement.ErrShape, routesField, l, y.seen, "%d experts, but the first token has %d", len(token), t.topK)
	}
	for i, e := range token {
		if !(e >= 0 && e < float64(t.lim.experts)) || e != math.Trunc(e) {
			return errorf(placement.ErrValue, routesField, l, y.seen, "%v is no expert's number below %d", e, t.lim.experts)
		}
		if slices.Contains(token[:i], e) {
			return errorf(placement.ErrValue, routesField, l, y.seen, "expert %d twice in a token", int(e))
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
				return errorf(placement.ErrShape, routesField, l, y.seen, "more than %d expert ids in all layers", placement.MaxRouteIDs)
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
		return Routes{}, errorf(placement.ErrShape, routesField, -1, -1, "no tokens")
	}
	experts := 0
	for l := range t.layers {
		experts = max(experts, len(t.layers[l].counts))
	}
	if len(t.layers)*experts > t.lim.cells {
		return Routes{}, errorf(placement.ErrShape, routesField, -1, -1, "%d layers of %d experts: at most %d numbers are supported", len(t.layers), experts, t.lim.cells)
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
	return s.array(routesField, -1, s.lim.layers, func(l int) error {
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
	text, err := npyHeaderText(b, t.lim)
	if err != nil {
		return err
	}
	a, err := parseNpyHeader(text)
	if err != nil {
		return err
	}
	if len(a.shape) != 3 || a.fortran || a.of.Kind != 'i' && a.of.Kind != 'u' || a.shape[0] > t.lim.layers || a.shape[2] > placement.MaxTopK || a.shape[2] == 0 {
		return errorf(placement.ErrShape, "npy", -1, -1, "shape %s of type %c%d: whole numbers (layers, tokens, k) are expected, not in Fortran's order, k between 1 and %d", shapeText(a.shape), a.of.Kind, a.of.Size, placement.MaxTopK)
	}
	raw := make([]byte, a.shape[2]*a.of.Size)
	token := make([]float64, a.shape[2])
	for l := range a.shape[0] {
		for i := range a.shape[1] {
			if _, err := io.ReadFull(b, raw); err != nil {
				return errorf(placement.ErrShape, "npy", l, i, "the input ends here, but the shape is %s", shapeText(a.shape))
			}
			a.of.Read(token, raw, a.of.Size)
			if err := t.add(l, token); err != nil {
				return err
			}
		}
	}
	if _, err := b.ReadByte(); err != io.EOF {
		return errorf(placement.ErrShape, "npy", -1, -1, "more bytes than shape %s needs", shapeText(a.shape))
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
				return errorf(placement.ErrShape, "csv, line 1", -1, -1, "a header is expected: token, and a column a layer")
			}
			continue
		}
		_, rest, _ := bytes.Cut(text, []byte(","))
		if n := bytes.Count(text, []byte(",")); n != columns {
			return errorf(placement.ErrShape, fmt.Sprintf("csv, line %d", line), -1, -1, "%d columns, but the header has %d", n+1, columns+1)
		}
		for l := range columns {
			var cell []byte
			cell, rest, _ = bytes.Cut(rest, []byte(","))
			token = token[:0]
			for field := range bytes.FieldsSeq(cell) {
				v, bad := parseNumber(field)
				if bad != "" {
					return errorf(placement.ErrValue, fmt.Sprintf("csv, line %d", line), l, len(token), "%s", bad)
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
			return errorf(placement.ErrValue, key, -1, -1, "unknown field: an object with routes alone is expected")
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
	a, x, err := openTorch(b, t.lim)
	if err != nil {
		return err
	}
	root, ok := x.(*pickleDict)
	if !ok {
		return errorf(placement.ErrShape, "pickle", -1, -1, "a dict with records is expected, as SGLang's recorder writes it in mode per_token")
	}
	layout, err := decodeLayout(root, a)
	if err != nil {
		return err
	}
	v, _ := root.get("records")
	records, ok := v.(*pickleList)
	if !ok || len(records.items) == 0 {
		return errorf(placement.ErrShape, "records", -1, -1, "a list of at least one record is expected")
	}
	for i, x := range records.items {
		record, ok := x.(*pickleDict)
		if !ok {
			return errorf(placement.ErrValue, "records", -1, i, "not a dict")
		}
		x, ok := record.get("topk_ids_of_layer")
		if !ok {
			return errorf(placement.ErrShape, "records", -1, i, "no topk_ids_of_layer: the recorder's mode per_token writes it, no other does")
		}
		ids, ok := x.(*tensor)
		if !ok || len(ids.shape) != 3 || ids.shape[2] == 0 || ids.shape[0] != len(layout.PhysicalToLogical) {
			return errorf(placement.ErrShape, "records", -1, i, "topk_ids_of_layer: a tensor [%d, tokens, k] is expected", len(layout.PhysicalToLogical))
		}
		if err := t.record(a, ids, &layout, i); err != nil {
			return fmt.Errorf("records, record %d: %w", i, err)
		}
	}
	return nil
}

// record reads the tokens of one record.
func (t *tokens) record(a *archive, ids *tensor, layout *placement.Placement, i int) error {
	for l, row := range layout.PhysicalToLogical {
		for n := range ids.shape[1] {
			a.work = 0 // bounded by the file
			token, err := a.row(ids, l, n)
			if err != nil {
				return err
			}
			if slices.Min(token) < 0 || len(token) > 1 && slices.Min(token) == slices.Max(token) {
				continue // padding, or a dense layer's zeros
			}
			for k, v := range token {
				if v >= float64(len(row)) || v != math.Trunc(v) {
					return errorf(placement.ErrValue, "topk_ids_of_layer", l, n, "%v is no slot: there are %d", v, len(row))
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
