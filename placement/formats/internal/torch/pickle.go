package torch

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/bits"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// What a pickle can hold here, beside nil, bool, int64, float64 and string.
type (
	List struct {
		Items []any
		Plain int // numbers, strings and the like, which are not held: no list of them is needed
	}
	Tuple   struct{ Items []any }
	Dict    struct{ keys, values []any }
	Name    string // a global: module.name, one of names
	storage struct {
		class string // as PyTorch calls its type
		of    matrix.Type
		key   string // its entry in the zip: data/<key>
		size  int    // elements
	}
)

// Get returns the value of a string key, the last if it stands there twice, as
// a Python dict has it.
func (d *Dict) Get(key string) (any, bool) {
	for i := len(d.keys) - 1; i >= 0; i-- {
		if d.keys[i] == key {
			return d.values[i], true
		}
	}
	return nil, false
}

func (d *Dict) Integer(key string) (int64, bool) {
	x, _ := d.Get(key)
	n, ok := x.(int64)
	return n, ok
}

// names are the globals that may be named; none of them runs anything.
var names = map[Name]bool{"torch._utils._rebuild_tensor_v2": true, "collections.OrderedDict": true}

// maxKeys bounds the keys of one dict, which are searched one by one.
const maxKeys = 64

// unpickler interprets the operations that torch.save uses (protocols 2 to 5).
// Nothing is executed: _rebuild_tensor_v2 and OrderedDict become plain values
// and every other name or operation is refused.
type unpickler struct {
	r     *bufio.Reader
	pos   int64
	stack []any
	marks []int
	memo  map[uint32]any
	made  int // values that may be held: what the stack and lists of numbers take is bounded beside
	lim   *guard.Limits
}

// Unpickle reads a pickle as a stream.
func Unpickle(r io.Reader, lim *guard.Limits) (any, error) {
	u := &unpickler{r: bufio.NewReaderSize(r, lim.Buffer), memo: map[uint32]any{}, lim: lim}
	for {
		op, err := u.byte()
		if err != nil {
			return nil, err
		}
		if op == '.' {
			return u.pop()
		}
		if err := u.step(op); err != nil {
			return nil, err
		}
	}
}

func (u *unpickler) errorf(format string, args ...any) error {
	return guard.Errorf(placement.ErrValue, fmt.Sprintf("pickle, byte %d", u.pos), -1, -1, format, args...)
}

// failed tells the input's end from other failures.
func (u *unpickler) failed(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return u.errorf("it ends too early")
	}
	return err
}

func (u *unpickler) byte() (byte, error) {
	c, err := u.r.ReadByte()
	if err != nil {
		return 0, u.failed(err)
	}
	u.pos++
	return c, nil
}

// maxText bounds a string of a pickle.
const maxText = 1 << 20

// text reads n bytes.
func (u *unpickler) text(n uint64) (string, error) {
	if n > maxText {
		return "", u.errorf("a string of %d bytes: at most %d are supported", n, maxText)
	}
	var b strings.Builder
	m, err := io.CopyN(&b, u.r, int64(n))
	if u.pos += m; err != nil {
		return "", u.failed(err)
	}
	return b.String(), nil
}

// number reads an n-byte little-endian number.
func (u *unpickler) number(n uint64) (uint64, error) {
	b, err := u.r.Peek(int(n))
	if err != nil {
		return 0, u.failed(err)
	}
	var word [8]byte
	copy(word[:], b)
	u.r.Discard(int(n)) // which Peek has buffered
	u.pos += int64(n)
	return binary.LittleEndian.Uint64(word[:]), nil
}

func (u *unpickler) line() (string, error) {
	var b []byte
	for {
		c, err := u.byte()
		switch {
		case err != nil:
			return "", err
		case c == '\n':
			return string(b), nil
		case len(b) > 255:
			return "", u.errorf("a name does not end")
		}
		b = append(b, c)
	}
}

// plain says of a value that it holds no other.
func plain(v any) bool {
	switch v.(type) {
	case nil, bool, int64, float64, string:
		return true
	}
	return false
}

// hold counts values that may stay for good.
func (u *unpickler) hold(n int) error {
	if u.made += n; u.made > u.lim.Objects {
		return u.errorf("more than %d values, the most that is supported", u.lim.Objects)
	}
	return nil
}

func (u *unpickler) push(v any) error {
	if len(u.stack) >= u.lim.Objects {
		return u.errorf("more than %d values, the most that is supported", u.lim.Objects)
	}
	u.stack = append(u.stack, v)
	if text, ok := v.(string); ok {
		return u.hold(1 + len(text)/64)
	}
	if !plain(v) {
		return u.hold(1)
	}
	return nil
}

