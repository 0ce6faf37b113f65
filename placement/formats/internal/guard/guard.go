// Package guard keeps hostile input harmless: how much it may ask for, readers that
// go no further, and the errors that say so.
package guard

import (
	"bytes"
	"fmt"
	"io"

	"github.com/moelb/moelb/placement"
)

// Limits bounds what one input may ask for. Tests inject smaller ones.
type Limits struct {
	Layers, Experts, Slots, GPUs int
	Cells                        int   // layers times experts, layers times slots
	Kept                         int   // numbers of all windows together: beyond, windows are added up
	Windows                      int   // windows: beyond, they are added up
	Stream                       int64 // bytes of statistics, decompressed
	Placement                    int64 // bytes of a placement, decompressed
	Memory                       int64 // bytes of an input that is held as a whole, and of its tensors
	File                         int64 // bytes of a .pt that is read in place
	Objects                      int   // values of a pickle that are held at once
	Header                       int   // bytes of a header
	Buffer                       int   // bytes of a read buffer
}

// Standard are the limits of the package's readers.
var Standard = Limits{
	Layers: placement.MaxLayers, Experts: placement.MaxExperts, Slots: placement.MaxSlots, GPUs: placement.MaxGPUs, Cells: placement.MaxCells, Kept: 1 << 25, Windows: 1 << 18,
	Stream: 1 << 30, Placement: 128 << 20, Memory: 256 << 20, File: 8 << 30, Objects: 1 << 21, Header: 16 << 20, Buffer: 64 << 10,
}

// Capped reads at most left bytes and then fails, where io.LimitReader would
// make a cut input look complete.
type Capped struct {
	r    io.Reader
	left int64
	max  int64
	from *Capped // what r decompresses; nil = nothing
}

// A stream that decompresses to more than BombRatio times its size is refused
// once it is longer than BombSize: counts shrink by a factor of 2 to 20.
const (
	BombRatio = 200
	BombSize  = 16 << 20
)

// Cap reads at most max bytes of r, which may be what from decompresses to.
func Cap(r io.Reader, max int64, from *Capped) *Capped {
	return &Capped{r: r, left: max, max: max, from: from}
}

func (c *Capped) Read(p []byte) (int, error) {
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
	if out := c.max - c.left; c.from != nil && out > BombSize && out/BombRatio > c.from.max-c.from.left {
		return n, fmt.Errorf("gzip: the input decompresses to more than %d times its size", BombRatio)
	}
	return n, err
}

// Slurp reads what is left of r, at most max bytes.
func Slurp(r io.Reader, max int64) ([]byte, error) {
	var b bytes.Buffer
	_, err := b.ReadFrom(Cap(r, max, nil))
	return b.Bytes(), err
}
