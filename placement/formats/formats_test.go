package formats

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

var update = flag.Bool("update", false, "write the golden files anew")

// example is 2 layers, 4 experts, 6 slots on 2 GPUs, no expert twice on one.
func example() placement.Placement {
	return placement.Placement{Experts: 4, GPUs: 2, PhysicalToLogical: [][]int{{3, 0, 1, 2, 3, 0}, {2, 1, 0, 1, 3, 2}}}
}

func encoded(t *testing.T, f Format, p *placement.Placement, o EncodeOptions) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := EncodePlacement(&b, f, p, o); err != nil {
		t.Fatalf("%s: %v", f, err)
	}
	return b.Bytes()
}

func TestGolden(t *testing.T) {
	p := example()
	for _, f := range Formats() {
		got := encoded(t, f, &p, EncodeOptions{FirstLayer: 3})
		file := filepath.Join("testdata", string(f)+".golden")
		if *update {
			if err := os.WriteFile(file, got, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(want), string(got)); d != "" {
			t.Errorf("%s (-update writes it anew):\n%s", f, d)
		}
	}
}

// sorted puts each GPU's experts in ascending order, empty slots last: all that
// Omni's tensor says.
func sorted(p placement.Placement) placement.Placement {
	q := p.Clone()
	q.ReplicaRank = nil
	first := q.FirstSlots()
	for _, row := range q.PhysicalToLogical {
		for g := range q.GPUs {
			slices.SortFunc(row[first[g]:first[g+1]], func(a, b int) int { return (a+q.Experts+1)%(q.Experts+1) - (b+q.Experts+1)%(q.Experts+1) })
		}
	}
	return q
}

func TestRoundTrip(t *testing.T) {
	const seed = 7
	rng := rand.New(rand.NewPCG(seed, 0))
	for n := range 100 {
		gpus, each := 1+rng.IntN(6), 1+rng.IntN(4)
		experts := max(1, each*gpus-rng.IntN(each*gpus))
		if experts < each {
			experts = each // so that no GPU needs an expert twice
		}
		p := placement.Placement{Experts: experts, GPUs: gpus}
		for range 1 + rng.IntN(3) {
			row := make([]int, gpus*each)
			for s := range row {
				row[s] = s % experts
			}
			p.PhysicalToLogical = append(p.PhysicalToLogical, row)
		}
		for _, f := range Formats() {
			text := encoded(t, f, &p, EncodeOptions{FirstLayer: n % 5})
			want := p
			if f == Omni {
				want = sorted(p)
			}
			for _, in := range [][]byte{text, gzipped(text)} {
				got, err := DecodePlacement(bytes.NewReader(in), gpus)
				if err != nil {
					t.Fatalf("seed %d, case %d, %s: %v", seed, n, f, err)
				}
				if d := cmp.Diff(want, got); d != "" {
					t.Fatalf("seed %d, case %d, %s:\n%s", seed, n, f, d)
				}
			}
		}
	}
}

func gzipped(b []byte) []byte {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write(b)
	w.Close()
	return z.Bytes()
}

// An uneven placement with holes and an order of replicas of its own.
func TestRoundTripUneven(t *testing.T) {
	p := placement.Placement{Experts: 3, GPUs: 3, GPUSlots: []int{3, 0, 2}, PhysicalToLogical: [][]int{{0, 1, -1, 2, 1}, {2, 1, 0, 0, -1}},
		ReplicaRank: [][]int{{0, 1, 0, 0, 0}, {0, 0, 0, 1, 0}}}
	got, err := DecodePlacement(bytes.NewReader(encoded(t, Moelb, &p, EncodeOptions{})), 0)
	if d := cmp.Diff(p, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
	q := placement.Placement{Experts: 3, GPUs: 2, GPUSlots: []int{3, 1}, PhysicalToLogical: [][]int{{0, 1, 2, -1}, {0, 2, -1, 1}}}
	got, err = DecodePlacement(bytes.NewReader(encoded(t, Omni, &q, EncodeOptions{})), 2)
	if d := cmp.Diff(q, got); err != nil || d != "" {
		t.Errorf("%v\n%s", err, d)
	}
}

func TestCannotExpress(t *testing.T) {
	uneven := placement.Placement{Experts: 3, GPUs: 2, GPUSlots: []int{2, 1}, PhysicalToLogical: [][]int{{0, 1, 2}}}
	hole := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, -1}}}
	twice := placement.Placement{Experts: 2, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 1, 1}}}
	lacking := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 1, 0}}}
	for _, c := range []struct {
		name    string
		p       placement.Placement
		formats []Format
		want    string
	}{
		{"uneven", uneven, []Format{SGLang, VLLMAscend, TensorRTLLM, FastDeploy, VLLMProposed}, "gpu_slots: index 1: 1 slots, but GPU 0 has 2"},
		{"hole", hole, []Format{SGLang, VLLMAscend, TensorRTLLM, FastDeploy, VLLMProposed}, "layer 0, index 3: the slot is empty"},
		{"twice", twice, []Format{VLLMAscend, Omni, OmniJSON}, "layer 0, index 3: expert 1 is on GPU 1 twice"},
		{"lacking", lacking, Formats()[1:], "layer 0: expert 2 has no replica"},
		{"unknown format", example(), []Format{"vllm"}, "moelb, sglang, vllm-ascend, tensorrt-llm, omni, omni-json, fastdeploy, vllm-proposed"},
	} {
		for _, f := range c.formats {
			var b bytes.Buffer
			err := EncodePlacement(&b, f, &c.p, EncodeOptions{})
			wantError(t, c.name+" in "+string(f), err, c.want)
			if b.Len() > 0 {
				t.Errorf("%s in %s: %d bytes written", c.name, f, b.Len())
			}
		}
	}
}

