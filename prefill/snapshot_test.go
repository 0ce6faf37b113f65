package prefill_test

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moelb/moelb/prefill"
)

// sealed appends the sum of a snapshot.
func sealed(body []byte) []byte {
	return binary.LittleEndian.AppendUint32(slices.Clone(body), crc32.ChecksumIEEE(body))
}

// busy is a balancer with something of everything.
func busy(tb testing.TB) *prefill.Balancer {
	tb.Helper()
	b, err := prefill.New(prefill.Config{Ranks: 4, MaxTokens: 1024, MaxKV: []int64{90_000, 0, 50_000, 70_000}, Speed: []float64{1, 2, 1, .5}, Routers: 2, Router: 1})
	if err != nil {
		tb.Fatal(err)
	}
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	for id := range prefill.ID(40) {
		r := prefill.Request{ID: id, Tokens: 200 + 77*int64(id), Leader: id / 2, Shared: int64(id)}
		switch id % 4 {
		case 1:
			r.CachedAt = []int64{int64(id), 0, 0, 5}
		case 2:
			r.Among = []int{3, 1, 3}
		}
		must(b.Enqueue(r))
	}
	for id := range prefill.ID(9) {
		_, err := b.Add(prefill.Request{ID: 100 + id, Tokens: 500})
		must(err)
	}
	must(b.Report(prefill.Report{Rank: 1, Epoch: 7, Version: b.Version(1), Work: prefill.WorkOf(700, 0)}))
	must(b.Enter(prefill.Request{ID: 200, Tokens: 80_000}, 2))
	for range 5 {
		b.Step(nil)
	}
	must(b.Drain(0))
	_, err = b.Dead(nil, 3)
	must(err)
	b.Step(nil)
	return b
}

// TestSnapshotBytes: whichever byte is bent or missing, the snapshot is refused; with
// its sum made right, it is refused or as large as before.
func TestSnapshotBytes(t *testing.T) {
	data := busy(t).AppendSnapshot([]byte("before"))
	if string(data[:6]) != "before" {
		t.Fatal("what dst held is lost")
	}
	data = data[6:]
	if _, err := prefill.FromSnapshot(data); err != nil {
		t.Fatal(err)
	}
	for i := range data {
		bent := slices.Clone(data)
		bent[i] ^= 1 << (i % 8)
		for what, d := range map[string][]byte{"bent": bent, "cut": data[:i]} {
			if _, err := prefill.FromSnapshot(d); !errors.Is(err, prefill.ErrSnapshot) {
				t.Fatalf("byte %d %s: %v", i, what, err)
			}
		}
		for bit := range 8 {
			bent := slices.Clone(data[:len(data)-4])
			bent[min(i, len(bent)-1)] ^= 1 << bit
			b, err := prefill.FromSnapshot(sealed(bent))
			if err != nil {
				if !errors.Is(err, prefill.ErrSnapshot) {
					t.Fatal(err)
				}
				continue
			}
			if n := len(b.AppendSnapshot(nil)); n > len(data)+20 {
				t.Fatalf("byte %d bent: %d bytes of %d", i, n, len(data))
			}
			for g := range b.Ranks() {
				if k := b.Rank(g); k.State == prefill.Dead && k.Requests > 0 {
					t.Fatalf("byte %d bent: %d requests on a dead rank", i, k.Requests)
				}
			}
		}
	}
}

// TestSnapshotVersion: another version of the format is named.
func TestSnapshotVersion(t *testing.T) {
	_, err := prefill.FromSnapshot(sealed([]byte("moelb prefill 7\nand more")))
	if !errors.Is(err, prefill.ErrSnapshot) || !strings.Contains(err.Error(), `version "7"`) {
		t.Error(err)
	}
}

// TestSnapshotAllocates: what a snapshot claims costs no memory.
func TestSnapshotAllocates(t *testing.T) {
	data := busy(t).AppendSnapshot(nil)
	body := data[:len(data)-4]
	worst := uint64(0)
	for at := 16; at < len(body); at++ {
		for _, big := range []uint64{1 << 16, 1 << 31, 1 << 50, 1<<64 - 1} {
			forged := append(binary.AppendUvarint(slices.Clone(body[:at]), big), body[at+1:]...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b, err := prefill.FromSnapshot(sealed(forged))
			runtime.ReadMemStats(&after)
			worst = max(worst, after.TotalAlloc-before.TotalAlloc)
			if (b == nil) == (err == nil) {
				t.Fatal(err)
			}
		}
	}
	if worst > 1<<20 {
		t.Errorf("a snapshot of %d bytes costs %d", len(data), worst)
	}
}

// TestResizeAllocates: a large unit costs what its ranks do, whatever the requests
// that wait.
func TestResizeAllocates(t *testing.T) {
	b, err := prefill.New(prefill.Config{Ranks: 2})
	if err != nil {
		t.Fatal(err)
	}
	for id := range prefill.ID(500) {
		if err := b.Enqueue(prefill.Request{ID: id, Tokens: 9, CachedAt: []int64{1, 2}, Among: []int{1}}); err != nil {
			t.Fatal(err)
		}
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := b.Resize(prefill.MaxRanks); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > 1000*prefill.MaxRanks {
		t.Errorf("%d bytes for %d ranks", used, prefill.MaxRanks)
	}
	if err := b.Resize(2); err != nil {
		t.Fatal(err)
	}
	if chunks := b.Step(nil); len(chunks) == 0 || chunks[0].Rank != 1 {
		t.Errorf("%+v", chunks)
	}
}

func FuzzFromSnapshot(f *testing.F) {
	data := busy(f).AppendSnapshot(nil)
	f.Add(data[:len(data)-4])
	f.Fuzz(func(t *testing.T, body []byte) {
		b, err := prefill.FromSnapshot(sealed(body))
		if err != nil {
			return
		}
		again, err := prefill.FromSnapshot(b.AppendSnapshot(nil))
		if err != nil {
			t.Fatalf("its own snapshot is refused: %v", err)
		}
		if x, y := b.Step(nil), again.Step(nil); !slices.Equal(x, y) {
			t.Fatalf("%+v and %+v", x, y)
		}
	})
}
