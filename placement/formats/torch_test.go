package formats

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// torchWriter writes what torch.save writes: protocol 2, its operations in its
// order, one storage a tensor.
type torchWriter struct {
	pkl      bytes.Buffer
	memo     int
	storages [][]byte
}

func (w *torchWriter) op(parts ...string) {
	for _, p := range parts {
		w.pkl.WriteString(p)
	}
}

func (w *torchWriter) put() {
	w.op("q", string([]byte{byte(w.memo)}))
	w.memo = (w.memo + 1) % 256
}

func (w *torchWriter) str(s string) {
	w.op("X", string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))), s)
	w.put()
}

func (w *torchWriter) int(v int) {
	switch {
	case v >= 0 && v < 256:
		w.op("K", string([]byte{byte(v)}))
	case v >= 0 && v < 65536:
		w.op("M", string(binary.LittleEndian.AppendUint16(nil, uint16(v))))
	default:
		w.op("J", string(binary.LittleEndian.AppendUint32(nil, uint32(int32(v)))))
	}
}

// ints writes a tuple.
func (w *torchWriter) ints(v []int) {
	w.op("(")
	for _, x := range v {
		w.int(x)
	}
	w.op("t")
	w.put()
}

func encodeElements[T any](v []T) []byte {
	var b bytes.Buffer
	binary.Write(&b, binary.LittleEndian, v)
	return b.Bytes()
}

// tensor writes a contiguous one; class is "IntStorage" and so on.
func (w *torchWriter) tensor(class string, raw []byte, shape ...int) {
	n, stride := 1, make([]int, len(shape))
	for i := len(shape) - 1; i >= 0; i-- {
		stride[i] = n
		n *= shape[i]
	}
	w.view(class, raw, n, 0, shape, stride)
}

func (w *torchWriter) view(class string, raw []byte, elements, offset int, shape, stride []int) {
	w.op("ctorch._utils\n_rebuild_tensor_v2\n")
	w.put()
	w.op("((")
	w.str("storage")
	w.op("ctorch\n" + class + "\n")
	w.put()
	w.str(fmt.Sprint(len(w.storages)))
	w.str("cpu")
	w.int(elements)
	w.op("t")
	w.put()
	w.op("Q")
	w.int(offset)
	w.ints(shape)
	w.ints(stride)
	w.op("\x89ccollections\nOrderedDict\n")
	w.put()
	w.op(")R")
	w.put()
	w.op("t")
	w.put()
	w.op("R")
	w.put()
	w.storages = append(w.storages, raw)
}

func (w *torchWriter) zip(root func()) []byte {
	w.op("\x80\x02")
	root()
	w.op(".")
	return archiveOf(w.pkl.Bytes(), w.storages...)
}

// archiveOf is a .pt of a pickle and its storages.
func archiveOf(pickle []byte, storages ...[]byte) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	add := func(name string, data []byte) {
		f, err := z.CreateHeader(&zip.FileHeader{Name: "archive/" + name, Method: zip.Store})
		if err == nil {
			_, err = f.Write(data)
		}
		if err != nil {
			panic(err)
		}
	}
	add("data.pkl", pickle)
	add("byteorder", []byte("little"))
	for i, s := range storages {
		add(fmt.Sprintf("data/%d", i), s)
	}
	add("version", []byte("3\n"))
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// pickleOf is the pickle in a .pt.
func pickleOf(archive []byte) []byte {
	a, _, err := torch.Open(bytes.NewReader(archive), &guard.Standard)
	if err != nil {
		panic(err)
	}
	r, err := a.Entry("archive/data.pkl")
	if err != nil {
		panic(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		panic(err)
	}
	return text
}

// statFile is a dump of mode stat: 2 steps, 2 layers (the first dense), 3 experts.
func statFile() []byte {
	w := &torchWriter{}
	return w.zip(func() {
		w.op("}")
		w.put()
		w.op("(")
		w.str("rank")
		w.int(0)
		w.str("logical_count")
		w.tensor("IntStorage", encodeElements([]int32{0, 0, 0, 1, 2, 3, 0, 0, 0, 40000, 5, 6}), 2, 2, 3)
		w.str("average_utilization_rate_over_window")
		w.op("N")
		w.op("u")
	})
}

// passFile is a dump of mode per_pass: one layer, experts 0 1 2 in slots 0 1 2 0.
func passFile(rank int, ids []int, counts [][]int32) []byte {
	w := &torchWriter{}
	return w.zip(func() {
		w.op("}")
		w.put()
		w.op("(")
		w.str("records")
		w.op("]")
		w.put()
		w.op("(")
		for i, id := range ids {
			w.op("}")
			w.put()
			w.op("(")
			w.str("forward_pass_id")
			w.int(id)
			w.str("rank")
			w.int(rank)
			w.str("gatherer_key")
			w.str("primary")
			w.str("global_physical_count")
			w.tensor("IntStorage", encodeElements(counts[i]), 1, 4)
			w.op("u")
		}
		w.op("e")
		w.str("last_physical_to_logical_map")
		w.tensor("LongStorage", encodeElements([]int64{0, 1, 2, 0}), 1, 4)
		w.op("u")
	})
}

func tensorFile(class string, raw []byte, shape ...int) []byte {
	w := &torchWriter{}
	return w.zip(func() { w.tensor(class, raw, shape...) })
}

func TestTorchStat(t *testing.T) {
	s, err := DecodeStats(bytes.NewReader(statFile()))
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "sglang-pt", "[[[0 0 0] [1 2 3]] [[0 0 0] [40000 5 6]]]")
}

