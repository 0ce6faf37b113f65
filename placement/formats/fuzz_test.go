package formats

import (
	"bufio"
	"bytes"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// tiny limits keep an execution cheap.
var tiny = guard.Limits{Layers: 32, Experts: 64, Slots: 96, GPUs: 16, Cells: 1 << 10, Kept: 1 << 10, Windows: 64, Stream: 1 << 14, Placement: 1 << 14, Memory: 1 << 14, File: 1 << 14, Objects: 1 << 10, Header: 1 << 12, Buffer: 256}

// checkStats demands what the reader promises.
func checkStats(t *testing.T, s Stats, err error) {
	if err != nil {
		if strings.Contains(err.Error(), "\n") || err.Error() == "" {
			t.Fatalf("not one line: %q", err)
		}
		return
	}
	if len(s.Windows) == 0 || s.Format == "" {
		t.Fatalf("%q: %d windows", s.Format, len(s.Windows))
	}
	for _, w := range s.Windows {
		if err := w.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(w) != len(s.Windows[0]) || w.Experts() != s.Windows[0].Experts() {
			t.Fatal("windows of different shapes")
		}
	}
	if s.Placement != nil {
		p := *s.Placement
		p.GPUs = max(p.GPUs, 1)
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
	}
}

// checkPlacement demands a valid result, and that what can be written reads as it was.
func checkPlacement(t *testing.T, p placement.Placement, err error) {
	if err != nil {
		if strings.Contains(err.Error(), "\n") || err.Error() == "" {
			t.Fatalf("not one line: %q", err)
		}
		return
	}
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	for _, f := range Formats() {
		if (f == SGLang || f == VLLMAscend) && slices.Contains(idle(&p), true) {
			continue // neither says of a rank that it is out of service
		}
		var b bytes.Buffer
		if err := EncodePlacement(&b, f, &p, EncodeOptions{}); err != nil {
			continue
		}
		q, err := decodePlacement(&b, p.GPUs, &standardSmallBuffer)
		if err != nil {
			t.Fatalf("%s: %v", f, err)
		}
		want := p
		switch f {
		case Omni, OmniJSON:
			want, q = sorted(p), sorted(q)
			if want.Slots() != q.Slots() { // a slot that no layer fills is not in the file
				continue
			}
			q.GPUSlots, want.GPUSlots = nil, nil
		case SGLang, VLLMAscend, TensorRTLLM, VLLMProposed:
			want.ReplicaRank = nil
		}
		if !reflect.DeepEqual(want, q) {
			t.Fatalf("%s: %+v became %+v", f, want, q)
		}
	}
}

var standardSmallBuffer = func() guard.Limits {
	l := guard.Standard
	l.Buffer = 512
	return l
}()

func fuzzStats(f *testing.F, read func(b *bufio.Reader) (Stats, error), seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := read(bufio.NewReaderSize(bytes.NewReader(in), tiny.Buffer))
		checkStats(t, s, err)
	})
}

func fuzzPlacement(f *testing.F, seeds ...string) {
	for _, s := range seeds {
		f.Add([]byte(s), 2)
	}
	f.Fuzz(func(t *testing.T, in []byte, gpus int) {
		if p, err := decodePlacement(bytes.NewReader(in), gpus, &tiny); err == nil || !strings.Contains(err.Error(), "num_gpus") {
			checkPlacement(t, p, err)
		}
	})
}

func FuzzSGLangJSON(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeStatsObjects(newScanner(b, &tiny)) },
		`{"logical_count": [[0,0],[1,2.5]]}`, `{"rank":0,"logical_count":[[[0,0],[1,2]],[[3,4],[5,6e2]]],"average_utilization_rate_over_window":null}`, `{"logical_count":[[-1]]}`)
}

func FuzzADRS(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeStatsObjects(newScanner(b, &tiny)) },
		`{"load_history":[{"logical_expert_load":[[0,0],[1,2]]},{"t":{"a":[true,"\u0041"]},"logical_expert_load":[[3,4],[5,600]]}]}`, `{"load_history":[]}`)
}

func FuzzJSONLines(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeStatsObjects(newScanner(b, &tiny)) },
		"{\"step\":0,\"domain\":\"law\",\"counts\":[[0,0],[1,2]]}\n{\"counts\":[[3,4],[5,600]]}\n")
}

func FuzzStatsArray(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeStats(b, &tiny) }, "[[0,0],[1,2.5]]", "[[[0,0],[1,2]],[[3,4],[5,6e2]]]", "[[1e999]]", "[[[[]]]]")
}

func FuzzCSV(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeCSV(b, &tiny) }, "0,0\r\n\n 1 , 2.5\n", "1,,2", "a,b")
}

func FuzzNpy(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeNpyStats(b, &tiny) },
		string(npyFileOf("<i4", []int32{0, 0, 1, 2, 3, 4, 5, 6}, 2, 2, 2)), string(npyFileOf(">f8", []float64{0, 0, 1, 2}, 2, 2)), string(npyFileOf("<f2", []uint16{1, 2}, 1, 2)))
}

