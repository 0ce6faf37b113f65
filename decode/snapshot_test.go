package decode

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestSnapshot: a restored balancer gives the same bytes, and the same answers to
// the next 50,000 operations, also where ranks take turns.
func TestSnapshot(t *testing.T) {
	operations := 50_000
	if testing.Short() {
		operations = 5_000
	}
	for n := range 6 {
		cfg := []Config{{Ranks: 24, KVCapacity: []int64{900_000}, MaxRequests: 120}, {Ranks: 10, Routers: 3, Router: 1}, {Ranks: 150}}[n%3]
		a := churn{r: rand.New(rand.NewPCG(11, 12)), b: newBalancer(t, cfg), alike: n >= 3}
		for range 5000 {
			a.one(t)
		}
		data := a.b.AppendSnapshot(nil)
		restored, err := FromSnapshot(data)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(data, restored.AppendSnapshot(nil)) {
			t.Fatal("the restored balancer's snapshot differs")
		}
		if !slices.Equal(a.b.Known(nil), restored.Known(nil)) {
			t.Fatal("other requests run")
		}
		a.r = rand.New(rand.NewPCG(13, 14))
		b := churn{rand.New(rand.NewPCG(13, 14)), restored, slices.Clone(a.ids), a.alike}
		for i := range operations {
			if x, y := a.one(t), b.one(t); !slices.Equal(x, y) {
				t.Fatalf("operation %d: %v, restored %v", i, x, y)
			}
		}
		if !slices.Equal(a.b.AppendSnapshot(nil), b.b.AppendSnapshot(nil)) {
			t.Fatal("the states differ in the end")
		}
		recompute(t, restored)
	}
}

func TestSnapshotRefuses(t *testing.T) {
	c := churn{r: rand.New(rand.NewPCG(15, 16)), b: newBalancer(t, Config{Ranks: 4})}
	for range 300 {
		c.one(t)
	}
	data := c.b.AppendSnapshot(nil)
	for i := range data {
		broken := slices.Clone(data)
		broken[i] ^= 1
		for _, d := range [][]byte{broken, data[:i]} {
			if b, err := FromSnapshot(d); !errors.Is(err, ErrSnapshot) || b != nil {
				t.Fatalf("byte %d: %v", i, err)
			}
		}
	}
	if _, err := FromSnapshot(append(slices.Clone(data), 0)); !errors.Is(err, ErrSnapshot) {
		t.Errorf("a byte more: %v", err)
	}
}

// FuzzSnapshot: bytes with a true checksum are refused, or are a state whose
// figures agree and that goes on working.
func FuzzSnapshot(f *testing.F) {
	for _, cfg := range []Config{{Ranks: 3}, {Ranks: 4, Routers: 2, KVCapacity: []int64{100_000}}} {
		c := churn{r: rand.New(rand.NewPCG(17, 18)), b: newBalancer(f, cfg)}
		for range 100 {
			c.one(f)
		}
		data := c.b.AppendSnapshot(nil)
		f.Add(data[len(snapshotMagic) : len(data)-4])
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		data := append([]byte(snapshotMagic), body...)
		data = binary.LittleEndian.AppendUint32(data, crc32.ChecksumIEEE(data))
		b, err := FromSnapshot(data)
		if err != nil {
			if !errors.Is(err, ErrSnapshot) {
				t.Fatal(err)
			}
			return
		}
		recompute(t, b)
		c := churn{r: rand.New(rand.NewPCG(19, 20)), b: b, ids: b.Known(nil)}
		if len(b.ranks) > 1000 {
			return
		}
		for range 50 {
			c.one(t)
		}
		recompute(t, b)
	})
}
