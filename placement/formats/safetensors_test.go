package formats

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// rankFile writes tensors of int64 in the order given.
func rankFile(names []string, rows [][]int64) []byte {
	var header, data bytes.Buffer
	header.WriteString(`{"__metadata__":{"format":"pt"}`)
	for i, name := range names {
		from := data.Len()
		binary.Write(&data, binary.LittleEndian, rows[i])
		fmt.Fprintf(&header, `,"%s":{"dtype":"I64","shape":[%d],"data_offsets":[%d,%d]}`, name, len(rows[i]), from, data.Len())
	}
	header.WriteString("}")
	for header.Len()%8 != 0 {
		header.WriteByte(' ')
	}
	return safetensorsOf(header.String(), data.Bytes())
}

func safetensorsOf(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func TestTensorRTLLMFolder(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, b []byte) {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("meta_info.json", []byte(`{"num_experts":2,"num_experts_per_token":1,"anything":[]}`))
	_, err := ReadStats(dir)
	wantError(t, "no ranks", err, "no rank<r>.safetensors")
	write("rank0.safetensors", rankFile([]string{"10_4", "9_3", "9_4", "10_3"}, [][]int64{{7, 8}, {1, 2}, {3, 4}, {5, 6}}))
	write("rank1.safetensors", rankFile([]string{"9_3", "9_4", "10_3", "10_4"}, [][]int64{{10, 0}, {0, 10}, {0, 0}, {0, 100}}))
	s, err := ReadStats(dir)
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "tensorrt-llm", "[[[11 2] [3 14]] [[5 6] [7 108]]]")

	write("rank1.safetensors", rankFile([]string{"9_3"}, [][]int64{{10, 0}}))
	_, err = ReadStats(dir)
	wantError(t, "a rank lacks some", err, "9_4: only 1 of 2 ranks hold it")
	write("rank1.safetensors", rankFile([]string{"9_5"}, [][]int64{{10, 0}}))
	_, err = ReadStats(dir)
	wantError(t, "a rank has more", err, `rank1.safetensors: "9_5": another rank does not hold it`)
	os.Rename(filepath.Join(dir, "rank1.safetensors"), filepath.Join(dir, "rank2.safetensors"))
	_, err = ReadStats(dir)
	wantError(t, "a rank is missing", err, "rank1.safetensors is missing")
	write("meta_info.json", []byte(`{"num_experts":3}`))
	_, err = ReadStats(dir)
	wantError(t, "other experts", err, "2 experts, but 3 are expected")
	for _, meta := range []string{"", "{}", `{"num_experts":-1}`, `{"num_experts":1e9}`, `{"num_experts":"2"}`, strings.Repeat("[", 1<<20)} {
		write("meta_info.json", []byte(meta))
		_, err = ReadStats(dir)
		wantError(t, "meta "+meta[:min(len(meta), 20)], err, "meta_info.json")
	}
}

func TestSafetensorsHostile(t *testing.T) {
	one := func(name, dtype, shape, offsets string) []byte {
		return safetensorsOf(fmt.Sprintf(`{"%s":{"dtype":"%s","shape":%s,"data_offsets":%s}}`, name, dtype, shape, offsets), make([]byte, 16))
	}
	good := rankFile([]string{"0_0"}, [][]int64{{1, 2}})
	if s, err := DecodeStats(bytes.NewReader(good)); err != nil {
		t.Error(err)
	} else {
		wantStats(t, s, "tensorrt-llm", "[[[1 2]]]")
	}
	for _, c := range []struct {
		name string
		in   []byte
		want string
	}{
		{"header of 4 GiB", []byte("\xff\xff\xff\xff\x00\x00\x00\x00{}"), "a header of 4294967295 bytes"},
		{"no tensors", safetensorsOf("{}      ", nil), "no tensors"},
		{"header is an array", safetensorsOf("{]      ", nil), "expected a string"},
		{"name", one(`a\n`, "I64", "[2]", "[0,16]"), `"a\n": a name <iteration>_<layer>`},
		{"dtype", one("0_0", "BF16", "[2]", "[0,16]"), `dtype "BF16"`},
		{"shape of three", one("0_0", "I64", "[1,2,1]", "[0,16]"), "shape (1, 2, 1)"},
		{"loads without layers", one("m", "I64", "[0,2]", "[0,0]"), "shape (0, 2): [layers, experts] is expected"},
		{"loads of many experts", one("m", "I64", "[1,2147483647]", "[0,16]"), "at most"},
		{"loads cut short", one("m", "I64", "[2,2]", "[0,32]"), `"m": the data: unexpected EOF`},
		{"loads reach further", one("m", "I64", "[1,2]", "[0,24]"), "data_offsets"},
		{"loads beside counts", safetensorsOf(`{"m":{"dtype":"I64","shape":[1,1],"data_offsets":[0,8]},"0_0":{"dtype":"I64","shape":[1],"data_offsets":[8,16]}}`, make([]byte, 16)), `"0_0": shape (1): [layers, experts]`},
		{"counts beside loads", safetensorsOf(`{"0_0":{"dtype":"I64","shape":[1],"data_offsets":[0,8]},"m":{"dtype":"I64","shape":[1,1],"data_offsets":[8,16]}}`, make([]byte, 16)), `"m": shape (1, 1): [num_experts]`},
		{"no shape", one("0_0", "I64", "[]", "[0,16]"), "shape ()"},
		{"negative shape", one("0_0", "I64", "[-2]", "[0,16]"), "shape (-2)"},
		{"huge shape", one("0_0", "I64", "[2147483647]", "[0,16]"), "shape (2147483647)"},
		{"shape of more", one("0_0", "I64", "[1e30]", "[0,16]"), "not a whole number"},
		{"offsets reach further", one("0_0", "I64", "[2]", "[0,1e18]"), "data_offsets"},
		{"offsets begin later", one("0_0", "I64", "[2]", "[8,24]"), "data_offsets"},
		{"three offsets", one("0_0", "I64", "[2]", "[0,8,16]"), "more than 2 numbers"},
		{"one offset", one("0_0", "I64", "[2]", "[0]"), "two numbers are expected"},
		{"data missing", good[:len(good)-1], "the data: unexpected EOF"},
		{"more data", append(bytes.Clone(good), 0), "bytes after the last tensor"},
		{"header cut", good[:20], "safetensors header"},
		{"name twice", rankFile([]string{"0_0", "0_0"}, [][]int64{{1, 2}, {1, 2}}), `the key "0_0" stands twice`},
		{"step twice", rankFile([]string{"0_0", "00_0"}, [][]int64{{1, 2}, {1, 2}}), `"00_0": the tensor stands twice`},
		{"negative", rankFile([]string{"0_0"}, [][]int64{{1, -2}}), "index 1: -2 is not a count"},
		{"another layer", rankFile([]string{"0_0", "1_1"}, [][]int64{{1, 2}, {3, 4}}), "1_1: where layer 0 of iteration 1 is expected"},
		{"fewer layers", rankFile([]string{"0_0", "0_1", "1_0"}, [][]int64{{1, 2}, {3, 4}, {5, 6}}), "1 layers, but window 0 has 2"},
		{"unknown key", safetensorsOf(`{"0_0":{"x":1}}`, nil), `"x" is not a field of a tensor`},
		{"missing key", safetensorsOf(`{"0_0":{"shape":[1]}}`, nil), "dtype, shape and data_offsets"},
	} {
		_, err := decodeStats(bytes.NewReader(c.in), &guard.Standard)
		wantError(t, c.name, err, c.want)
	}
}
