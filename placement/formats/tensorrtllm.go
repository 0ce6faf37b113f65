package formats

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// yamlReader reads the little YAML that a moe_load_balancer.yaml is made of:
// a mapping of three keys, one of which maps layers to lists of numbers, in
// block or flow style, over as many lines as they like; comments; a document
// start. Anchors, tags, quotes and the rest of YAML are refused by line.
type yamlReader struct {
	b      *bufio.Reader
	line   int
	indent int // of the line that is being read
	lim    *guard.Limits
}

func (y *yamlReader) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", y.line, fmt.Sprintf(format, args...))
}

const maxLines = 1 << 22

// text reads the next line that holds something, without indent and comment.
func (y *yamlReader) text() ([]byte, error) {
	var line []byte
	for {
		part, err := y.b.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > 16*y.lim.Slots {
			return nil, y.errorf("the line is longer than %d bytes", 16*y.lim.Slots)
		}
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if len(line) == 0 {
			return nil, io.EOF
		}
		if y.line++; y.line > maxLines {
			return nil, y.errorf("more than %d lines", maxLines)
		}
		if i := bytes.IndexByte(line, '#'); i == 0 || (i > 0 && (line[i-1] == ' ' || line[i-1] == '\t')) {
			line = line[:i]
		}
		line = bytes.TrimRight(line, " \t\r\n")
		held := bytes.TrimLeft(line, " ")
		y.indent = len(line) - len(held)
		if len(held) > 0 && held[0] == '\t' {
			return nil, y.errorf("a tab in the indent")
		}
		if len(held) > 0 && !(y.indent == 0 && string(held) == "---") {
			return held, nil
		}
		line = line[:0]
	}
}

// balancerFile is what the file says; -1 = not given.
type balancerFile struct {
	slots  int
	layers []layerList
	given  bool
}

type layerList struct {
	layer, line int
	row         []int
}

// decodeTensorRTLLM reads moe_load_balancer.yaml. The rows of the placement are
// its layers in ascending order.
func decodeTensorRTLLM(b *bufio.Reader, gpus int, lim *guard.Limits) (placement.Placement, error) {
	y := &yamlReader{b: b, lim: lim}
	f, err := y.read()
	if err != nil {
		return placement.Placement{}, err
	}
	const field = "initial_global_assignments"
	if !f.given {
		return placement.Placement{}, errors.New("not a known placement format: YAML without initial_global_assignments")
	}
	slices.SortStableFunc(f.layers, func(a, b layerList) int { return a.layer - b.layer })
	p := placement.Placement{GPUs: gpus}
	for i, l := range f.layers {
		if i > 0 && f.layers[i-1].layer == l.layer {
			return p, fmt.Errorf("line %d: layer %d stands there twice", l.line, l.layer)
		}
		if f.slots >= 0 && len(l.row) != f.slots {
			return p, guard.Errorf(placement.ErrShape, field, l.layer, -1, "%d slots, but num_slots is %d", len(l.row), f.slots)
		}
		p.PhysicalToLogical = append(p.PhysicalToLogical, l.row)
	}
	p.Experts = expertsOf(p.PhysicalToLogical)
	if err := gpusOf(gpus, TensorRTLLM); err != nil {
		return p, err
	}
	if err := complete(&p); err != nil {
		var e *placement.Error
		if errors.As(err, &e) && e.Layer >= 0 && e.Layer < len(f.layers) {
			e.Layer = f.layers[e.Layer].layer
		}
		return p, renamedMap(err, field)
	}
	return p, nil
}

func (y *yamlReader) read() (balancerFile, error) {
	f := balancerFile{slots: -1}
	cells := 0
	seen := map[string]bool{}
	text, err := y.text()
	for err == nil {
		if y.indent != 0 {
			return f, y.errorf("a key without indent is expected")
		}
		key, value, ok := bytes.Cut(text, []byte(":"))
		name := string(key)
		if !ok || (len(value) > 0 && value[0] != ' ') {
			return f, y.errorf("\"key: value\" is expected, found %s", guard.Quote(string(text)))
		}
		if seen[name] {
			return f, y.errorf("the key %s stands there twice", guard.Quote(name))
		}
		value = bytes.TrimLeft(value, " ")
		switch name {
		case "num_slots", "layer_updates_per_iter":
			n, bad := y.integer(value)
			if bad != nil {
				return f, fmt.Errorf("%w for %s", bad, name)
			}
			if name == "num_slots" {
				if f.slots = n; n < 1 || n > y.lim.Slots {
					return f, y.errorf("num_slots %d: between 1 and %d are supported", n, y.lim.Slots)
				}
			}
			text, err = y.text()
		case "initial_global_assignments":
			f.given = true
			if len(value) > 0 {
				return f, y.errorf("initial_global_assignments: one line a layer is expected, found %s", guard.Quote(string(value)))
			}
			text, err = y.assignments(&f, &cells)
		default:
			return f, y.errorf("%s is not a key of moe_load_balancer.yaml (num_slots, initial_global_assignments, layer_updates_per_iter)", guard.Quote(name))
		}
		seen[name] = true
	}
	if err != io.EOF {
		return f, err
	}
	return f, nil
}

