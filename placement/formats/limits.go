package formats

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"

	"github.com/moelb/moelb/placement"
)

// limits bounds what one input may ask for. Tests inject smaller ones.
type limits struct {
	layers, experts, slots, gpus int
	cells                        int // numbers of all windows together; layers times slots
	windows                      int
	stream                       int64 // bytes of statistics, decompressed
	placement                    int64 // bytes of a placement, decompressed
	memory                       int64 // bytes of an input that is held as a whole, and of its tensors
	pickle                       int   // bytes of a pickle
	objects                      int   // values that a pickle makes
	header                       int   // bytes of a header
	buffer                       int   // bytes of a read buffer
}

var standard = limits{
	layers: placement.MaxLayers, experts: placement.MaxExperts, slots: placement.MaxSlots, gpus: placement.MaxGPUs, cells: placement.MaxCells, windows: 1 << 18,
	stream: 1 << 30, placement: 128 << 20, memory: 256 << 20, pickle: 32 << 20, objects: 1 << 22, header: 16 << 20, buffer: 64 << 10,
}

// capped reads at most left bytes and then fails, where io.LimitReader would
// make a cut input look complete.
type capped struct {
	r    io.Reader
	left int64
	max  int64
	from *capped // what r decompresses; nil = nothing
}

// A stream that decompresses to more than bombRatio times its size is refused
// once it is longer than bombSize: counts shrink by a factor of 2 to 20.
const (
	bombRatio = 200
	bombSize  = 16 << 20
)

func (c *capped) Read(p []byte) (int, error) {
	if c.left <= 0 {
		var one [1]byte
		if n, err := c.r.Read(one[:]); n == 0 {
			return 0, err
		}
		return 0, fmt.Errorf("the input is longer than %d bytes (decompressed), which is the most that is read", c.max)
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	n, err := c.r.Read(p)
	c.left -= int64(n)
	if out := c.max - c.left; c.from != nil && out > bombSize && out/bombRatio > c.from.max-c.from.left {
		return n, fmt.Errorf("gzip: the input decompresses to more than %d times its size", bombRatio)
	}
	return n, err
}

// open starts reading a stream: at most max bytes, decompressed, without byte
// order mark.
func open(r io.Reader, max int64, lim *limits) (*bufio.Reader, error) {
	in := &capped{r: r, left: max, max: max}
	b := bufio.NewReaderSize(in, lim.buffer)
	if head, _ := b.Peek(2); string(head) == gzipMagic {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("gzip: %w", err)
		}
		b = bufio.NewReaderSize(&capped{r: z, left: max, max: max, from: in}, lim.buffer)
		if head, _ := b.Peek(2); string(head) == gzipMagic {
			return nil, fmt.Errorf("gzip within gzip")
		}
	}
	if head, _ := b.Peek(3); string(head) == "\xef\xbb\xbf" {
		b.Discard(3)
	}
	return b, nil
}

const gzipMagic = "\x1f\x8b"

// slurp reads what is left of r, at most max bytes.
func slurp(r io.Reader, max int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := b.ReadFrom(&capped{r: r, left: max, max: max})
	return b.Bytes(), err
}

// table collects windows of one shape, row by row, and checks what it is given.
type table struct {
	lim     *limits
	field   string
	windows []placement.Loads
	rows    placement.Loads // of the window that is being read
	label   string          // field and window, from the second window on
	cells   int
}

// most is the largest load: a layer's sum stays finite.
const most = math.MaxFloat64 / (4 * placement.MaxExperts)

// name is the field, with the window where there are several.
func (t *table) name() string {
	if t.label == "" {
		return t.field
	}
	return t.label
}

// add copies one more layer.
func (t *table) add(row []float64) error {
	l := len(t.rows)
	experts := len(row)
	switch {
	case l > 0:
		experts = len(t.rows[0])
	case len(t.windows) > 0:
		experts = t.windows[0].Experts()
	}
	switch {
	case len(row) == 0:
		return errorf(placement.ErrShape, t.name(), l, -1, "no experts")
	case len(row) > t.lim.experts:
		return errorf(placement.ErrShape, t.name(), l, -1, "at most %d experts are supported", t.lim.experts)
	case len(row) != experts:
		return errorf(placement.ErrShape, t.name(), l, -1, "%d experts, but layer 0 has %d", len(row), experts)
	case l >= t.lim.layers:
		return errorf(placement.ErrShape, t.name(), -1, -1, "at most %d layers are supported", t.lim.layers)
	case t.cells+len(row) > t.lim.cells:
		return errorf(placement.ErrShape, t.name(), l, -1, "at most %d numbers in all windows together are supported", t.lim.cells)
	}
	for e, v := range row {
		if err := t.check(l, e, v); err != nil {
			return err
		}
	}
	t.cells += max(len(row), 16) // a row costs memory by itself
	t.rows = append(t.rows, append(make([]float64, 0, len(row)), row...))
	return nil
}

func (t *table) check(layer, index int, v float64) error {
	switch {
	case v >= 0 && v <= most:
		return nil
	case v < 0:
		return errorf(placement.ErrValue, t.name(), layer, index, "%v is negative", v)
	case v > most && v <= math.MaxFloat64:
		return errorf(placement.ErrValue, t.name(), layer, index, "%v is too large to add up", v)
	}
	return errorf(placement.ErrValue, t.name(), layer, index, "%v is not a finite number", v)
}

// end closes a window.
func (t *table) end() error {
	switch {
	case len(t.rows) == 0:
		return errorf(placement.ErrShape, t.name(), -1, -1, "no layers")
	case len(t.windows) > 0 && len(t.rows) != len(t.windows[0]):
		return errorf(placement.ErrShape, t.name(), -1, -1, "%d layers, but window 0 has %d", len(t.rows), len(t.windows[0]))
	case len(t.windows) >= t.lim.windows:
		return errorf(placement.ErrShape, t.field, -1, -1, "at most %d windows are supported", t.lim.windows)
	}
	t.windows = append(t.windows, t.rows)
	t.label = fmt.Sprintf("%s, window %d", t.field, len(t.windows))
	t.rows = nil
	return nil
}

// stats is what the table holds, once every window is closed.
func (t *table) stats(format string) (Stats, error) {
	if len(t.windows) == 0 {
		return Stats{}, errorf(placement.ErrShape, t.field, -1, -1, "no windows")
	}
	return Stats{Windows: t.windows, Format: format}, nil
}
