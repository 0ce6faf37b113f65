package deepseek_test

import (
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moelb/moelb/eplb/internal/deepseek"
)

// The order is that of the C++ library itself, its heap included.
func TestIntrosortOrder(t *testing.T) {
	text, err := os.ReadFile("testdata/std_sort.txt")
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 || len(lines)%2 != 0 {
		t.Fatalf("%d lines", len(lines))
	}
	for ; len(lines) > 0; lines = lines[2:] {
		var weight []float32
		for _, s := range strings.Fields(lines[0]) {
			x, err := strconv.ParseFloat(s, 32)
			if err != nil {
				t.Fatal(err)
			}
			weight = append(weight, float32(x))
		}
		var want []int
		for _, s := range strings.Fields(lines[1]) {
			i, err := strconv.Atoi(s)
			if err != nil {
				t.Fatal(err)
			}
			want = append(want, i)
		}
		if got := introsorted(weight); !slices.Equal(got, want) {
			t.Errorf("weights %v: got %v, want %v", weight, got, want)
		}
		if got := dumbSort(weight); !slices.Equal(got, want) {
			t.Errorf("weights %v: the second implementation gives %v, want %v", weight, got, want)
		}
	}
}

func introsorted(weight []float32) (order []int) {
	key := make([]uint64, len(weight))
	for i, w := range weight {
		key[i] = deepseek.Descending(w, i)
	}
	deepseek.Introsort(key)
	for _, k := range key {
		order = append(order, deepseek.Item(k))
	}
	return order
}

func TestIntrosortAgainstDumb(t *testing.T) {
	for seed := range uint64(3000) {
		r := rand.New(rand.NewPCG(seed, 3))
		weight := make([]float32, 1+r.IntN(400))
		kinds := 1 + r.IntN(1+len(weight))
		for i := range weight {
			weight[i] = float32(r.IntN(kinds))
		}
		if r.IntN(4) == 0 {
			slices.Sort(weight)
		}
		if got, want := introsorted(weight), dumbSort(weight); !slices.Equal(got, want) {
			t.Fatalf("seed %d: got %v, want %v", seed, got, want)
		}
	}
}
