package plugins

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
)

// TestStores: what is written is read, and not overwritten by who has not seen it.
func TestStores(t *testing.T) {
	rng := rand.New(rand.NewPCG(61, 61))
	for name, s := range map[string]store{
		"file":      file(filepath.Join(t.TempDir(), "snapshot")),
		"ConfigMap": &configMap{fake.NewFakeClient(), types.NamespacedName{Namespace: "serving", Name: "picker"}},
	} {
		ctx := t.Context()
		old, err := s.read(ctx)
		if len(old) != 0 || err != nil {
			t.Errorf("%s: read %q, error %v of nothing", name, old, err)
		}
		for range 20 {
			data := make([]byte, 1+rng.IntN(1000))
			for i := range data {
				data[i] = byte(rng.Uint32())
			}
			if err := s.write(ctx, old, data); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if err := s.write(ctx, []byte("older"), []byte("lost")); err == nil {
				t.Errorf("%s: written over what another wrote", name)
			}
			if old, err = s.read(ctx); err != nil || !bytes.Equal(old, data) {
				t.Fatalf("%s: read %d bytes, not the %d that were written: %v", name, len(old), len(data), err)
			}
		}
		if name == "ConfigMap" {
			if err := s.write(ctx, old, make([]byte, 1<<20)); err == nil {
				t.Error("more than a ConfigMap holds was written")
			}
		}
	}
}

// TestBadSnapshots: what is no snapshot is said, and a picker begins as if there were
// none.
func TestBadSnapshots(t *testing.T) {
	name := filepath.Join(t.TempDir(), "snapshot")
	s := newSite(t, 62, ", snapshot: {interval: 24h, file: "+name+"}", 3)
	s.idle(3)
	s.beat(s.picker)
	good, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(62, 62))
	bad := [][]byte{[]byte("x"), good[:len(good)/2]}
	for range 100 {
		b := bytes.Clone(good)
		b[rng.IntN(len(b))] ^= byte(1 + rng.IntN(255))
		bad = append(bad, b)
	}
	for _, whole := range []stored{
		{Epoch: 3, Ledger: []byte(`{}`)}, {Epoch: 3, Ledger: []byte(`{"version": 1, "units": [{"balancer": "eHg="}]}`)},
		{Epoch: 3, Ledger: []byte(`[1]`), Lengths: []byte(`{"models": {"m": null}}`)},
	} {
		b, err := whole.pack()
		if err != nil {
			t.Fatal(err)
		}
		bad = append(bad, b)
	}
	for i, b := range bad {
		if err := os.WriteFile(name, b, 0o600); err != nil {
			t.Fatal(err)
		}
		s.restart()
		if j := s.send(100, 10); j == nil {
			t.Errorf("snapshot %d: refused", i)
		} else {
			s.end(j)
		}
	}
	s.beat(s.picker) // it is replaced by a good one
	if _, err := s.start(); err == nil {
		t.Fatal("no picker")
	}
}

// TestSnapshotOfOther: a snapshot of another configuration is not taken over.
func TestSnapshotOfOther(t *testing.T) {
	name := filepath.Join(t.TempDir(), "snapshot")
	s := newSite(t, 63, ", snapshot: {interval: 24h, file: "+name+"}", 3)
	s.metrics = false
	for range 5 {
		s.send(1000, 100)
	}
	s.beat(s.picker)
	held := func(want int) {
		t.Helper()
		j := s.send(1000, 100)
		n := 0
		_, unit := s.picker.ledger.Stats()
		for _, k := range unit.Ranks {
			n += k.Requests
		}
		if n != want+1 {
			t.Errorf("%d requests are known, not %d", n, want+1)
		}
		s.end(j)
	}
	s.restart()
	held(5)
	s.yaml = siteYAML(", kvCapacity: 5000, snapshot: {interval: 24h, file: " + name + "}")
	s.restart()
	held(0)
}