func npyFileOf[T any](descr string, values []T, shape ...int) []byte {
	return append(matrix.NpyHeader(descr, shape), encodeElements(values)...)
}

func TestStats(t *testing.T) {
	const want2 = "[[[0 0] [1 2.5]]]"
	const want3 = "[[[0 0] [1 2]] [[3 4] [5 600]]]"
	fortran := npyFileOf("<i4", []int32{0, 3, 1, 5, 0, 4, 2, 600}, 2, 2, 2)
	fortran = bytes.Replace(fortran, []byte("'fortran_order': False"), []byte("'fortran_order': True "), 1)
	for _, c := range []struct{ name, in, format, want string }{
		{"plain", "[[0,0],[1,2.5]]", "json", want2},
		{"plain, windows, spaces", " [ [[0, 0],\n [1,2]],\t[[3,4],[5,6e2]] ]\n", "json", want3},
		{"sglang", `{"logical_count": [[0,0],[1,2.5]]}`, "sglang-json", want2},
		{"sglang steps, beside others", `{"rank":0,"logical_count":[[[0,0],[1,2]],[[3,4],[5,600]]],"average_utilization_rate_over_window":null}`, "sglang-json", want3},
		{"fastdeploy", `{"ep_rank_to_expert_id_list":[[0]],"tokens_per_expert_stats_list":[[0,0],[1,2.5]]}`, "fastdeploy", want2},
		{"adrs", `{"meta":{"a":[true,{"b":"x"}]},"load_history":[{"logical_expert_load":[[0,0],[1,2]]},{"t":1,"logical_expert_load":[[3,4],[5,600]]}]}`, "adrs", want3},
		{"json lines", "{\"step\":0,\"domain\":\"law\",\"counts\":[[0,0],[1,2]]}\n{\"step\":1,\"domain\":\"\\u00e9\",\"counts\":[[3,4],[5,600]]}\n\n", "json-lines", want3},
		{"csv", "0,0\r\n\r\n 1 , 2.5\n", "csv", want2},
		{"csv with a header", "e0,e1\n0,0\n1,2.5\n", "csv", want2},
		{"csv with a header of ids and quotes", "\"layer\",\"0\",\"1\"\n3,0,0\n4,1,2.5\n", "csv", want2},
		{"csv with a nameless index", ",a,b\nx,0,0\ny,1,2.5\n", "csv", want2},
		{"blanks", "  0 0 \n1\t2.5\n", "csv", want2},
		{"blanks, comments", "# saved by hand\n0.0e+00 0\n\n# more\n1 2.5\r\n", "csv", want2},
		{"csv without a last line end", "0,0\n1,2.5", "csv", want2},
		{"csv with a byte order mark", "\xef\xbb\xbf0,0\n1,2.5", "csv", want2},
		{"npy f8", string(npyFileOf("<f8", []float64{0, 0, 1, 2.5}, 2, 2)), "npy", want2},
		{"npy f4", string(npyFileOf("<f4", []float32{0, 0, 1, 2.5}, 2, 2)), "npy", want2},
		{"npy i8", string(npyFileOf("<i8", []int64{0, 0, 1, 2, 3, 4, 5, 600}, 2, 2, 2)), "npy", want3},
		{"npy u2", string(npyFileOf("<u2", []uint16{0, 0, 1, 2, 3, 4, 5, 600}, 2, 2, 2)), "npy", want3},
		{"npz", npzOf(map[string][]byte{"arr_0": npyFileOf("<i4", []int32{0, 0, 1, 2, 3, 4, 5, 600}, 2, 2, 2)}), "npy", want3},
		{"npz of two", npzOf(map[string][]byte{"a": nil, "logical_count": npyFileOf("<f8", []float64{0, 0, 1, 2.5}, 2, 2)}), "npy", want2},
		{"npy fortran", string(fortran), "npy", want3},
		{"npy big-endian", string(append(matrix.NpyHeader(">i2", []int{1, 2}), 1, 0, 0, 1)), "npy", "[[[256 1]]]"},
		{"much white space", strings.Repeat(" \n", 1<<16) + "[[0,0],[1,2.5]]", "json", want2},
		{"gzip", string(gzipped([]byte("[[0,0],[1,2.5]]"))), "json", want2},
	} {
		for _, buffer := range []int{16, 17, 64 << 10} { // 16 is the least of bufio
			lim := guard.Standard
			lim.Buffer = buffer
			s, err := decodeStats(strings.NewReader(c.in), &lim)
			if err != nil {
				t.Errorf("%s, buffer %d: %v", c.name, buffer, err)
				continue
			}
			wantStats(t, s, c.format, c.want)
		}
	}
}

