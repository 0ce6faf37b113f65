package plugins

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Snapshot is where a picker writes what it knows, for the one that comes after it:
// to a file, or to a ConfigMap.
type Snapshot struct {
	File      string `json:"file"`
	ConfigMap string `json:"configMap"` // namespace/name
	Interval  string `json:"interval"`  // "" = 5s
}

// store is where it lies.
type store interface {
	// read returns what lies there; nil = nothing.
	read(ctx context.Context) ([]byte, error)
	// write replaces what lies there, unless that has become something else than old.
	write(ctx context.Context, old, data []byte) error
}

// open returns the store that the parameters say; nil = none.
func (s *Snapshot) open() (store, time.Duration, error) {
	interval, err := duration("snapshot: interval", s.Interval)
	if err != nil {
		return nil, 0, err
	}
	if interval == 0 {
		interval = 5 * time.Second
	}
	switch {
	case s.File != "" && s.ConfigMap != "":
		return nil, 0, fmt.Errorf("parameters: snapshot: both a file and a configMap")
	case s.File != "":
		return file(s.File), interval, nil
	case s.ConfigMap != "":
		namespace, name, ok := strings.Cut(s.ConfigMap, "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, 0, fmt.Errorf("parameters: snapshot: configMap: %q is not namespace/name", s.ConfigMap)
		}
		cfg, err := ctrl.GetConfig()
		if err != nil {
			return nil, 0, fmt.Errorf("parameters: snapshot: configMap: %w", err)
		}
		c, err := client.New(cfg, client.Options{})
		if err != nil {
			return nil, 0, fmt.Errorf("parameters: snapshot: configMap: %w", err)
		}
		return &configMap{c, types.NamespacedName{Namespace: namespace, Name: name}}, interval, nil
	}
	return nil, 0, nil
}

// file is a store that is one file, which is replaced as a whole.
type file string

const mostStored = 64 << 20 // bytes

func (f file) read(context.Context) ([]byte, error) {
	r, err := os.Open(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, mostStored+1))
	if err == nil && len(data) > mostStored {
		err = fmt.Errorf("%s: more than %d bytes", f, mostStored)
	}
	return data, err
}

func (f file) write(ctx context.Context, old, data []byte) error {
	switch now, err := f.read(ctx); {
	case err != nil:
		return err
	case !bytes.Equal(now, old):
		return errMoved
	}
	w, err := os.CreateTemp(filepath.Dir(string(f)), filepath.Base(string(f))+".*")
	if err != nil {
		return err
	}
	_, err = w.Write(data)
	err = errors.Join(err, w.Close())
	if err == nil {
		err = os.Rename(w.Name(), string(f))
	}
	if err != nil {
		_ = os.Remove(w.Name())
	}
	return err
}

// configMap is a store that is a ConfigMap of its own.
type configMap struct {
	client.Client
	name types.NamespacedName
}

const (
	configMapKey  = "snapshot"
	mostConfigMap = 1<<20 - 1<<14 // bytes, of the MiB that Kubernetes takes
)

func (c *configMap) read(ctx context.Context) ([]byte, error) {
	var m corev1.ConfigMap
	err := c.Get(ctx, c.name, &m)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return m.BinaryData[configMapKey], err
}

func (c *configMap) write(ctx context.Context, old, data []byte) error {
	if len(data) > mostConfigMap {
		return fmt.Errorf("%d bytes are more than a ConfigMap holds: use a file", len(data))
	}
	var m corev1.ConfigMap
	err := c.Get(ctx, c.name, &m)
	switch {
	case apierrors.IsNotFound(err):
		m.ObjectMeta = metav1.ObjectMeta{Namespace: c.name.Namespace, Name: c.name.Name}
		m.BinaryData = map[string][]byte{configMapKey: data}
		return c.Create(ctx, &m)
	case err != nil:
		return err
	case !bytes.Equal(m.BinaryData[configMapKey], old):
		return errMoved
	}
	if m.BinaryData == nil {
		m.BinaryData = map[string][]byte{}
	}
	m.BinaryData[configMapKey] = data
	return c.Update(ctx, &m) // of this version, or a conflict
}