// assignments reads the indented lines "layer: [..]", or "layer:" and a line
// "- expert" each; it returns the first line after them.
func (y *yamlReader) assignments(f *balancerFile, cells *int) ([]byte, error) {
	text, err := y.text()
	block := y.indent
	for err == nil && y.indent > 0 {
		key, value, ok := bytes.Cut(text, []byte(":"))
		if !ok || y.indent != block || (len(value) > 0 && value[0] != ' ') {
			return nil, y.errorf("\"layer: [experts]\" is expected, found %s", guard.Quote(string(text)))
		}
		layer, bad := y.integer(key)
		if bad != nil {
			return nil, bad
		}
		if layer < 0 || len(f.layers) >= y.lim.Layers {
			return nil, y.errorf("layer %d: from 0, and at most %d of them", layer, y.lim.Layers)
		}
		l := layerList{layer: layer, line: y.line}
		if value = bytes.TrimLeft(value, " "); len(value) > 0 {
			l.row, err = y.flow(value, layer)
			if err == nil {
				text, err = y.text()
			}
		} else {
			l.row, text, err = y.block(layer, block)
		}
		if err != nil && err != io.EOF {
			return nil, err
		}
		if *cells += len(l.row); *cells > y.lim.Cells {
			return nil, y.errorf("at most %d slots in all layers are supported", y.lim.Cells)
		}
		f.layers = append(f.layers, l)
	}
	return text, err
}

// flow reads [1, 2, 3], over several lines if need be.
func (y *yamlReader) flow(text []byte, layer int) ([]int, error) {
	if text[0] != '[' {
		return nil, y.errorf("layer %d: '[' is expected, found %s", layer, guard.Quote(string(text)))
	}
	text = text[1:]
	var row []int
	comma := true // one stands before the next number, or none is needed
	for {
		text = bytes.TrimLeft(text, " \t")
		switch {
		case len(text) == 0:
			var err error
			if text, err = y.text(); err != nil {
				if err == io.EOF {
					err = y.errorf("layer %d: the list does not end", layer)
				}
				return nil, err
			}
		case text[0] == ']' && len(text) == 1:
			return row, nil
		case text[0] == ']':
			return nil, y.errorf("layer %d: %s after the list", layer, guard.Quote(string(text[1:])))
		case text[0] == ',' && !comma:
			text, comma = text[1:], true
		case !comma || text[0] == ',':
			return nil, y.errorf("layer %d, index %d: a comma is expected between two numbers, found %s", layer, len(row), guard.Quote(string(text)))
		default:
			end := bytes.IndexAny(text, ", ]\t")
			if end < 0 {
				end = len(text)
			}
			e, err := y.integer(text[:end])
			if err != nil {
				return nil, fmt.Errorf("%w in layer %d, index %d", err, layer, len(row))
			}
			if len(row) >= y.lim.Slots {
				return nil, y.errorf("layer %d: at most %d slots are supported", layer, y.lim.Slots)
			}
			row, text, comma = append(row, e), text[end:], false
		}
	}
}

// block reads lines "- 1"; it returns the first line after them.
func (y *yamlReader) block(layer, indent int) (row []int, text []byte, err error) {
	for {
		if text, err = y.text(); err != nil {
			return row, nil, err
		}
		item, ok := bytes.CutPrefix(text, []byte("- "))
		if !ok || y.indent < indent {
			return row, text, nil
		}
		e, bad := y.integer(bytes.TrimLeft(item, " "))
		if bad != nil {
			return nil, nil, fmt.Errorf("%w in layer %d, index %d", bad, layer, len(row))
		}
		if len(row) >= y.lim.Slots {
			return nil, nil, y.errorf("layer %d: at most %d slots are supported", layer, y.lim.Slots)
		}
		row = append(row, e)
	}
}

func (y *yamlReader) integer(text []byte) (int, error) {
	if len(text) == 0 || len(text) > 11 || !(text[0] == '-' || (text[0] >= '0' && text[0] <= '9')) {
		return 0, y.errorf("%s is not a whole number", guard.Quote(string(text)))
	}
	n, err := strconv.ParseInt(string(text), 10, 32)
	if err != nil {
		return 0, y.errorf("%s is not a whole number of at most 31 bits", guard.Quote(string(text)))
	}
	return int(n), nil
}

// encodeTensorRTLLM writes the layers under their absolute numbers.
func encodeTensorRTLLM(p *placement.Placement, ids []int) ([]byte, error) {
	if err := even(p, TensorRTLLM); err != nil {
		return nil, err
	}
	b := fmt.Appendf(nil, "num_slots: %d\ninitial_global_assignments:\n", p.Slots())
	for l, row := range p.PhysicalToLogical {
		b = append(appendInts(fmt.Appendf(b, "  %d: ", ids[l]), row), '\n')
	}
	return append(b, "layer_updates_per_iter: 0\n"...), nil
}
