package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moelb/moelb/placement"
)

// handler carries out the lines of a session. For each line, field is called for
// every field but op, in the order of the line, then reply; reset before them.
type handler interface {
	// fields lists what each operation takes; those that start with "?" are
	// optional.
	fields() map[string][]string
	reset()
	// field reads a value; s stands before it.
	field(s *scanner, key string) error
	// reply carries the operation out and appends its reply, one line without
	// its end. On an error nothing may have changed.
	reply(op string, e *encoder) error
}

// maxLine bounds one line of a session.
const maxLine = 1 << 26

var errLongLine = fmt.Errorf("the line is longer than %d MiB", maxLine>>20)

// serve answers the lines of r, each with one line, in order. A line that fails is
// answered with its error. Replies are written out before a read may block.
func serve(r *bufio.Reader, w io.Writer, h handler) error {
	out := bufio.NewWriterSize(w, 1<<16)
	c := conversation{h: h, fields: h.fields()}
	for {
		if ahead, _ := r.Peek(r.Buffered()); bytes.IndexByte(ahead, '\n') < 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := c.read(r)
		if err == io.EOF {
			return out.Flush()
		}
		if err == nil {
			err = c.answer(line)
		} else if err != errLongLine {
			return errors.Join(err, out.Flush())
		}
		if err != nil {
			c.e.b = c.e.b[:0]
			c.e.raw(`{"error":`)
			c.e.name(oneLine(err))
			c.e.raw("}")
		}
		c.e.raw("\n")
		if _, err := out.Write(c.e.b); err != nil {
			return err
		}
	}
}

type conversation struct {
	h      handler
	fields map[string][]string
	line   []byte
	given  []string
	s      scanner
	e      encoder
}

// read returns the next line without its end.
func (c *conversation) read(r *bufio.Reader) ([]byte, error) {
	c.line = c.line[:0]
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(c.line)+len(part) > maxLine; !long {
			c.line = append(c.line, part...)
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && (len(c.line) > 0 || long):
			err = nil
		}
		if err == nil && long {
			err = errLongLine
		}
		return bytes.TrimSuffix(c.line, []byte("\n")), err
	}
}

// noMore is a reader at its end.
type noMore struct{}

func (noMore) Read([]byte) (int, error) { return 0, io.EOF }

// answer carries out one line and leaves the reply in c.e.
func (c *conversation) answer(line []byte) error {
	c.s = scanner{r: noMore{}, buf: line, end: len(line), tok: c.s.tok[:0]}
	c.e.b = c.e.b[:0]
	c.given = c.given[:0]
	c.h.reset()
	op := ""
	err := c.s.object("line", func(key string) (err error) {
		if key == "op" {
			op, err = c.s.string(key)
			return err
		}
		c.given = append(c.given, key)
		return c.h.field(&c.s, key)
	})
	if err == nil {
		err = c.s.finish("line")
	}
	if err != nil {
		return err
	}
	if op == "" {
		return bad(placement.ErrShape, "op", -1, -1, "missing")
	}
	known, ok := c.fields[op]
	if !ok {
		return bad(placement.ErrValue, "op", -1, -1, "%.40q is unknown", op)
	}
	for _, key := range c.given {
		if !slices.ContainsFunc(known, func(k string) bool { return strings.TrimPrefix(k, "?") == key }) {
			return bad(placement.ErrValue, key, -1, -1, "%s has no such field", op)
		}
	}
	for _, key := range known {
		if key[0] != '?' && !slices.Contains(c.given, key) {
			return bad(placement.ErrShape, key, -1, -1, "missing")
		}
	}
	return c.h.reply(op, &c.e)
}

// id reads a name that the caller chose, with JSON's escapes.
func (s *scanner) id(field string) (string, error) {
	if s.peek() != '"' {
		return "", s.wanted("a string", field, -1, -1)
	}
	rest := s.buf[s.pos:s.end]
	for i := 1; i < len(rest) && i <= longest; i++ {
		switch c := rest[i]; {
		case c < ' ':
			return "", bad(placement.ErrValue, field, -1, -1, "a string holds a control character")
		case c == '\\':
			i++
		case c == '"':
			s.pos += i + 1
			if text := rest[1:i]; bytes.IndexByte(text, '\\') < 0 {
				return string(text), nil
			}
			var text string
			if json.Unmarshal(rest[:i+1], &text) != nil {
				return "", bad(placement.ErrValue, field, -1, -1, "a string with an escape that is not JSON")
			}
			return text, nil
		}
	}
	return "", bad(placement.ErrValue, field, -1, -1, "a string without end, or longer than %d bytes", longest)
}

// name writes a string of the caller's.
func (e *encoder) name(text string) {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			b, _ := json.Marshal(text)
			e.b = append(e.b, b...)
			return
		}
	}
	e.raw(`"`)
	e.raw(text)
	e.raw(`"`)
}

// each reads a list and calls item for each of its values, at most most.
func (s *scanner) each(field string, most int, item func(index int) error) error {
	if !s.take('[') {
		return s.wanted("a list", field, -1, -1)
	}
	for i := 0; !s.take(']'); i++ {
		if i > 0 && !s.take(',') {
			return s.wanted(`"," or "]"`, field, -1, i)
		}
		if i == most {
			return bad(placement.ErrShape, field, -1, -1, "more than %d", most)
		}
		if err := item(i); err != nil {
			return err
		}
	}
	return nil
}