// errMoved says that another picker has written meanwhile.
var errMoved = errors.New("another picker has written it")

// stored is what lies in a store. Each picker that takes over begins an epoch: one
// whose epoch is over does not write any more.
type stored struct {
	Epoch   uint64          `json:"epoch"`
	Holder  uint64          `json:"holder"`
	Ledger  json.RawMessage `json:"ledger"`
	Lengths json.RawMessage `json:"lengths"`
}

func (s *stored) pack() ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := errors.Join(json.NewEncoder(z).Encode(s), z.Close()); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func unpack(data []byte) (*stored, error) {
	s := new(stored)
	if len(data) == 0 {
		return s, nil
	}
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, mostStored+1))
	if err == nil && len(text) > mostStored {
		err = fmt.Errorf("more than %d bytes", mostStored)
	}
	if err != nil {
		return nil, err
	}
	return s, json.Unmarshal(text, s)
}

// keeper keeps a picker's snapshot. Until the first request comes, as to one of several
// pickers that leads, it reads what the one before writes; from then on it writes.
type keeper struct {
	store  store
	picker *DecodePicker
	holder uint64
	first  sync.Once
	ended  chan struct{} // closed when run has returned

	mu     sync.Mutex
	raw    []byte // what lies in the store, when it was last looked at
	latest *stored
	epoch  uint64 // of this picker; 0 = it has not begun
	over   bool   // its epoch is
}

func newKeeper(s store, p *DecodePicker) *keeper {
	return &keeper{store: s, picker: p, holder: rand.Uint64(), ended: make(chan struct{}), latest: &stored{}}
}

// run keeps it at an interval, until the context is done, and then once more.
func (k *keeper) run(ctx context.Context, interval time.Duration, failed func(error)) {
	defer close(k.ended)
	t := time.NewTicker(interval)
	defer t.Stop()
	for {
		last := false
		select {
		case <-t.C:
		case <-ctx.Done():
			last = true
		}
		c, cancel := context.WithTimeout(context.WithoutCancel(ctx), interval)
		if err := k.beat(c); err != nil {
			failed(err)
		}
		cancel()
		if last {
			return
		}
	}
}

// beat reads or writes once.
func (k *keeper) beat(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.over {
		return nil
	}
	raw, err := k.store.read(ctx)
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	now, err := unpack(raw)
	if err != nil {
		now = &stored{} // nothing that anyone could go on from
		err = fmt.Errorf("snapshot: %w", err)
	}
	k.raw = raw
	if k.epoch == 0 {
		k.latest = now
		return err
	}
	if now.Epoch > k.epoch || now.Epoch == k.epoch && now.Holder != k.holder {
		k.over = true
		return fmt.Errorf("snapshot: another picker has begun epoch %d", now.Epoch)
	}
	return k.write(ctx)
}

func (k *keeper) write(ctx context.Context) error {
	lengths, err := k.picker.parameters.lengths.append()
	if err != nil {
		return err
	}
	s := stored{Epoch: k.epoch, Holder: k.holder, Ledger: k.picker.ledger.AppendSnapshot(nil), Lengths: lengths}
	data, err := s.pack()
	if err == nil {
		err = k.store.write(ctx, k.raw, data)
	}
	if err != nil {
		return fmt.Errorf("snapshot: %w", err)
	}
	k.raw = data
	return nil
}

// begin takes over from the picker before, with the first request. What can't be taken
// over is as good as none.
func (k *keeper) begin(failed func(error)) {
	k.first.Do(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.epoch = k.latest.Epoch + 1
		if len(k.latest.Ledger) > 0 {
			if err := k.picker.ledger.Restore(k.latest.Ledger); err != nil {
				failed(err)
			}
		}
		if len(k.latest.Lengths) > 0 {
			if err := k.picker.parameters.lengths.restore(k.latest.Lengths); err != nil {
				failed(err)
			}
		}
		k.latest = nil
	})
}
