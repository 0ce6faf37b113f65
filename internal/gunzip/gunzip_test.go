package gunzip

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestNew(t *testing.T) {
	text := strings.Repeat("1,2,3\n", 1000)
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	whole := b.Bytes()
	flip := func(at int) []byte {
		c := bytes.Clone(whole)
		c[at] ^= 0xff
		return c
	}
	broken := errors.New("broken pipe")
	for _, c := range []struct {
		name string
		in   io.Reader
		want string
		is   error
	}{
		{"whole", bytes.NewReader(whole), "", nil},
		{"nothing", strings.NewReader(""), "gzip: cut short", io.EOF},
		{"cut in its header", bytes.NewReader(whole[:5]), "gzip: cut short", io.ErrUnexpectedEOF},
		{"cut in the middle", bytes.NewReader(whole[:len(whole)/2]), "gzip: cut short", io.ErrUnexpectedEOF},
		{"cut before its checksum", bytes.NewReader(whole[:len(whole)-8]), "gzip: cut short", io.ErrUnexpectedEOF},
		{"another checksum", bytes.NewReader(flip(len(whole) - 8)), "gzip: damaged", gzip.ErrChecksum},
		{"no such header", bytes.NewReader(flip(2)), "gzip: damaged", gzip.ErrHeader},
		{"a flaw", bytes.NewReader(flip(12)), "gzip: damaged", nil},
		{"what cannot be read", io.MultiReader(bytes.NewReader(whole[:20]), iotest.ErrReader(broken)), "gzip: broken pipe", broken},
	} {
		r, err := New(c.in)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
		}
		switch {
		case c.want == "" && (err != nil || string(got) != text):
			t.Errorf("%s: %d bytes, %v", c.name, len(got), err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want) || c.is != nil && !errors.Is(err, c.is)):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
