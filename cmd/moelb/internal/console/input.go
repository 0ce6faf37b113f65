package console

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/internal/gunzip"
	"github.com/moelb/moelb/placement"
)

// Input is what a command reads: a file, a folder (path alone), or standard input.
type Input struct {
	Path  string // "" = standard input
	Whole bool   // a folder or a regular file, which formats.ReadStats can read by its path
	R     *bufio.Reader
	file  *os.File
}

// maxInput bounds what is read of one input, unpacked.
const maxInput = 1 << 30

var ErrEmpty = errors.New("the input is empty")

// Open opens the argument, "-" or nothing for standard input, and unpacks gzip.
// It returns nil where no input is given at all: no argument, and standard
// input is neither a pipe nor a file.
func (c *Console) Open(args []string) (*Input, error) {
	in := &Input{}
	var raw io.Reader = c.Stdin
	switch {
	case len(args) > 0 && args[0] != "-":
		f, err := os.Open(args[0])
		if err != nil {
			return nil, err
		}
		in.Path, in.file, raw = args[0], f, f
		info, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		in.Whole = info.IsDir() || info.Mode().IsRegular()
		if info.IsDir() {
			return in, nil
		}
	case len(args) == 0 && !Piped(c.Stdin):
		return nil, nil
	}
	r, err := unpacked(raw)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", in.Name(), err), in.Close())
	}
	in.R = r
	return in, nil
}

// OpenFor opens the file that a flag names, "-" for standard input.
func (c *Console) OpenFor(flag, path string) (*Input, error) {
	in, err := c.Open([]string{path})
	if err != nil {
		err = fmt.Errorf("%s: %w", flag, err)
	}
	return in, err
}

func (in *Input) Name() string {
	if in.Path == "" {
		return "standard input"
	}
	return in.Path
}

// Named is the name, "" without an input.
func (in *Input) Named() string {
	if in == nil {
		return ""
	}
	return in.Name()
}

// Named says which input an error is about, once; "" = none.
func Named(name string, err error) error {
	var path *fs.PathError
	if err == nil || name == "" || errors.As(err, &path) || errors.As(err, &UsageError{}) {
		return err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// Blame says what an error about a field is of: the flag that was given in the
// field's place, or the input of that name.
func Blame(cmd *cobra.Command, name string, err error) error {
	var at *placement.Error
	if !errors.As(err, &at) {
		return Named(name, err)
	}
	field, part, _ := strings.Cut(at.Field, ".")
	flag := cmd.Flags().Lookup(strings.ReplaceAll(strings.TrimPrefix(field, "num_"), "_", "-"))
	if flag == nil || !flag.Changed || field == "loads" { // whose flag names the input
		return Named(name, err)
	}
	said := *at
	said.Field = "--" + flag.Name
	if field == "previous" || field == "routes" { // of another file
		said.Field = strings.TrimSuffix(said.Field+" "+flag.Value.String()+": "+part, ": ")
	}
	return &said
}

func (in *Input) Close() error {
	if in.file == nil {
		return nil
	}
	return in.file.Close()
}

// Piped reports whether standard input holds something: a pipe, a socket or a
// file, but neither a terminal nor /dev/null.
func Piped(stdin io.Reader) bool {
	f, ok := stdin.(*os.File)
	if !ok {
		return stdin != nil
	}
	info, err := f.Stat()
	return err == nil && (info.Mode().IsRegular() || info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0)
}

// unpacked returns a reader of r, through gzip where r starts like it, that
// ends with an error beyond maxInput.
func unpacked(r io.Reader) (*bufio.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	if head, _ := b.Peek(9); len(head) == 9 && head[8] == '{' && head[4]|head[5]|head[6]|head[7] == 0 {
		return bufio.NewReaderSize(&bounded{b, maxInput}, 1<<16), nil // safetensors, whose length may be any
	}
	if head, _ := b.Peek(2); string(head) == gunzip.Magic {
		z, err := gunzip.New(b)
		if err != nil {
			return nil, err
		}
		b = bufio.NewReaderSize(&bounded{z, maxInput}, 1<<16)
	} else {
		b = bufio.NewReaderSize(&bounded{b, maxInput}, 1<<16)
	}
	head, err := b.Peek(3)
	if len(head) == 0 && err != io.EOF {
		return nil, err // not an input that is empty
	}
	if string(head) == "\xef\xbb\xbf" {
		b.Discard(3) // a byte order mark
	}
	return b, nil
}

// bounded is io.LimitReader with an error at its end.
type bounded struct {
	r    io.Reader
	left int
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, fmt.Errorf("more than %d MiB are not read", maxInput>>20)
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// FirstField returns the name of the first field where the input starts with a
// JSON object, and the first byte that is not white space (0 = none).
func (in *Input) FirstField() (first byte, name string) {
	head, _ := in.R.Peek(1 << 12)
	text := strings.TrimLeft(string(head), " \t\r\n")
	switch {
	case text == "":
		return 0, ""
	case text[0] == 0: // a length's first byte
		return 1, ""
	}
	if text[0] != '{' {
		return text[0], ""
	}
	name = strings.TrimLeft(text[1:], " \t\r\n")
	if !strings.HasPrefix(name, `"`) {
		return '{', ""
	}
	name, _, _ = strings.Cut(name[1:], `"`)
	return '{', name
}
