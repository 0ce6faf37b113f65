package formats

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/internal/long"
)

// mutated is one of the inputs with a few changes: bytes, tokens of JSON, pickle and
// YAML, pieces repeated, moved, cut out, or taken from another input.
func mutated(rng *rand.Rand, inputs [][]byte, out []byte) []byte {
	tokens := []string{"[", "]", "[[", "]]", "{", "}", ",", ":", `"`, "-1", "0", "1e999", "1e-5", "NaN", "null", "9223372036854775808", `\u0000`, "\n", " ", "- ", "\x00", "\xff\xff\xff\xff", "\x80\x02", ".", "(", "t", "R", "Q", "K\x00", "\x85", "q\x00", "h\x00", "]", "e", "u", "<f8", "1,", "layer"}
	out = append(out[:0], inputs[rng.IntN(len(inputs))]...)
	at := func() int { return rng.IntN(len(out) + 1) }
	piece := func(b []byte) []byte {
		if len(b) == 0 {
			return nil
		}
		i := rng.IntN(len(b))
		return b[i:min(len(b), i+1+rng.IntN(16))]
	}
	for range 1 + rng.IntN(4) {
		var put []byte
		switch rng.IntN(7) {
		case 0:
			if len(out) > 0 {
				out[rng.IntN(len(out))] = byte(rng.Uint32())
			}
			continue
		case 1:
			if len(out) > 0 {
				out[rng.IntN(len(out))] ^= 1 << rng.IntN(8)
			}
			continue
		case 2:
			put = []byte(tokens[rng.IntN(len(tokens))])
		case 3:
			put = bytes.Clone(piece(out))
		case 4:
			put = piece(inputs[rng.IntN(len(inputs))])
		case 5:
			i := at()
			out = append(out[:i], out[min(len(out), i+1+rng.IntN(8)):]...)
			continue
		case 6:
			if rng.IntN(8) == 0 {
				out = out[:at()]
			}
			continue
		}
		out = slices.Insert(out, at(), put...)
	}
	return out
}

// TestMutated reads what is nearly right, as every kind of file there is: nothing
// panics, and what is accepted is valid and written as it was read.
func TestMutated(t *testing.T) {
	n := 10_000
	if long.Tests() {
		n = 300_000
	}
	inputs := [][]byte{[]byte("[[0,1,1,0],[1,0,0,1]]"), []byte(`{"load_history":[{"logical_expert_load":[[0,0],[1,2]]},{"t":{"a":[true,"\u0041"]},"logical_expert_load":[[3,4],[5,600]]}]}`),
		[]byte("{\"step\":0,\"domain\":\"law\",\"counts\":[[0,0],[1,2]]}\n{\"counts\":[[3,4],[5,600]]}\n"), []byte("layer,a,b\n0,0,1\r\n\n1, 1 , 2.5\n"), []byte("1 2\n3 4"), npyFileOf(">f8", []float64{0, 0, 1, 2}, 2, 2),
		safetensorsOf(`{"m":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}`, make([]byte, 8)), []byte(`{"version":1,"gpu_slots":[1,2],"physical_to_logical_map":[[1,0,1]],"logical_count":[[1,2]]}`),
		[]byte("# c\n---\nnum_slots: 4\ninitial_global_assignments:\n  4: [1, 0,\n      2, 0]\n  3:\n  - 0\n  - 1\n  - 2\n  - 0\nlayer_updates_per_iter: 0\n"), []byte(`{"routes":[[[0,1],[2,3]],[[1,0],[3,2]]]}`)}
	for _, s := range sniffSeeds() {
		inputs = append(inputs, []byte(s))
	}
	var pickles [][]byte
	for _, b := range [][]byte{statFile(), passFile(0, []int{6, 7}, [][]int32{{1, 2, 3, 4}, {0, 0, 1, 0}}), tensorFile("FloatStorage", encodeElements([]float32{1, 2}), 1, 2)} {
		pickles = append(pickles, pickleOf(b))
	}
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	storage := bytes.Repeat([]byte{1, 0, 0, 0}, 64)
	var in []byte
	defer func() {
		if r := recover(); r != nil || t.Failed() {
			t.Fatalf("seed %d: %v: %q", seed, r, in)
		}
	}()
	accepted := 0
	for i := range n {
		switch i % 4 {
		case 0:
			in = mutated(rng, pickles, in)
			s, err := decodeTorch(bytes.NewReader(archiveOf(in, storage[:48], storage[:16], storage[:32])), &tiny)
			checkStats(t, s, err)
			if err == nil {
				accepted++
			}
		case 1, 2:
			in = mutated(rng, inputs, in)
			s, err := decodeStats(bytes.NewReader(in), &tiny)
			checkStats(t, s, err)
			if err == nil {
				accepted++
			}
		case 3:
			in = mutated(rng, inputs, in)
			p, err := decodePlacement(bytes.NewReader(in), rng.IntN(4), &tiny)
			if err == nil || !strings.Contains(err.Error(), "num_gpus") {
				checkPlacement(t, p, err)
			}
			if err == nil {
				accepted++
			}
			r, err := decodeRoutes(bytes.NewReader(in), 5, &tiny)
			if err == nil && r.Routes.Validate(len(r.Loads), r.Loads.Experts()) != nil {
				t.Fatalf("routes that are not valid: %+v", r.Routes)
			}
		}
	}
	if accepted < n/50 || accepted > n/2 {
		t.Errorf("%d of %d inputs were read: the changes are too many or too few", accepted, n)
	}
	t.Logf("%d of %d inputs were read", accepted, n)
}
