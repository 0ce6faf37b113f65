package formats

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"

	"github.com/moelb/moelb/placement"
)

// limits bounds what one input may ask for. Tests inject smaller ones.
type limits struct {
	layers, experts, slots, gpus int
	cells                        int   // layers times experts, layers times slots
	kept                         int   // numbers of all windows together: beyond, windows are added up
	windows                      int   // windows: beyond, they are added up
	stream                       int64 // bytes of statistics, decompressed
	placement                    int64 // bytes of a placement, decompressed
	memory                       int64 // bytes of an input that is held as a whole, and of its tensors
	file                         int64 // bytes of a .pt that is read in place
	objects                      int   // values of a pickle that are held at once
	header                       int   // bytes of a header
	buffer                       int   // bytes of a read buffer
}

var standard = limits{
	layers: placement.MaxLayers, experts: placement.MaxExperts, slots: placement.MaxSlots, gpus: placement.MaxGPUs, cells: placement.MaxCells, kept: 1 << 25, windows: 1 << 18,
	stream: 1 << 30, placement: 128 << 20, memory: 256 << 20, file: 8 << 30, objects: 1 << 21, header: 16 << 20, buffer: 64 << 10,
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
	if head, _ := b.Peek(9); isSafetensors(head) {
		return b, nil // whose first bytes may be any
	}
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