func npzOf(arrays map[string][]byte) string {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for name, content := range arrays {
		if f, err := z.Create(name + ".npy"); err != nil {
			panic(err)
		} else if _, err := f.Write(content); err != nil {
			panic(err)
		}
	}
	z.Close()
	return b.String()
}

func TestNpzHostile(t *testing.T) {
	for want, in := range map[string]string{
		"an .npz of 2 arrays": npzOf(map[string][]byte{"a": nil, "b": nil}), `"a.npy" is no array`: npzOf(map[string][]byte{"a": nil}),
		"a zip without data.pkl": npzOf(nil), `"a.npy": npy: layer 0, index 1: -2 is negative`: npzOf(map[string][]byte{"a": npyFileOf("<i4", []int32{1, -2}, 1, 2)}),
		"decompresses to more than": npzOf(map[string][]byte{"a": make([]byte, 32<<20)}),
	} {
		_, err := DecodeStats(strings.NewReader(in))
		wantError(t, want, err, want)
	}
}

func TestSum(t *testing.T) {
	s, err := DecodeStats(strings.NewReader("[[[0,0],[1,2]],[[3,4],[5,600]]]"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(s.Sum()); got != "[[3 4] [6 602]]" {
		t.Error(got)
	}
	if got := fmt.Sprint(s.Windows[0]); got != "[[0 0] [1 2]]" {
		t.Error("the sum changed a window:", got)
	}
}

func TestStatsHostile(t *testing.T) {
	many := func(s string, n int) string { return strings.Repeat(s, n) }
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", "the input is empty"},
		{"white space", " \n\t ", "the input is empty"},
		{"binary", "\x00\x01\x02", "not a known statistics format"},
		{"words", "hello", `csv: no layers, a header alone, "hello": JSON, JSON Lines, CSV`},
		{"a header", "layer,e0,e1\n", `csv: no layers, a header alone, "layer"`},
		{"null by itself", "null", `no layers, a header alone, "null"`},
		{"words below words", "hello\nworld", `csv, line 2: layer 0, index 0: "world" is not a number (one row a layer`},
		{"negative", "[[1,2],[3,-4]]", "loads: layer 1, index 1: -4 is negative"},
		{"negative in a window", "[[[1,2]],[[3,-4]]]", "loads, window 1: layer 0, index 1: -4 is negative"},
		{"1e999", "[[1,1e999]]", "layer 0, index 1: 1e999 is too large"},
		{"1e308", "[[1,1e308]]", "layer 0, index 1: 1e+308 is too large to add up"},
		{"null", "[[1,null]]", "layer 0, index 1: null is not a number"},
		{"NaN", "[[NaN]]", "layer 0, index 0: NaN is not a number"},
		{"-Infinity", "[[-Infinity]]", `layer 0, index 0: "-" is not a number`},
		{"string", `[["1"]]`, `layer 0, index 0: the string "1" is not a number`},
		{"true", "[[true]]", "true is not a number"},
		{"object", "[[{}]]", "an object is not a number"},
		{"too deep", "[[[[1]]]]", "an array is not a number"},
		{"hexadecimal", "[[0x10]]", "expected ',' or ']', found 'x'"},
		{"leading zero", "[[01]]", `"01" is not a number`},
		{"leading plus", "[[+1]]", `"+1" is not a number`},
		{"bare point", "[[1.]]", `"1." is not a number`},
		{"bare exponent", "[[1e]]", `"1e" is not a number`},
		{"underscore", "[[1_0]]", "expected ',' or ']', found '_'"},
		{"very long number", "[[" + many("1", 1000) + "]]", "a number of more than 512 characters"},
		{"ragged", "[[1,2],[3]]", "layer 1: 1 experts, but layer 0 has 2"},
		{"ragged windows", "[[[1,2]],[[3]]]", "loads, window 1: layer 0: 1 experts, but layer 0 has 2"},
		{"fewer layers", "[[[1],[2]],[[3]]]", "loads, window 1: 1 layers, but window 0 has 2"},
		{"no layers", "[]", "no layers"},
		{"no experts", "[[]]", "layer 0: no experts"},
		{"no windows' layers", "[[[]]]", "no experts"},
		{"mixed depth", "[[1],[[2]]]", "layer 1, index 0: an array is not a number"},
		{"one row", "[1,2]", "expected '['"},
		{"trailing comma", "[[1,]]", "nothing after the comma"},
		{"cut", "[[1,2", "expected ',' or ']', found the end of the input"},
		{"more after the end", "[[1]] x", "line 1, column 7: expected the end of the input"},
		{"line number", "[[1,\n2],\n[3 4]]", "line 3, column 4: expected ',' or ']', found '4'"},
		{"brackets", many("[", 1<<20), "an array is not a number"},
		{"objects within objects", many(`{"a":`, 1<<20), "nested more than 64 deep"},
		{"too many experts", "[[" + many("1,", 1<<16) + "1]]", "more than 65536 numbers"},
		{"too many layers", "[" + many("[1],", 1<<12) + "[1]]", "at most 4096 layers"},
		{"a problem", `{"version":1,"loads":[[1]],"num_replicas":2}`, "a planning problem"},
		{"a placement", `{"physical_to_logical_map":[[0]]}`, "makes this a placement"},
		{"a placement with its counts", `{"logical_count":[[1]],"physical_to_logical_map":[[0]]}`, "makes this a placement"},
		{"an unknown object", `{"a":1}`, "none of logical_count"},
		{"unknown field", `{"logical_count":[[1]],"logical_cuont\n":1}`, `"logical_cuont\n": not a field of sglang-json`},
		{"key twice", `{"logical_count":[[1]],"logical_count":[[2]]}`, `the key "logical_count" stands twice`},
		{"two formats", `{"logical_count":[[1]],"counts":[[2]]}`, "counts beside logical_count"},
		{"many keys", "{" + manyKeys(100) + "}", "more than 64 keys"},
		{"two objects", `{"logical_count":[[1]]}{"logical_count":[[1]]}`, "expected the end of the input"},
		{"bad escape", `{"\q":1}`, `"\\q" is not an escape`},
		{"escaped line end", "{\"\\\n\":1}", "control character 0x0a"},
		{"cut escape", `{"\`, "the string does not end"},
		{"control character", "{\"a\nb\":1}", "control character 0x0a"},
		{"long string", `{"` + many("a", 5000) + `":1}`, "a string of more than 4096 bytes"},
		{"empty history", `{"load_history":[]}`, "no windows"},
		{"history without loads", `{"load_history":[{"x":1}]}`, "index 0: no logical_expert_load"},
		{"negative in a history", `{"load_history":[{"logical_expert_load":[[1]]},{"logical_expert_load":[[-1]]}]}`, "load_history, window 1: layer 0, index 0: -1 is negative"},
		{"csv, a header twice", "a,b\na,b\n1,2", `line 2: layer 0, index 0: "a" is not a number`},
		{"csv, NaN is no header", "nan,1\n1,2", `line 1: layer 0, index 0: "nan" is not a number`},
		{"csv empty field", "1,,2", `csv, line 1: layer 0, index 1: "" is not a number`},
		{"csv trailing comma", "1,2\n3,", `csv, line 2: layer 1, index 1: "" is not a number`},
		{"csv ragged", "1,2\n\n3", "line 3: csv: layer 1: 1 experts, but layer 0 has 2"},
		{"csv spaces after commas", "1,2\n1 2", "a comma is expected"},
		{"csv commas after spaces", "1 2\n1,2", "a comma where blanks separate"},
		{"csv NaN", "1,nan", `index 1: "nan" is not a number`},
		{"csv negative", "1,2\n-1,3", "layer 1, index 0: -1 is negative"},
		{"csv quotes", `"1",2`, "is not a number"},
		{"csv long field", many("1", 1000), "more than 512 characters"},
		{"gzip twice", string(gzipped(gzipped([]byte("[[1]]")))), "gzip within gzip"},
		{"gzip cut", string(gzipped([]byte("[[1]]"))[:12]), "gzip: cut short"},
		{"gzip of another checksum", flip(gzipped([]byte("[[1]]")), -8), "checksum"},
	} {
		_, err := DecodeStats(strings.NewReader(c.in))
		wantError(t, c.name, err, c.want)
	}
}

func manyKeys(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"%d":1,`, i)
	}
	return b.String() + `"x":1`
}

func flip(b []byte, at int) string {
	b[len(b)+at] ^= 1
	return string(b)
}

func TestNpyHostile(t *testing.T) {
	header := func(text string) string {
		b := append([]byte(matrix.NpyMagic), 1, 0)
		return string(append(binary.LittleEndian.AppendUint16(b, uint16(len(text))), text...))
	}
	for _, c := range []struct{ name, in, want string }{
		{"magic alone", matrix.NpyMagic, "the header"},
		{"no line end", matrix.NpyMagic + "\x01\x00\x04\x00abcd", "descr, fortran_order and shape are expected"},
		{"header of 1 GiB", matrix.NpyMagic + "\x02\x00\x00\x00\x00\x40a\n", "a header of 1073741824 bytes"},
		{"version 9", matrix.NpyMagic + "\x09\x00\x00\x00", "version 9"},
		{"objects", header("{'descr': '|O', 'fortran_order': False, 'shape': (1, 1), }"), "descr is not a type of numbers"},
		{"complex", header("{'descr': '<c8', 'fortran_order': False, 'shape': (1, 1), }"), "numbers are expected"},
		{"fields", header("{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (1, 1), }"), "descr, fortran_order and shape"},
		{"fortran maybe", header("{'descr': '<i4', 'fortran_order': Maybe, 'shape': (1, 1), }"), "neither True nor False"},
		{"negative shape", header("{'descr': '<i4', 'fortran_order': False, 'shape': (-1, 1), }"), "the shape is not one"},
		{"huge shape", header("{'descr': '<i4', 'fortran_order': False, 'shape': (2147483647, 2147483647), }"), "numbers are supported"},
		{"overflowing shape", header("{'descr': '<i4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }"), "the shape is not one"},
		{"claims much", header("{'descr': '<i4', 'fortran_order': False, 'shape': (4096, 8192), }"), "0 bytes of numbers, but shape (4096, 8192) needs 134217728"},
		{"one dimension", string(npyFileOf("<i4", []int32{1, 2}, 2)), "is expected"},
		{"no dimension", string(npyFileOf("<i4", []int32{1})), "is expected"},
		{"empty dimension", string(npyFileOf("<i4", []int32{}, 0, 5)), "holds nothing"},
		{"too short", string(npyFileOf("<i4", []int32{1}, 1, 2)), "4 bytes of numbers"},
		{"too long", string(npyFileOf("<i4", []int32{1, 2, 3}, 1, 2)), "more bytes than shape"},
		{"negative", string(npyFileOf("<i4", []int32{1, -2}, 1, 2)), "npy: layer 0, index 1: -2 is negative"},
		{"NaN", string(npyFileOf("<f8", []float64{1, math.NaN()}, 1, 2)), "index 1: NaN"},
		{"Inf", string(npyFileOf("<f8", []float64{1, math.Inf(1)}, 1, 2)), "index 1: +Inf"},
	} {
		_, err := decodeStats(strings.NewReader(c.in), &guard.Standard)
		wantError(t, c.name, err, c.want)
	}
}

// A small text can stand for very much: only the start of it is read.
func TestBomb(t *testing.T) {
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	w.Write([]byte("[["))
	zeros := bytes.Repeat([]byte(" "), 1<<20)
	for range 64 {
		w.Write(zeros)
	}
	w.Close()
	_, err := DecodeStats(bytes.NewReader(z.Bytes()))
	wantError(t, "ratio", err, "gzip: the input decompresses to more than 200 times its size")
	lim := guard.Standard
	lim.Stream = 8 << 20
	_, err = decodeStats(bytes.NewReader(z.Bytes()), &lim)
	wantError(t, "bomb", err, "longer than 8388608 bytes (decompressed)")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err = DecodeStats(&endless{})
	runtime.ReadMemStats(&after)
	wantError(t, "endless", err, "at most 4096 layers")
	if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20 {
		t.Errorf("%d MiB for an endless stream of layers", n>>20)
	}
}

// endless is a JSON array of layers without end.
type endless struct{ n int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = "[1],"[(e.n+3)%4]
		if e.n == 0 {
			p[i] = '['
		}
		e.n++
	}
	return len(p), nil
}

