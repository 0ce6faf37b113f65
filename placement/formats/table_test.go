package formats

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// A long recording is kept in fewer windows, of neighbours in order, and no
// token is lost.
func TestLongRecording(t *testing.T) {
	for kept := 32; kept <= 4096; kept *= 2 {
		for n := range 40 {
			lim := guard.Standard
			lim.Kept = kept
			tab := table{lim: &lim, field: "x"}
			for w := range n + 1 {
				for l := range 2 {
					if err := tab.add([]float64{float64(w), float64(l), 2}); err != nil {
						t.Fatal(err)
					}
				}
				if err := tab.end(); err != nil {
					t.Fatal(err)
				}
			}
			s, err := tab.stats("x")
			if err != nil {
				t.Fatal(err)
			}
			if len(s.Windows)*2*16 > max(kept, 2*16) {
				t.Errorf("%d windows kept where %d numbers may be", len(s.Windows), kept)
			}
			for i, w := range s.Windows {
				from, to := i*s.Steps, min((i+1)*s.Steps, n+1)
				sum := 0
				for k := from; k < to; k++ {
					sum += k
				}
				want := fmt.Sprint(placement.Loads{{float64(sum), 0, float64(2 * (to - from))}, {float64(sum), float64(to - from), float64(2 * (to - from))}})
				if got := fmt.Sprint(w); got != want {
					t.Fatalf("kept %d, %d steps, window %d of %d: %s, want %s", kept, n+1, i, s.Steps, got, want)
				}
			}
		}
	}
	lim := guard.Standard
	lim.Windows = 4
	s, err := decodeStats(strings.NewReader("["+strings.Repeat("[[1,2]],", 8)+"[[1,2]]]"), &lim)
	if err != nil || fmt.Sprint(s.Windows) != "[[[4 8]] [[4 8]] [[1 2]]]" || s.Steps != 4 {
		t.Errorf("%v, %v, %d", err, s.Windows, s.Steps)
	}
}

// Whatever a placement is written as, it is not taken for statistics; counts
// that look alike are.
func TestPlacementsAsStats(t *testing.T) {
	p := placement.Placement{Experts: 8, GPUs: 2, PhysicalToLogical: [][]int{{3, 0, 1, 2, 4, 3, 5, 6, 7, 0}, {0, 1, 2, 3, 4, 0, 7, 6, 5, 1}}}
	for _, f := range Formats() {
		_, err := DecodeStats(bytes.NewReader(encoded(t, f, &p, EncodeOptions{})))
		wantError(t, string(f), err, "placement")
	}
	ids := npyFileOf("<i8", []int64{3, 0, 1, 2, 4, 3, 5, 6, 7, 0, 0, 1, 2, 3, 4, 0, 7, 6, 5, 1}, 2, 10)
	for name, in := range map[string]string{
		"ids": string(ids), "ids as text": "[[3,0,1,2,4,3,5,6,7,0]]", "ids as csv": "3,0,1,2,4,3,5,6,7,0\n0,1,2,3,4,0,7,6,5,1\n",
		"mask as text": "[[[1,1,1,1,0,0,0,0]],[[0,0,0,1,1,1,1,1]]]",
	} {
		_, err := DecodeStats(strings.NewReader(in))
		wantError(t, name, err, "this is a placement, not statistics")
	}
	for name, in := range map[string]string{
		"an id is missing":             "[[3,0,1,2,4,3,5,6,8,0]]",
		"one is not whole":             "[[3,0,1,2,4,3,5,6,7,0.5]]",
		"other ids in the second row":  "[[0,1,2,3,4,5,6,7,8],[0,1,2,3,4,5,6,7,7]]",
		"few":                          "[[3,0,1,2]]",
		"an expert that no device has": "[[[1,1,1,0,0,0,0,0]],[[0,0,0,0,1,1,1,1]]]",
		"a count of two":               "[[[1,2,1,1,0,0,0,0]],[[0,0,0,1,1,1,1,1]]]",
		"single tokens, many steps":    "[" + strings.Repeat("[[1,1,1,1,1,1,1,1]],", 4) + "[[1,0,0,0,0,0,0,0]]]",
	} {
		if _, err := DecodeStats(strings.NewReader(in)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The length of a header may be any number: its bytes may look like white
// space, nothing, gzip or a byte order mark.
func TestSafetensorsHeaders(t *testing.T) {
	dir := t.TempDir()
	for _, n := range []int{0x100, 0x120, 0x10a, 0x200, 0x280, 0x8b1f, 0x20200a} {
		head := `{"0_0":{"dtype":"I64","shape":[2],"data_offsets":[0,16]}}`
		b := binary.LittleEndian.AppendUint64(nil, uint64(n))
		b = append(b, head...)
		b = append(b, bytes.Repeat([]byte(" "), n-len(head))...)
		b = binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b, 5), 7)
		path := filepath.Join(dir, "rank0.safetensors")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ReadStats(path)
		if err != nil || fmt.Sprint(s.Windows) != "[[[5 7]]]" {
			t.Errorf("%#x: %v, %v", n, s.Windows, err)
		}
	}
}

func TestLayerNumbers(t *testing.T) {
	p := example()
	for _, c := range []struct {
		f    Format
		o    EncodeOptions
		want string
	}{
		{TensorRTLLM, EncodeOptions{Layers: []int{1, 5}}, "  1: [3, 0, 1, 2, 3, 0]\n  5: [2, 1, 0, 1, 3, 2]\n"},
		{SGLang, EncodeOptions{Layers: []int{1, 3}}, "[\n[3, 0, 1, 2, 3, 0],\n[3, 0, 1, 2, 3, 0],\n[3, 0, 1, 2, 3, 0],\n[2, 1, 0, 1, 3, 2]\n]"},
		{SGLang, EncodeOptions{Layers: []int{0, 1}, Rows: 3}, "[\n[3, 0, 1, 2, 3, 0],\n[2, 1, 0, 1, 3, 2],\n[3, 0, 1, 2, 3, 0]\n]"},
		{VLLMAscend, EncodeOptions{Layers: []int{1, 3}}, `"layer_id": 1, `},
	} {
		if got := string(encoded(t, c.f, &p, c.o)); !strings.Contains(got, c.want) {
			t.Errorf("%s %+v: %s", c.f, c.o, got)
		}
	}
	for want, o := range map[string]EncodeOptions{
		"layers: 1 numbers for 2 layers": {Layers: []int{1}}, "layers: layer 1: number 1: ascending": {Layers: []int{1, 1}},
		"layers: layer 0: number -1": {Layers: []int{-1, 1}}, "too many": {Layers: []int{0, 1 << 30}}, "first_layer: -1": {FirstLayer: -1},
	} {
		wantError(t, want, EncodePlacement(&bytes.Buffer{}, SGLang, &p, o), want)
	}
}
