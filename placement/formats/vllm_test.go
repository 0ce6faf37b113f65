package formats

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"
)

// A dump holds a tensor a model, float32 as its proposal writes it.
func TestLoadDump(t *testing.T) {
	data := func(values ...float32) []byte {
		var b []byte
		for _, v := range values {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		return b
	}
	const one = `{"__metadata__":{"version":"1"},"model":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}}`
	s, err := DecodeStats(bytes.NewReader(safetensorsOf(one, data(1, 2, 3, 4, 5, 6))))
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "vllm-proposed", "[[[1 2 3] [4 5 6]]]")
	if s.Note != "" {
		t.Error(s.Note)
	}
	const two = `{"draft":{"dtype":"F32","shape":[1,4],"data_offsets":[0,16]},"model":{"dtype":"F32","shape":[2,3],"data_offsets":[16,40]},"other":{"dtype":"F32","shape":[2,1],"data_offsets":[40,48]}}`
	s, err = DecodeStats(bytes.NewReader(safetensorsOf(two, data(9, 9, 9, 9, 1, 2, 3, 4, 5, 6, 7, 7))))
	if err != nil {
		t.Fatal(err)
	}
	wantStats(t, s, "vllm-proposed", "[[[1 2 3] [4 5 6]]]")
	if !strings.Contains(s.Note, `3 models: read are those of "model"`) {
		t.Error(s.Note)
	}
	_, err = DecodeStats(bytes.NewReader(safetensorsOf(one, data(1, 2, 3, 4, -5, 6))))
	wantError(t, "negative", err, `"model": layer 1, index 1: -5 is negative`)
}
