package session

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// Serve answers the lines of r, each with one line, in order. A line that fails is
// answered with its error. Replies are written out before a read may block.
func (s *Session) Serve(r *bufio.Reader, w io.Writer) error {
	out := bufio.NewWriterSize(w, 1<<16)
	var line, reply []byte
	for {
		if ahead, _ := r.Peek(r.Buffered()); bytes.IndexByte(ahead, '\n') < 0 {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		var err error
		if line, err = read(line[:0], r); err == io.EOF {
			return out.Flush()
		} else if err != nil {
			return errors.Join(err, out.Flush())
		}
		reply = append(s.Answer(reply[:0], line), '\n')
		if _, err := out.Write(reply); err != nil {
			return err
		}
	}
}

// read appends the next line without its end. Of one that is too long it keeps
// enough for that to be seen.
func read(line []byte, r *bufio.Reader) ([]byte, error) {
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if !long {
			line = append(line, part...)
			long = len(line) > MaxLine+1 // its end is no part of it
		}
		switch {
		case err == bufio.ErrBufferFull:
			continue
		case err == io.EOF && len(line) > 0:
			err = nil
		}
		return bytes.TrimSuffix(line, []byte("\n")), err
	}
}
