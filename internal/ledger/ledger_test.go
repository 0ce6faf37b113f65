package ledger

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestTable compares the table with a map under random calls, with keys that
// collide.
func TestTable(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 5))
		var table Table
		want := map[uint64]int32{}
		for range 5000 {
			key := uint64(r.IntN(300))
			if seed%2 == 1 {
				key = key << 57 // few homes
			}
			_, there := want[key]
			switch {
			case there && r.IntN(2) == 0:
				table.Remove(key)
				delete(want, key)
			case !there:
				slot := int32(r.IntN(1 << 30))
				table.Add(key, slot)
				want[key] = slot
			}
			key = uint64(r.IntN(300))
			slot, ok := want[key]
			if !ok {
				slot = -1
			}
			if got := table.Find(key); got != slot || table.Len() != len(want) {
				t.Fatalf("seed %d: key %d is at %d of %d keys, not at %d of %d", seed, key, got, table.Len(), slot, len(want))
			}
		}
		for key, slot := range want {
			if got := table.Find(key); got != slot {
				t.Fatalf("seed %d: key %d is at %d, not %d", seed, key, got, slot)
			}
		}
	}
}

func TestSnapshotReadsBack(t *testing.T) {
	w := NewWriter([]byte("before"), "magic 1\n")
	w.Int(0, -1, math.MaxInt64, math.MinInt64)
	w.Uint(math.MaxUint64)
	w.Float(.1, -2e300)
	w.Bool(true)
	w.Bool(false)
	data := w.Sealed()
	if string(data[:6]) != "before" {
		t.Fatal("what dst held is lost")
	}
	data = data[6:]
	r, wrong := NewReader(data, "magic 1\n")
	if wrong != "" {
		t.Fatal(wrong)
	}
	const lo, hi = math.MinInt64, math.MaxInt64
	if r.Int(0, 0) != 0 || r.Int(lo, hi) != -1 || r.Int(lo, hi) != math.MaxInt64 || r.Int(lo, hi) != math.MinInt64 ||
		r.Uint() != math.MaxUint64 || r.Float(0, 1) != .1 || r.Float(-math.MaxFloat64, 0) != -2e300 || !r.Bool() || r.Bool() || r.Bad() || r.Left() != 0 {
		t.Fatalf("%+v", r)
	}
	if r.Int(lo, hi); !r.Bad() {
		t.Error("there is a figure behind the last")
	}
	for i := range data {
		bent := append([]byte(nil), data...)
		bent[i] ^= 4
		if _, wrong := NewReader(bent, "magic 1\n"); wrong == "" {
			t.Errorf("byte %d bent: nothing is wrong", i)
		}
		if _, wrong := NewReader(data[:i], "magic 1\n"); wrong == "" {
			t.Errorf("%d bytes: nothing is wrong", i)
		}
	}
}

// TestReaderBounds: each bound of each kind of figure is one.
func TestReaderBounds(t *testing.T) {
	read := func(write func(*Writer), read func(*Reader)) bool {
		w := NewWriter(nil, "m")
		write(w)
		r, wrong := NewReader(w.Sealed(), "m")
		if wrong != "" {
			t.Fatal(wrong)
		}
		read(r)
		return !r.Bad()
	}
	for x, good := range map[int64]bool{2: false, 3: true, 7: true, 8: false} {
		if got := read(func(w *Writer) { w.Int(x) }, func(r *Reader) { r.Int(3, 7) }); got != good {
			t.Errorf("%d in [3, 7]: %v", x, got)
		}
		if got := read(func(w *Writer) { w.Float(float64(x)) }, func(r *Reader) { r.Float(3, 7) }); got != good {
			t.Errorf("%d. in [3, 7]: %v", x, got)
		}
	}
	if read(func(w *Writer) { w.Float(math.NaN()) }, func(r *Reader) { r.Float(math.Inf(-1), math.Inf(1)) }) {
		t.Error("NaN is in some range")
	}
	for n, good := range map[int64]bool{-1: false, 0: true, 2: true, 3: false, math.MaxInt64: false} {
		if got := read(func(w *Writer) { w.Int(n, 1, 1) }, func(r *Reader) { r.Length(1 << 30) }); got != good {
			t.Errorf("a list of %d with two bytes left: %v", n, got)
		}
	}
}