func FuzzSafetensors(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeSafetensorsStats(b, &tiny) },
		string(rankFile([]string{"9_3", "9_4", "10_3", "10_4"}, [][]int64{{1, 0}, {0, 2}, {0, 3}, {0, 4}})), string(safetensorsOf(`{"m":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`, make([]byte, 8))))
}

func FuzzTorch(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeTorch(b, &tiny) },
		string(statFile()), string(passFile(0, []int{6, 7}, [][]int32{{1, 2, 3, 4}, {0, 0, 1, 0}})), string(tensorFile("FloatStorage", encodeElements([]float32{1, 2}), 1, 2)))
}

// FuzzPickle zips what it makes, since checksums keep a fuzzer out.
func FuzzPickle(f *testing.F) {
	for _, b := range [][]byte{statFile(), passFile(0, []int{6, 7}, [][]int32{{1, 2, 3, 4}, {0, 0, 1, 0}}), tensorFile("FloatStorage", encodeElements([]float32{1, 2}), 1, 2)} {
		f.Add(pickleOf(b))
	}
	storage := bytes.Repeat([]byte{1, 0, 0, 0}, 64)
	f.Fuzz(func(t *testing.T, in []byte) {
		s, err := decodeTorch(bytes.NewReader(archiveOf(in, storage[:48], storage[:16], storage[:32])), &tiny)
		checkStats(t, s, err)
	})
}

func FuzzMoelb(f *testing.F) {
	fuzzPlacement(f, `{"version":1,"num_experts":2,"num_gpus":2,"physical_to_logical_map":[[0,1,0,1]],"logical_to_physical_map":[[[0,2],[3,1]]],"logical_count":[[2,2]]}`,
		`{"version":1,"gpu_slots":[1,2],"physical_to_logical_map":[[1,0,-1]],"report":{}}`)
}

func FuzzSGLangPlacement(f *testing.F) {
	fuzzPlacement(f, `{"physical_to_logical_map": [[0,1,2,0]]}`, `{"physical_to_logical_map": [[0,-1]]}`)
}

func FuzzVLLMAscend(f *testing.F) {
	fuzzPlacement(f, `{"moe_layer_count":1,"layer_list":[{"layer_id":0,"device_count":2,"device_list":[{"device_id":0,"device_expert":[2,0]},{"device_id":1,"device_expert":[1,2]}]}]}`)
}

func FuzzOmni(f *testing.F) {
	fuzzPlacement(f, `{"devices":2,"moe_layers":2,"experts":3,"slots_per_layer":[4,3],"device_experts":[[[0,2],[1,2]],[[1],[2,0]]]}`, `[[[1,0,1],[0,1,0]],[[0,1,1],[1,0,1]]]`,
		string(npyFileOf("<i4", []int32{1, 0, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1}, 2, 2, 3)))
}

func FuzzFastDeploy(f *testing.F) {
	fuzzPlacement(f, `{"tokens_per_expert_stats_list":[[1,2]],"ep_rank_to_expert_id_list":[[0,1,0,1]],"expert_id_to_ep_rank_array":[[[2,0],[1,3]]],"expert_in_rank_num_list":[[2,2]]}`)
}

func FuzzVLLMProposed(f *testing.F) { fuzzPlacement(f, "[[0,1,1,0],[1,0,0,1]]", "[0,1]") }

func FuzzYAML(f *testing.F) {
	fuzzPlacement(f, "# a comment\n---\nnum_slots: 4\ninitial_global_assignments:\n  4: [1, 0,\n      2, 0]\n  3:\n  - 0\n  - 1\n  - 2\n  - 0\nlayer_updates_per_iter: 0\n", "initial_global_assignments:\n  3: *a\n")
}

// sniffSeeds is one input of every kind.
func sniffSeeds() []string {
	p := example()
	seeds := []string{"[[0,0],[1,2]]", "0,1\n2,3", `{"logical_count":[[1]]}`, `{"counts":[[1]]}`, string(statFile()), string(npyFileOf("<i4", []int32{1}, 1, 1)),
		string(rankFile([]string{"0_0"}, [][]int64{{1, 2}})), string(gzipped([]byte("[[1]]"))), "\xef\xbb\xbf1", "\x80\x02."}
	for _, f := range Formats() {
		var b bytes.Buffer
		if err := EncodePlacement(&b, f, &p, EncodeOptions{}); err != nil {
			panic(err)
		}
		seeds = append(seeds, b.String())
	}
	return seeds
}

func FuzzStatsSniff(f *testing.F) {
	fuzzStats(f, func(b *bufio.Reader) (Stats, error) { return decodeStats(b, &tiny) }, sniffSeeds()...)
}

func FuzzPlacementSniff(f *testing.F) { fuzzPlacement(f, sniffSeeds()...) }
