package formats

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
)

// hostileFiles are small for what they claim or nest, each with where it is
// refused or how little is made of it. They are as large as a reader lets them be.
func hostileFiles() map[string][]byte {
	pickle := func(body func(w *torchWriter)) []byte {
		var w torchWriter
		return w.zip(func() { body(&w) })
	}
	view := func(w *torchWriter, class string, raw []byte, shape ...int) {
		of, _ := matrix.Torch(class)
		w.view(class, raw, len(raw)/of.Size, 0, shape, make([]int, len(shape)))
	}
	ids := func(n int) []byte { return encodeElements(make([]int32, n)) }
	many := func(n int, text string) []byte { return []byte(strings.Repeat(text, n)) }
	files := map[string][]byte{
		"pickle: empty lists":      pickle(func(w *torchWriter) { w.op(strings.Repeat("]", 8<<20)) }),
		"pickle: marks":            pickle(func(w *torchWriter) { w.op(strings.Repeat("(", 8<<20)) }),
		"pickle: nested tuples":    pickle(func(w *torchWriter) { w.op("N" + strings.Repeat("\x85", 8<<20)) }),
		"pickle: tuples of tuples": pickle(func(w *torchWriter) { w.op(")" + strings.Repeat("2\x86", 8<<20)) }),
		"pickle: memo":             pickle(func(w *torchWriter) { w.op("]" + strings.Repeat("\x94", 8<<20)) }),
		"pickle: one long string":  pickle(func(w *torchWriter) { w.op("X\xff\xff\xff\x7f", strings.Repeat("x", 4<<20)) }),
		"pickle: strings kept": pickle(func(w *torchWriter) {
			w.op("(" + strings.Repeat("X\x00\x04\x00\x00"+strings.Repeat("s", 1024), 8<<10) + "t")
		}),
		"pickle: dicts":           pickle(func(w *torchWriter) { w.op(strings.Repeat("}", 8<<20)) }),
		"pt: an expanded tensor":  pickle(func(w *torchWriter) { view(w, "IntStorage", ids(1), 1<<18, 4096, 65536) }),
		"pt: many windows of one": pickle(func(w *torchWriter) { view(w, "IntStorage", ids(1), 1<<20, 1, 1) }),
		"pt: an expanded map": pickle(func(w *torchWriter) {
			w.op("}(")
			w.str("physical_to_logical_map")
			view(w, "IntStorage", ids(1), 4096, 1<<18)
			w.op("u")
		}),
		"pt: passes of one storage": pickle(func(w *torchWriter) {
			const layers, slots, passes = 8, 512, 4 << 10
			w.op("}(")
			w.str("last_physical_to_logical_map")
			row := make([]int32, layers*slots)
			for i := range row {
				row[i] = int32(i % slots)
			}
			w.tensor("IntStorage", encodeElements(row), layers, slots)
			w.str("records")
			w.op("](")
			for i := range passes {
				w.op("}(")
				w.str("forward_pass_id")
				w.int(i)
				w.str("rank")
				w.int(0)
				w.str("global_physical_count")
				if i == 0 {
					view(w, "IntStorage", ids(1), layers, slots)
					w.op("r\x00\x00\x10\x00")
				} else {
					w.op("j\x00\x00\x10\x00")
				}
				w.op("u")
			}
			w.op("eu")
		}),
		"npy: a long header":     append([]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), many(1<<20, "{")...),
		"npy: a large shape":     append(matrix.NpyHeader("<f8", []int{4096, 4096, 65536}), make([]byte, 1<<20)...),
		"npy: fortran":           append(bytes.Replace(matrix.NpyHeader("<f8", []int{16, 4096, 512}), []byte("False"), []byte("True "), 1), make([]byte, 1<<20)...),
		"safetensors: a header":  append(binary.LittleEndian.AppendUint64(nil, 16<<20), many(16<<20, "{")...),
		"safetensors: tensors":   safetensorsOf("{"+manyTensors(150_000)+"}", make([]byte, 1<<10)),
		"json: arrays in arrays": many(32<<20, "["),
		"json: rows of one":      append([]byte("[[["), many(1<<20, "1],[1],[1],[1]],[[")...),
		"json: a wide row":       append([]byte("[["), many(16<<20, "1,")...),
		"json: one long number":  append([]byte("[["), many(32<<20, "1")...),
		"json: one long string":  append([]byte(`{"`), many(32<<20, "a")...),
		"json: keys":             []byte("{" + manyKeys(1<<17) + "}"),
		"csv: one line":          many(16<<20, "1,"),
		"csv: lines of one":      many(8<<20, "1\n"),
		"csv: a long field":      many(32<<20, "1"),
		"yaml: one line":         append([]byte("num_slots: 8\ninitial_global_assignments:\n  3: ["), many(16<<20, "1, ")...),
		"yaml: layers":           []byte("initial_global_assignments:\n" + manyLines(200_000)),
		"map: rows of one":       append([]byte(`{"physical_to_logical_map":[`), many(8<<20, "[0],")...),
		"map: a wide row":        append([]byte(`{"physical_to_logical_map":[[`), many(16<<20, "0,")...),
		"map: lists of nothing":  append([]byte(`{"device_experts":[[`), many(16<<20, "[],")...),
		"map: devices":           append([]byte(`{"layer_list":[{"device_list":[`), many(1<<20, `{"device_expert":[]},`)...),
	}
	for _, name := range []string{"json: arrays in arrays", "csv: lines of one", "json: a wide row"} {
		files[name+", gzipped"] = gzipped(files[name])
	}
	return files
}

func manyTensors(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `"%d_0":{"dtype":"I64","shape":[1],"data_offsets":[%d,%d]}`, i, 8*i, 8*i+8)
	}
	return b.String()
}

func manyLines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  %d: [0]\n", i)
	}
	return b.String()
}

// TestHostileMemory: no hostile file makes a reader hold 256 MiB beside the file.
func TestHostileMemory(t *testing.T) {
	long.Only(t)
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	for name, in := range hostileFiles() {
		for kind, read := range map[string]func() error{
			"statistics": func() error { return errOf(DecodeStats(bytes.NewReader(in))) },
			"placement":  func() error { return errOf(DecodePlacement(bytes.NewReader(in), 8)) },
		} {
			peak := peakOf(func() { read() })
			if peak > 256<<20 {
				t.Errorf("%s as %s: %d MiB", name, kind, peak>>20)
			}
			if testing.Verbose() && peak > 32<<20 {
				t.Logf("%s (%d kB) as %s: %d MiB", name, len(in)>>10, kind, peak>>20)
			}
		}
	}
}

// peakOf is how many bytes the heap grows by at most, as a goroutine beside sees it.
func peakOf(f func()) uint64 {
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var peak atomic.Uint64
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-done:
				return
			case <-time.After(time.Millisecond):
				runtime.ReadMemStats(&now)
				if now.HeapAlloc > before.HeapAlloc {
					peak.Store(max(peak.Load(), now.HeapAlloc-before.HeapAlloc))
				}
			}
		}
	}()
	f()
	close(done)
	<-ended
	return peak.Load()
}