func TestNames(t *testing.T) {
	for _, f := range Formats() {
		if got, err := ParseFormat(string(f)); got != f || err != nil {
			t.Errorf("%s: %v %v", f, got, err)
		}
	}
	_, err := ParseFormat("SGLang\n")
	wantError(t, "unknown", err, `format: "SGLang\n" is not one of moelb, sglang`)
	if !errors.Is(err, placement.ErrValue) {
		t.Error("not an ErrValue")
	}
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	p := example()
	for _, f := range Formats() {
		path := filepath.Join(dir, "placement.gz")
		if err := os.WriteFile(path, gzipped(encoded(t, f, &p, EncodeOptions{})), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := ReadPlacement(path, 2); err != nil {
			t.Errorf("%s: %v", f, err)
		}
	}
	path := filepath.Join(dir, "stats")
	if err := os.WriteFile(path, []byte("[[-1]]"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := ReadStats(path)
	wantError(t, "names the file", err, path+": loads: layer 0, index 0: -1")
	_, err = ReadStats(filepath.Join(dir, "absent"))
	wantError(t, "absent", err, "absent")
	_, err = ReadStats(dir)
	wantError(t, "folder of something else", err, "this one holds neither")
	_, err = ReadPlacement(dir, 1)
	wantError(t, "folder", err, dir)
}

// A rank that is out of service holds nothing: each engine has its own way to
// say so.
func TestDeadRanks(t *testing.T) {
	p := placement.Placement{Experts: 3, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, -1, -1, 2, 0}, {2, 1, -1, -1, 1, 0}}}
	if got := encoded(t, SGLang, &p, EncodeOptions{}); strings.Join(strings.Fields(string(got)), "") != `{"physical_to_logical_map":[[0,1,0,0,2,0],[2,1,0,0,1,0]]}` {
		t.Errorf("sglang: %s", got)
	}
	alive := placement.Placement{Experts: 3, GPUs: 2, PhysicalToLogical: [][]int{{0, 1, 2, 0}, {2, 1, 1, 0}}}
	if got, want := encoded(t, VLLMAscend, &p, EncodeOptions{}), encoded(t, VLLMAscend, &alive, EncodeOptions{}); string(got) != string(want) {
		t.Errorf("vllm-ascend: %s", got)
	}
	if d := cmp.Diff([][]int{{0, 1, -1, -1, 2, 0}, {2, 1, -1, -1, 1, 0}}, p.PhysicalToLogical); d != "" {
		t.Errorf("writing changed the placement:\n%s", d)
	}
	for _, f := range []Format{TensorRTLLM, FastDeploy} {
		wantError(t, string(f), EncodePlacement(&bytes.Buffer{}, f, &p, EncodeOptions{}), "the slot is empty")
	}
	hole := placement.Placement{Experts: 3, GPUs: 3, PhysicalToLogical: [][]int{{0, 1, -1, -1, 2, 0}, {2, 1, -1, 0, 1, 0}}}
	for _, f := range []Format{SGLang, VLLMAscend} { // a rank that serves one layer serves
		wantError(t, string(f), EncodePlacement(&bytes.Buffer{}, f, &hole, EncodeOptions{}), "the slot is empty")
	}
}

// Only a file that says how many experts there are may lack some.
func TestIncompleteFiles(t *testing.T) {
	for _, text := range []string{
		`{"version":1,"num_experts":4,"num_gpus":2,"physical_to_logical_map":[[0,1,-1,2]]}`,
		`{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,-1,2]],"logical_count":[[1,1,1,0]]}`,
	} {
		p, err := DecodePlacement(strings.NewReader(text), 0)
		if err != nil || fmt.Sprint(p.Missing(0, nil)) != "[3]" {
			t.Errorf("%s: %v, %v", text, p, err)
		}
	}
	_, err := DecodePlacement(strings.NewReader(`{"version":1,"num_gpus":2,"physical_to_logical_map":[[0,1,1,3]]}`), 0)
	wantError(t, "no number", err, "layer 0: expert 2 has no replica")
}