func wantStats(t *testing.T, s Stats, format, windows string) {
	t.Helper()
	if got := fmt.Sprint(s.Windows); s.Format != format || got != windows {
		t.Errorf("got %s %s, want %s %s", s.Format, got, format, windows)
	}
}

func TestTorchPerPass(t *testing.T) {
	one := passFile(0, []int{9, 7, 9}, [][]int32{{1, 2, 3, 4}, {10, 0, 0, 0}, {1, 0, 0, 0}})
	s, err := DecodeStats(bytes.NewReader(one))
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "sglang-pt", "[[[10 0 0]] [[6 2 3]]]")
	if d := cmp.Diff([][]int{{0, 1, 2, 0}}, s.Placement.PhysicalToLogical); d != "" || s.Placement.Experts != 3 || s.Placement.GPUs != 0 {
		t.Errorf("placement %+v: %s", s.Placement, d)
	}
}

func TestTorchFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b.pt", passFile(0, []int{6, 7, 8}, [][]int32{{9, 9, 9, 9}, {1, 0, 0, 0}, {0, 1, 0, 0}}))
	write("a.pt", passFile(1, []int{7, 8, 9}, [][]int32{{0, 0, 0, 5}, {0, 0, 7, 0}, {9, 9, 9, 9}}))
	s, err := ReadStats(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "sglang-pt", "[[[6 0 0]] [[0 1 7]]]")
	if s.Placement.GPUs != 2 {
		t.Errorf("%d GPUs, want 2", s.Placement.GPUs)
	}
	write("c.pt", passFile(1, []int{7}, [][]int32{{0, 0, 0, 5}}))
	wantError(t, "the same rank twice", errOf(ReadStats(dir)), "c.pt: rank: 1 stands in another file")
	write("c.pt", statFile())
	wantError(t, "a stat file among them", errOf(ReadStats(dir)), "c.pt: records: missing")
}

