package formats

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// tokenFile is a per_token record of SGLang: slots of two layers, the first dense
// in the second token.
func tokenFile(ids []int32, tokens int) []byte {
	w := &torchWriter{}
	return w.zip(func() {
		w.op("}")
		w.put()
		w.op("(")
		w.str("records")
		w.op("]")
		w.put()
		w.op("(}")
		w.put()
		w.op("(")
		w.str("forward_pass_id")
		w.int(1)
		w.str("topk_ids_of_layer")
		w.tensor("IntStorage", encodeElements(ids), 2, tokens, 2)
		w.op("ue")
		w.str("last_physical_to_logical_map")
		w.tensor("LongStorage", encodeElements([]int64{0, 1, 2, 0, 2, 1, 0, 2}), 2, 4)
		w.op("u")
	})
}

func npyOf(descr string, shape []int, raw []byte) string {
	return string(matrix.NpyHeader(descr, shape)) + string(raw)
}

func TestRoutes(t *testing.T) {
	two := []int32{0, 1, 2, 1 /* layer 1 */, 1, 0, 2, 0}
	for _, c := range []struct{ name, in, format, want string }{
		{"JSON", "[[[0,1],[2,1]],[[1,0],[2,0]]]", "json", "2 [[0 1 2 1] [1 0 2 0]] [[1 2 1] [2 1 1]] [2 2]"},
		{"JSON, named", ` {"routes": [[[0,1],[2,1]],[[1,0],[2,0]]]}`, "json", "2 [[0 1 2 1] [1 0 2 0]] [[1 2 1] [2 1 1]] [2 2]"},
		{"layers of unlike lengths", "[[],[[3]]]", "json", "1 [[] [3]] [[0 0 0 0] [0 0 0 1]] [0 1]"},
		{"npy", npyOf("<i4", []int{2, 2, 2}, encodeElements(two)), "npy", "2 [[0 1 2 1] [1 0 2 0]] [[1 2 1] [2 1 1]] [2 2]"},
		{"npy of bytes", npyOf("|u1", []int{1, 2, 1}, []byte{7, 3}), "npy", "1 [[7 3]] [[0 0 0 1 0 0 0 1]] [2]"},
		{"CSV", "token,L1,L2\n0,0 1,1 0\n\n1,2 1,2 0\n", "csv", "2 [[0 1 2 1] [1 0 2 0]] [[1 2 1] [2 1 1]] [2 2]"},
		{"SGLang", string(tokenFile([]int32{0, 1, 0, 0, -1, -1, 3, 2 /* layer 1 */, 0, 1, 2, 3, 1, 2, -1, -1}, 4)), "sglang-pt", "2 [[0 1 0 2] [2 1 0 2 1 0]] [[2 1 1] [2 2 2]] [2 3]"},
	} {
		for _, zip := range []bool{false, true} {
			in := []byte(c.in)
			if zip {
				var b bytes.Buffer
				z := gzip.NewWriter(&b)
				z.Write(in)
				z.Close()
				in = b.Bytes()
			}
			r, err := DecodeRoutes(bytes.NewReader(in), 0)
			if err != nil {
				t.Errorf("%s: %v", c.name, err)
				continue
			}
			if got := fmt.Sprint(r.Routes.TopK, r.Routes.IDs, r.Loads, r.Tokens); r.Format != c.format || got != c.want {
				t.Errorf("%s: %s %s, want %s", c.name, r.Format, got, c.want)
			}
			if err := r.Routes.Validate(len(r.Loads), r.Loads.Experts()); err != nil {
				t.Errorf("%s: %v", c.name, err)
			}
		}
	}
}

func TestRoutesThinned(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 100 {
		most, n := 1+rng.IntN(9), 1+rng.IntN(100)
		var in strings.Builder
		in.WriteString("token,L\n")
		for i := range n {
			fmt.Fprintf(&in, "%d,%d\n", i, i)
		}
		r, err := DecodeRoutes(strings.NewReader(in.String()), most)
		if err != nil {
			t.Fatal(err)
		}
		ids := r.Routes.IDs[0]
		if len(ids) > most || r.Tokens[0] != n || len(ids) < min(n, (most+1)/2) {
			t.Fatalf("%d of %d tokens kept, at most %d: %v", len(ids), n, most, ids)
		}
		for i, e := range ids { // evenly
			if step := int(ids[min(1, len(ids)-1)]); int(e) != i*step {
				t.Fatalf("of %d tokens, %d at most: %v", n, most, ids)
			}
		}
		sum := 0.0
		for _, x := range r.Loads[0] {
			sum += x
		}
		if sum != float64(n) {
			t.Fatalf("loads of %v tokens, want %d", sum, n)
		}
	}
}

