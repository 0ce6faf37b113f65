// Package gunzip unpacks gzip for whoever reads files, and says in words what is wrong
// with one.
package gunzip

import (
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// Magic is what gzip starts with.
const Magic = "\x1f\x8b"

// New starts to unpack r. Errors, its own and those of reading: data that is no gzip,
// is damaged or cut short, as they say, and those of r; they wrap what they come from.
func New(r io.Reader) (io.Reader, error) {
	z, err := gzip.NewReader(r)
	if err != nil {
		return nil, said(err)
	}
	return reader{z}, nil
}

type reader struct{ z *gzip.Reader }

// Read is io.Reader's.
func (r reader) Read(p []byte) (int, error) {
	n, err := r.z.Read(p)
	if err != nil && err != io.EOF {
		err = said(err)
	}
	return n, err
}

func said(err error) error {
	flaw := flate.CorruptInputError(0)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), err == io.EOF:
		return fmt.Errorf("gzip: cut short, get the file anew: %w", err)
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, gzip.ErrHeader), errors.As(err, &flaw):
		return fmt.Errorf("gzip: damaged, get the file anew: %w", err)
	}
	return fmt.Errorf("gzip: %w", err)
}