// A folder's passes are added up where they would be too much to hold, whatever
// the ranks, as they are counted; one rank's file by itself likewise.
func TestTorchFolderIsBounded(t *testing.T) {
	const passes = 11
	rng := rand.New(rand.NewPCG(3, 0))
	dir, names := t.TempDir(), []string{}
	want := make([][]int32, passes) // logical counts of each pass
	for i := range want {
		want[i] = make([]int32, 3)
	}
	for rank := range 3 {
		var ids []int
		var counts [][]int32
		for i := range passes {
			row := []int32{rng.Int32N(9), rng.Int32N(9), rng.Int32N(9), rng.Int32N(9)}
			ids, counts = append(ids, 100+i), append(counts, row)
			for slot, v := range row {
				want[i][[]int{0, 1, 2, 0}[slot]] += v
			}
		}
		names = append(names, fmt.Sprintf("%d.pt", rank))
		if err := os.WriteFile(filepath.Join(dir, names[rank]), passFile(rank, ids, counts), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ kept, windows, steps int }{{1 << 20, 100, 1}, {16 * passes, 100, 1}, {16*passes - 1, 100, 2}, {16 * 3, 100, 4}, {1 << 20, 10, 2}, {1, 1, 16}} {
		lim := guard.Standard
		lim.Kept, lim.Windows = c.kept, c.windows
		s, err := readSGLangFolder(dir, names, &lim)
		if err != nil {
			t.Fatal(err)
		}
		sums := make([][][]int32, (passes+c.steps-1)/c.steps)
		for i, row := range want {
			if i%c.steps == 0 {
				sums[i/c.steps] = [][]int32{make([]int32, 3)}
			}
			for e, v := range row {
				sums[i/c.steps][0][e] += v
			}
		}
		if s.Steps != c.steps {
			t.Errorf("%+v: %d steps a window", c, s.Steps)
		}
		wantStats(t, s, "sglang-pt", fmt.Sprint(sums))
	}
}

func errOf[T any](_ T, err error) error { return err }

// wantError demands one line that holds want.
func wantError(t *testing.T, name string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 500 {
		t.Errorf("%s: got error %q, want one line with %q", name, fmt.Sprint(err), want)
	}
}

func TestTorchTypes(t *testing.T) {
	for _, c := range []struct {
		class string
		raw   []byte
	}{
		{"FloatStorage", encodeElements([]float32{1, 2, 3, 4})}, {"DoubleStorage", encodeElements([]float64{1, 2, 3, 4})},
		{"LongStorage", encodeElements([]int64{1, 2, 3, 4})}, {"IntStorage", encodeElements([]int32{1, 2, 3, 4})},
		{"ShortStorage", encodeElements([]int16{1, 2, 3, 4})}, {"CharStorage", encodeElements([]int8{1, 2, 3, 4})}, {"ByteStorage", []byte{1, 2, 3, 4}},
		{"HalfStorage", encodeElements([]uint16{0x3c00, 0x4000, 0x4200, 0x4400})}, {"BFloat16Storage", encodeElements([]uint16{0x3f80, 0x4000, 0x4040, 0x4080})},
	} {
		s, err := DecodeStats(bytes.NewReader(tensorFile(c.class, c.raw, 2, 2)))
		if err != nil {
			t.Errorf("%s: %v", c.class, err)
			continue
		}
		wantStats(t, s, "vllm-ascend", "[[[1 2] [3 4]]]")
	}
	w := &torchWriter{} // a transposed view from the second element on
	b := w.zip(func() {
		w.view("IntStorage", encodeElements([]int32{9, 1, 2, 3, 4, 5, 6}), 7, 1, []int{2, 3}, []int{1, 2})
	})
	s, err := DecodeStats(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "vllm-ascend", "[[[1 3 5] [2 4 6]]]")
}

func TestTorchHostile(t *testing.T) {
	pickled := func(text string) []byte {
		w := &torchWriter{}
		return w.zip(func() { w.op(text) })
	}
	view := func(elements, offset int, shape, stride []int) []byte {
		w := &torchWriter{}
		return w.zip(func() { w.view("IntStorage", encodeElements([]int32{1, 2, 3, 4}), elements, offset, shape, stride) })
	}
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"os.system", pickled("cos\nsystem\nX\x02\x00\x00\x00ls\x85R"), `"os.system" is refused`},
		{"builtins.eval by STACK_GLOBAL", pickled("X\x08\x00\x00\x00builtinsX\x04\x00\x00\x00eval\x93"), `"builtins.eval" is refused`},
		{"a name that begins like torch", pickled("ctorch\nload\n"), `"torch.load" is refused`},
		{"another module's storage", pickled("cevil\nIntStorage\n"), `"evil.IntStorage" is refused`},
		{"a dotted name", pickled("c\ntorch.IntStorage\n"), "is refused"},
		{"calling a storage class", pickled("ctorch\nIntStorage\n)R"), "a call that is refused"},
		{"BUILD", pickled("}}b"), "operation 0x62 is refused"},
		{"INST", pickled("(ios\nsystem\n"), "operation 0x69 is refused"},
		{"NEWOBJ", pickled("ccollections\nOrderedDict\n)\x81"), "operation 0x81 is refused"},
		{"EXT1", pickled("\x82\x01"), "operation 0x82 is refused"},
		{"protocol 0", pickled("\x80\x00"), "protocol 0"},
		{"string of 1 GiB", pickled("X\x00\x00\x00\x40a"), "a string of 1073741824 bytes"},
		{"integer of 255 bytes", pickled("\x8a\xff"), "an integer of 255 bytes"},
		{"empty stack", pickled("a"), "nothing is on the stack"},
		{"below a mark", pickled("]((a"), "nothing is on the stack"},
		{"no mark", pickled("e"), "no mark"},
		{"memo of nothing", pickled("h\x05"), "memo 5 holds nothing"},
		{"odd items", pickled("}(K\x01u"), "setting items"},
		{"items of a list", pickled("]K\x01K\x02s"), "setting items"},
		{"many keys", pickled("}(" + strings.Repeat("K\x01K\x02", 65) + "u"), "more than 64 keys in one dict"},
		{"list that holds itself", pickled("]q\x00h\x00a"), "a tensor [layers, experts]"},
		{"dict that holds itself", pickled("}q\x00X\x07\x00\x00\x00recordsh\x00s"), "last_physical_to_logical_map"},
		{"no end", []byte("PK\x03\x04"), "zip"},
		{"beyond the storage", view(4, 0, []int{2, 3}, []int{3, 1}), "reaches beyond its storage of 4"},
		{"beyond by offset", view(4, 1, []int{2, 2}, []int{2, 1}), "reaches beyond"},
		{"beyond by stride", view(4, 0, []int{2, 2}, []int{1 << 30, 1 << 30}), "reaches beyond"},
		{"expanded far", view(4, 0, []int{1 << 20, 1 << 20}, []int{0, 0}), "at most 4096 layers"},
		{"expanded in windows", view(4, 0, []int{1 << 27, 1, 1}, []int{0, 0, 0}), "more elements in all"},
		{"expanded without end", view(4, 0, []int{1 << 30, 1 << 30, 1}, []int{0, 0, 0}), "more elements than are supported"},
		{"negative offset", view(4, -1, []int{2, 2}, []int{2, 1}), "reaches beyond"},
		{"negative size", view(4, 0, []int{-2, 2}, []int{2, 1}), "size or stride"},
		{"negative elements", view(-4, 0, []int{2, 2}, []int{2, 1}), "not well-formed"},
		{"storage says 1 GiB", view(1<<28, 0, []int{2, 2}, []int{2, 1}), "holds 16 bytes"},
		{"storage of another size", view(5, 0, []int{2, 2}, []int{2, 1}), "holds 16 bytes, but 5 IntStorage need 20"},
		{"one dimension", view(4, 0, []int{4}, []int{1}), "a tensor [layers, experts]"},
		{"no layers", view(4, 0, []int{0, 4}, []int{4, 1}), "holds nothing"},
		{"a negative count", tensorFile("IntStorage", encodeElements([]int32{1, -2}), 1, 2), "layer 0, index 1: -2 is negative"},
		{"NaN", tensorFile("FloatStorage", encodeElements([]float32{1, float32(math.NaN())}), 1, 2), "layer 0, index 1: NaN"},
		{"old file", []byte("\x80\x02\x8a\x0alTC5"), "before 1.6"},
		{"a count of another shape", passFile(0, []int{1}, [][]int32{{1, 2, 3, 4, 5}}), "holds 20 bytes, but 4 IntStorage need 16"},
		{"a negative pass count", passFile(0, []int{1}, [][]int32{{1, 2, -3, 4}}), "record 0: global_physical_count: layer 0, index 2: -3"},
		{"no records", passFile(0, nil, nil), "a list of dicts, at least one"},
	} {
		_, err := decodeStats(bytes.NewReader(c.in), &guard.Standard)
		wantError(t, c.name, err, c.want)
	}
	b := statFile()
	for n := range b {
		if _, err := decodeStats(bytes.NewReader(b[:n]), &guard.Standard); err == nil {
			t.Errorf("cut to %d bytes: no error", n)
		}
	}
}

