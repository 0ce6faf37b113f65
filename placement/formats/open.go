package formats

import (
	"bufio"
	"fmt"
	"io"

	"github.com/moelb/moelb/internal/gunzip"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// open starts reading a stream: at most max bytes, decompressed, without byte
// order mark.
func open(r io.Reader, max int64, lim *guard.Limits) (*bufio.Reader, error) {
	in := guard.Cap(r, max, nil)
	b := bufio.NewReaderSize(in, lim.Buffer)
	if head, _ := b.Peek(9); isSafetensors(head) {
		return b, nil // whose first bytes may be any
	}
	if head, _ := b.Peek(2); string(head) == gunzip.Magic {
		z, err := gunzip.New(b)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(guard.Cap(z, max, in), lim.Buffer)
		if head, _ := b.Peek(2); string(head) == gunzip.Magic {
			return nil, fmt.Errorf("gzip within gzip")
		}
	}
	if head, _ := b.Peek(3); string(head) == "\xef\xbb\xbf" {
		b.Discard(3)
	}
	return b, nil
}