// floor is where the values above the last mark begin.
func (u *unpickler) floor() int {
	if len(u.marks) == 0 {
		return 0
	}
	return u.marks[len(u.marks)-1]
}

func (u *unpickler) pop() (any, error) {
	if len(u.stack) <= u.floor() {
		return nil, u.errorf("nothing is on the stack")
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	return v, nil
}

// popN takes n values, in the order they were pushed.
func (u *unpickler) popN(n int) ([]any, error) {
	if len(u.stack)-u.floor() < n {
		return nil, u.errorf("nothing is on the stack")
	}
	v := append([]any(nil), u.stack[len(u.stack)-n:]...)
	u.stack = u.stack[:len(u.stack)-n]
	return v, nil
}

// popMark takes the values above the last mark, and the mark.
func (u *unpickler) popMark() ([]any, error) {
	if len(u.marks) == 0 {
		return nil, u.errorf("no mark is on the stack")
	}
	v, err := u.popN(len(u.stack) - u.floor())
	u.marks = u.marks[:len(u.marks)-1]
	return v, err
}

// top returns the value that a list or dict operation adds to.
func (u *unpickler) top() (any, error) {
	if len(u.stack) <= u.floor() {
		return nil, u.errorf("nothing is on the stack")
	}
	return u.stack[len(u.stack)-1], nil
}

func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.number(1)
		if err == nil && (v < 2 || v > 5) {
			err = u.errorf("protocol %d: 2 to 5 are known", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.number(8)
		return err
	case '}':
		return u.push(&Dict{})
	case ']':
		return u.push(&List{})
	case ')':
		return u.push(&Tuple{})
	case 'N':
		return u.push(nil)
	case 0x88, 0x89:
		return u.push(op == 0x88)
	case '(':
		if len(u.marks) >= u.lim.Objects {
			return u.errorf("too many marks")
		}
		u.marks = append(u.marks, len(u.stack))
		return nil
	case 'K', 'M', 'J':
		v, err := u.number(map[byte]uint64{'K': 1, 'M': 2, 'J': 4}[op])
		if err != nil {
			return err
		}
		if op == 'J' {
			return u.push(int64(int32(uint32(v))))
		}
		return u.push(int64(v))
	case 0x8a: // LONG1
		return u.long()
	case 'G':
		b, err := u.number(8)
		if err != nil {
			return err
		}
		return u.push(math.Float64frombits(bits.ReverseBytes64(b)))
	case 'X', 0x8c: // BINUNICODE, SHORT_BINUNICODE
		n, err := u.number(map[byte]uint64{'X': 4, 0x8c: 1}[op])
		if err != nil {
			return err
		}
		text, err := u.text(n)
		if err != nil {
			return err
		}
		return u.push(text)
	case 'q', 'r', 0x94: // BINPUT, LONG_BINPUT, MEMOIZE
		return u.memoize(op)
	case 'h', 'j': // BINGET, LONG_BINGET
		n, err := u.number(map[byte]uint64{'h': 1, 'j': 4}[op])
		if err != nil {
			return err
		}
		v, ok := u.memo[uint32(n)]
		if !ok {
			return u.errorf("memo %d holds nothing", n)
		}
		return u.push(v)
	case 'c', 0x93: // GLOBAL, STACK_GLOBAL
		return u.global(op)
	}
	return u.build(op)
}

// build interprets the operations that take values off the stack.
func (u *unpickler) build(op byte) error {
	switch op {
	case 't':
		v, err := u.popMark()
		if err == nil {
			err = u.hold(len(v))
		}
		if err != nil {
			return err
		}
		return u.push(&Tuple{v})
	case 0x85, 0x86, 0x87: // TUPLE1, TUPLE2, TUPLE3
		v, err := u.popN(int(op-0x85) + 1)
		if err != nil {
			return err
		}
		return u.push(&Tuple{v})
	case 'a', 'e': // APPEND, APPENDS
		v, err := u.taken(op == 'e', 1)
		if err != nil {
			return err
		}
		top, err := u.top()
		if err != nil {
			return err
		}
		list, ok := top.(*List)
		if !ok {
			return u.errorf("appending to what is not a list")
		}
		for _, x := range v {
			if plain(x) {
				list.Plain++
			} else {
				list.Items = append(list.Items, x)
			}
		}
		return u.hold(1)
	case 's', 'u': // SETITEM, SETITEMS
		v, err := u.taken(op == 'u', 2)
		if err != nil {
			return err
		}
		top, err := u.top()
		if err != nil {
			return err
		}
		dict, ok := top.(*Dict)
		if !ok || len(v)%2 != 0 {
			return u.errorf("setting items of what is not a dict")
		}
		if len(dict.keys)+len(v)/2 > maxKeys {
			return u.errorf("more than %d keys in one dict", maxKeys)
		}
		if err := u.hold(len(v)); err != nil {
			return err
		}
		for i := 0; i < len(v); i += 2 {
			dict.keys = append(dict.keys, v[i])
			dict.values = append(dict.values, v[i+1])
		}
		return nil
	case 'Q': // BINPERSID
		v, err := u.pop()
		if err != nil {
			return err
		}
		return u.persistent(v)
	case 'R': // REDUCE
		v, err := u.popN(2)
		if err != nil {
			return err
		}
		return u.reduce(v[0], v[1])
	}
	return u.errorf("operation %#02x is refused: a file of statistics does not need it", op)
}

func (u *unpickler) taken(marked bool, n int) ([]any, error) {
	if marked {
		return u.popMark()
	}
	return u.popN(n)
}

func (u *unpickler) long() error {
	n, err := u.number(1)
	if err != nil {
		return err
	}
	if n > 8 {
		return u.errorf("an integer of %d bytes: at most 8 are supported", n)
	}
	v, err := u.number(n)
	if err != nil {
		return err
	}
	if n == 0 {
		return u.push(int64(0))
	}
	shift := 64 - 8*n
	return u.push(int64(v<<shift) >> shift)
}

func (u *unpickler) memoize(op byte) error {
	n := uint64(len(u.memo))
	var err error
	if op != 0x94 {
		n, err = u.number(map[byte]uint64{'q': 1, 'r': 4}[op])
		if err != nil {
			return err
		}
	}
	v, err := u.top()
	if err != nil {
		return err
	}
	if err := u.hold(1); err != nil {
		return err
	}
	u.memo[uint32(n)] = v
	return nil
}

func (u *unpickler) global(op byte) error {
	var module, name string
	var err error
	if op == 'c' {
		if module, err = u.line(); err != nil {
			return err
		}
		if name, err = u.line(); err != nil {
			return err
		}
	} else {
		v, err := u.popN(2)
		if err != nil {
			return err
		}
		m, ok1 := v[0].(string)
		n, ok2 := v[1].(string)
		if !ok1 || !ok2 {
			return u.errorf("a global whose name is not a string")
		}
		module, name = m, n
	}
	full := Name(module + "." + name)
	_, isStorage := matrix.Torch(strings.TrimPrefix(string(full), "torch."))
	if !names[full] && !(module == "torch" && isStorage) {
		return u.errorf("%s is refused: only tensors and plain values are read, nothing is executed", guard.Quote(string(full)))
	}
	return u.push(full)
}

// persistent makes a storage of ("storage", class, key, device, elements).
func (u *unpickler) persistent(v any) error {
	t, ok := v.(*Tuple)
	if !ok || len(t.Items) != 5 || t.Items[0] != "storage" {
		return u.errorf("a persistent id that is not a tensor's storage")
	}
	kind, ok1 := t.Items[1].(Name)
	key, ok2 := t.Items[2].(string)
	size, ok3 := t.Items[4].(int64)
	name := strings.TrimPrefix(string(kind), "torch.")
	of, ok4 := matrix.Torch(name)
	if !ok1 || !ok2 || !ok3 || !ok4 || size < 0 || size > math.MaxInt32 {
		return u.errorf("a storage that is not well-formed")
	}
	return u.push(&storage{class: name, of: of, key: key, size: int(size)})
}

// reduce makes a tensor of (storage, offset, size, stride, requires_grad,
// hooks), and an empty dict of OrderedDict().
func (u *unpickler) reduce(f, args any) error {
	t, ok := args.(*Tuple)
	if !ok {
		return u.errorf("a call without a tuple of arguments")
	}
	switch {
	case f == Name("collections.OrderedDict") && len(t.Items) == 0:
		return u.push(&Dict{})
	case f == Name("torch._utils._rebuild_tensor_v2") && len(t.Items) >= 4:
		x, err := newTensor(t.Items)
		if err != nil {
			return u.errorf("%v", err)
		}
		return u.push(x)
	}
	return u.errorf("a call that is refused: only _rebuild_tensor_v2 and OrderedDict() are known")
}