// Tensors that expand a smaller one, as torch.Tensor.expand makes them, repeat
// its numbers.
func TestExpanded(t *testing.T) {
	w := &torchWriter{}
	in := w.zip(func() {
		w.view("IntStorage", encodeElements([]int32{3, 4, 500, 6}), 4, 1, []int{2, 2, 3}, []int{0, 0, 1})
	})
	s, err := DecodeStats(bytes.NewReader(in))
	if err != nil || fmt.Sprint(s.Windows) != "[[[4 500 6] [4 500 6]] [[4 500 6] [4 500 6]]]" {
		t.Errorf("%v, %v", s.Windows, err)
	}
}

// A placement in a .pt, alone or in a dict as SGLang loads it.
func TestTorchPlacement(t *testing.T) {
	ids := encodeElements([]int64{3, 0, 1, 2, 3, 0, 2, 1, 0, 1, 3, 2})
	bare, dict := &torchWriter{}, &torchWriter{}
	for name, in := range map[string][]byte{
		"bare": bare.zip(func() { bare.tensor("LongStorage", ids, 2, 6) }),
		"dict": dict.zip(func() {
			dict.op("}")
			dict.put()
			dict.str("physical_to_logical_map")
			dict.tensor("LongStorage", ids, 2, 6)
			dict.op("s")
		}),
	} {
		p, err := DecodePlacement(bytes.NewReader(in), 2)
		if d := cmp.Diff(example(), p); err != nil || d != "" {
			t.Errorf("%s: %v\n%s", name, err, d)
		}
		_, err = DecodePlacement(bytes.NewReader(in), 0)
		wantError(t, name, err, "give the number")
		if name == "dict" {
			_, err = DecodeStats(bytes.NewReader(in))
			wantError(t, "as statistics", err, "a placement")
		}
	}
	w := &torchWriter{}
	_, err := DecodePlacement(bytes.NewReader(w.zip(func() { w.op("}"); w.put() })), 2)
	wantError(t, "no map", err, "the dict has no physical_to_logical_map")
}