func TestRoutesRefused(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", "empty"},
		{"no tokens", "[[],[]]", "routes: no tokens"},
		{"a list", "[1]", "routes: layer 0: expected '['"},
		{"loads", "[[1,2],[3,4]]", "routes: layer 0: expected '['"},
		{"an empty token", "[[[]]]", "routes: layer 0, index 0: 0 experts"},
		{"unlike tokens", "[[[0,1],[1]]]", "routes: layer 0, index 1: 1 experts, but the first token has 2"},
		{"too many experts", "[[[" + strings.Repeat("1,", 40) + "2]]]", "more than 33 numbers"},
		{"twice", "[[[1,1]]]", "routes: layer 0, index 0: expert 1 twice"},
		{"negative", "[[[-1,1]]]", "-1 is no expert's number"},
		{"a fraction", "[[[0.5,1]]]", "0.5 is no expert's number"},
		{"large", "[[[1e9,1]]]", "1e+09 is no expert's number"},
		{"cut", "[[[1,2],[3", ""},
		{"two values", "[[[1]]] 5", "expected the end"},
		{"another field", `{"loads":[[1]]}`, "loads: unknown field"},
		{"twice the field", `{"routes":[[[1]]],"routes":[[[1]]]}`, "unknown field"},
		{"CSV without header", "0,1 2\n", "a header is expected"},
		{"CSV of counts", "a,b\n1,2,3\n", "csv, line 2: 3 columns, but the header has 2"},
		{"CSV with a word", "a,b\n1,2 x\n", "csv, line 2: layer 0, index 1"},
		{"CSV with a cell empty", "a,b\n1,\n", "line 2: routes: layer 0, index 0: 0 experts"},
		{"npy of two dimensions", npyOf("<i4", []int{2, 2}, make([]byte, 16)), "npy: shape (2, 2)"},
		{"npy of floats", npyOf("<f4", []int{1, 1, 2}, make([]byte, 8)), "of type f4"},
		{"npy cut", npyOf("<i4", []int{1 << 30, 1 << 30, 2}, make([]byte, 8)), "npy: shape"},
		{"npy ends", npyOf("<i4", []int{2, 1 << 30, 1}, make([]byte, 8)), "npy: layer 0, index 2: the input ends"},
		{"npy goes on", npyOf("|i1", []int{1, 1, 1}, make([]byte, 8)), "more bytes"},
		{"SGLang without map", string(statFile()), "last_physical_to_logical_map"},
		{"SGLang per_pass", string(passFile(0, []int{1}, [][]int32{{1, 2, 3, 4, 5, 6, 7, 8}})), ""},
		{"SGLang, no such slot", string(tokenFile([]int32{0, 4, 0, 1}, 1)), "4 is no slot"},
	} {
		_, err := DecodeRoutes(strings.NewReader(c.in), 0)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	path := filepath.Join(t.TempDir(), "r.csv")
	os.WriteFile(path, []byte("a,b\n1,x\n"), 0o600)
	if _, err := ReadRoutes(path, 0); err == nil || !strings.Contains(err.Error(), "r.csv") {
		t.Errorf("the error does not name the file: %v", err)
	}
}

func FuzzRoutes(f *testing.F) {
	for _, s := range []string{"[[[0,1],[2,1]]]", `{"routes":[[[3]]]}`, "t,a,b\n0,1 2,3 4\n", npyOf("<i4", []int{1, 1, 2}, encodeElements([]int32{1, 2})), string(tokenFile([]int32{0, 1, 2, 3}, 1))} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := decodeRoutes(bytes.NewReader(in), 5, &tiny)
		if err != nil {
			return
		}
		if err := r.Routes.Validate(len(r.Loads), r.Loads.Experts()); err != nil {
			t.Error(err)
		}
		for l, ids := range r.Routes.IDs {
			if len(ids) > 5*r.Routes.TopK || slices.Min(r.Loads[l]) < 0 {
				t.Errorf("layer %d: %d ids", l, len(ids))
			}
		}
	})
}