// What a record holds beside its counts, such as the ids of its tokens, takes no
// memory; the file of one rank says so.
func TestTokensAreSkipped(t *testing.T) {
	w := &torchWriter{}
	in := w.zip(func() {
		w.op("}")
		w.put()
		w.op("(")
		w.str("records")
		w.op("]")
		w.put()
		w.op("(")
		for id := range 20 {
			w.op("}")
			w.put()
			w.op("(")
			w.str("input_ids")
			w.op("]")
			w.put()
			w.op("(")
			for i := range 1000 {
				w.int(i)
			}
			w.op("e")
			w.str("forward_pass_id")
			w.int(id)
			w.str("rank")
			w.int(0)
			w.str("global_physical_count")
			w.tensor("IntStorage", encodeElements([]int32{1, 2, 3, 4}), 1, 4)
			w.op("u")
		}
		w.op("e")
		w.str("last_physical_to_logical_map")
		w.tensor("LongStorage", encodeElements([]int64{0, 1, 2, 0}), 1, 4)
		w.op("u")
	})
	lim := guard.Standard
	lim.Objects = 4000 // far fewer than tokens
	s, err := decodeStats(bytes.NewReader(in), &lim)
	if err != nil || len(s.Windows) != 20 || fmt.Sprint(s.Windows[7]) != "[[5 2 3]]" || !strings.Contains(s.Note, "rank 0 recorded, alone") {
		t.Errorf("%v, %v, %q", err, s.Windows, s.Note)
	}
}

// A file is read in place, and as a stream the same; a checksum that is wrong is
// found in either.
func TestReadInPlace(t *testing.T) {
	w := &torchWriter{}
	counts := make([]int32, 100*4*64)
	for i := range counts {
		counts[i] = int32(i % 1000)
	}
	in := w.zip(func() { w.tensor("IntStorage", encodeElements(counts), 100, 4, 64) })
	path := filepath.Join(t.TempDir(), "x.pt")
	read := func(in []byte) (place, stream Stats, err1, err2 error) {
		if err := os.WriteFile(path, in, 0o600); err != nil {
			t.Fatal(err)
		}
		place, err1 = ReadStats(path)
		stream, err2 = DecodeStats(bytes.NewReader(in))
		return
	}
	place, stream, err1, err2 := read(in)
	if d := cmp.Diff(place, stream); err1 != nil || err2 != nil || d != "" || place.Windows[99][3][63] != 599 {
		t.Fatalf("%v, %v\n%s", err1, err2, d)
	}
	at := bytes.Index(in, encodeElements(counts[500:600]))
	in[at] ^= 1
	_, _, err1, err2 = read(in)
	wantError(t, "in place", err1, "checksum")
	wantError(t, "stream", err2, "checksum")
}
