package formats

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// kind is what the first bytes of an input tell.
type kind int

const (
	empty kind = iota
	zipFile
	npyFile
	safetensorsFile
	oldPickle
	jsonObject
	jsonArray
	plainText
	unknown
)

// sniff looks at the first bytes without taking more than white space.
func sniff(b *bufio.Reader) (kind, error) {
	var head, text []byte
	for {
		var err error
		if head, err = b.Peek(min(b.Size(), 512)); err != nil && err != io.EOF && len(head) == 0 {
			return empty, err
		}
		text = bytes.TrimLeft(head, " \t\r\n")
		if len(text) > 0 || len(head) == 0 {
			break
		}
		b.Discard(len(head)) // white space alone: the file begins later
	}
	switch {
	case len(head) == 0:
		return empty, nil
	case bytes.HasPrefix(head, []byte(torch.Magic)) || bytes.HasPrefix(head, []byte("PK\x05\x06")):
		return zipFile, nil
	case bytes.HasPrefix(head, []byte(matrix.NpyMagic)):
		return npyFile, nil
	case isSafetensors(head):
		return safetensorsFile, nil
	case head[0] == 0x80:
		return oldPickle, nil
	case text[0] == '{':
		return jsonObject, nil
	case text[0] == '[':
		return jsonArray, nil
	case bytes.IndexFunc(head, func(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' }) >= 0:
		return unknown, nil
	}
	return plainText, nil
}

// isSafetensors tells a header's length, 8 bytes that may be any, and the
// header's first byte. Text has no zero bytes, and gzip no '{' at this place.
func isSafetensors(head []byte) bool {
	return len(head) >= 9 && head[8] == '{' && binary.LittleEndian.Uint64(head) < 1<<32
}

var (
	errEmpty     = errors.New("the input is empty")
	errOldPickle = errors.New("a pickle without the zip around it, as PyTorch before 1.6 wrote it: python3 -c \"import torch; torch.save(torch.load('old.pt', weights_only=True), 'new.pt')\" makes a file that is read")
)

func decodeStats(r io.Reader, lim *guard.Limits) (Stats, error) {
	b, err := open(r, lim.Stream, lim)
	if err != nil {
		return Stats{}, err
	}
	k, err := sniff(b)
	if err != nil {
		return Stats{}, err
	}
	switch k {
	case empty:
		return Stats{}, errEmpty
	case zipFile:
		return decodeTorch(b, lim)
	case npyFile:
		return decodeNpyStats(b, lim)
	case safetensorsFile:
		return decodeSafetensorsStats(b, lim)
	case oldPickle:
		return Stats{}, errOldPickle
	case jsonObject:
		return decodeStatsObjects(newScanner(b, lim))
	case jsonArray:
		s := newScanner(b, lim)
		t := table{lim: lim, field: "loads"}
		if err := s.windows(&t); err != nil {
			return Stats{}, err
		}
		if err := s.finish(); err != nil {
			return Stats{}, err
		}
		return t.stats("json")
	case plainText:
		if head, _ := b.Peek(b.Size()); bytes.Contains(head, []byte("initial_global_assignments:")) {
			return Stats{}, errors.New("TensorRT-LLM's moe_load_balancer.yaml is a placement, not statistics")
		}
		return decodeCSV(b, lim)
	}
	return Stats{}, errors.New("not a known statistics format: JSON, JSON Lines, CSV, .npy, .pt or .safetensors is expected")
}

// besides lists, for the key that makes a format, the keys that may stand
// beside it. Those of load_history are nowhere documented: any may.
var besides = map[string][]string{
	"logical_count":                {"rank", "average_utilization_rate_over_window"},
	"tokens_per_expert_stats_list": {"ep_rank_to_expert_id_list", "expert_id_to_ep_rank_array", "expert_in_rank_num_list", "update_timestamp", "cost_milliseconds", "meta_file_name"},
	"counts":                       {"step", "domain", "token_start", "tokens", "timestamp", "window"},
}

var statsFormat = map[string]string{"logical_count": "sglang-json", "tokens_per_expert_stats_list": "fastdeploy", "counts": "json-lines", "load_history": "adrs"}

// decodeStatsObjects reads an object whose keys tell the format; objects with
// "counts" may follow one another.
func decodeStatsObjects(s *scanner) (Stats, error) {
	t := table{lim: s.lim}
	format := ""
	for n := 0; n == 0 || (format == "json-lines" && s.Peek() == '{'); n++ {
		key, err := s.statsObject(&t)
		if err != nil {
			return Stats{}, err
		}
		if n > 0 && statsFormat[key] != format {
			return Stats{}, s.errorf("an object with %s after one with counts", key)
		}
		format = statsFormat[key]
	}
	if err := s.finish(); err != nil {
		return Stats{}, err
	}
	return t.stats(format)
}

// statsObject reads one object into t and returns the key that made its format.
func (s *scanner) statsObject(t *table) (string, error) {
	main := ""
	var others []string
	err := s.object(func(key string) error {
		if key == "loads" {
			return errors.New(`"loads" makes this a planning problem, not statistics: plan it as it is`)
		}
		if _, ok := statsFormat[key]; !ok {
			others = append(others, key)
			return s.skip(0)
		}
		if main != "" {
			return s.errorf("%s beside %s: one of them is expected", key, main)
		}
		main = key
		if t.field == "" {
			t.field = key
		}
		switch key {
		case "load_history":
			return s.loadHistory(t)
		case "counts":
			if err := s.open(t.name(), -1); err != nil {
				return err
			}
			return s.window(t, false)
		}
		return s.windows(t)
	})
	if err != nil {
		return "", err
	}
	for _, key := range others { // before all else: a placement holds a logical_count too
		if slices.Contains(mainKeys, key) && !slices.Contains(besides[main], key) {
			return "", errors.New(guard.Quote(key) + " makes this a placement, not statistics")
		}
	}
	if main == "" {
		return "", errors.New("not a known statistics format: the object has none of logical_count, tokens_per_expert_stats_list, load_history, counts")
	}
	for _, key := range others {
		if allowed, strict := besides[main]; strict && !slices.Contains(allowed, key) {
			return "", guard.Errorf(placement.ErrValue, guard.Quote(key), -1, -1, "not a field of %s (beside %s: %s)", statsFormat[main], main, strings.Join(allowed, ", "))
		}
	}
	return main, nil
}

func decodePlacement(r io.Reader, gpus int, lim *guard.Limits) (placement.Placement, error) {
	if gpus < 0 || gpus > lim.GPUs {
		return placement.Placement{}, guard.Errorf(placement.ErrValue, "num_gpus", -1, -1, "%d: between 1 and %d are supported", gpus, lim.GPUs)
	}
	b, err := open(r, lim.Placement, lim)
	if err != nil {
		return placement.Placement{}, err
	}
	k, err := sniff(b)
	if err != nil {
		return placement.Placement{}, err
	}
	var p placement.Placement
	switch k {
	case empty:
		return p, errEmpty
	case zipFile:
		var a *torch.Archive
		var root any
		if a, root, err = torch.Open(b, lim); err == nil {
			p, err = decodeSGLangPlacement(root, a, gpus)
		}
	case oldPickle:
		err = errOldPickle
	case npyFile:
		p, err = decodeOmniNpy(b, lim)
	case jsonObject:
		p, err = decodePlacementObject(newScanner(b, lim), gpus)
	case jsonArray:
		p, err = decodePlacementArray(newScanner(b, lim), gpus)
	case plainText:
		p, err = decodeTensorRTLLM(b, gpus, lim)
	default:
		err = errors.New("not a known placement format: JSON, YAML (TensorRT-LLM), .npy (omni-infer) or .pt (SGLang) is expected")
	}
	if err != nil {
		return placement.Placement{}, err
	}
	if gpus != 0 && p.GPUs != gpus {
		return placement.Placement{}, guard.Errorf(placement.ErrShape, "num_gpus", -1, -1, "the file says %d, but %d are asked for", p.GPUs, gpus)
	}
	if err := p.Validate(); err != nil {
		return placement.Placement{}, err
	}
	return p, nil
}

// mainKeys are the keys that make a placement format.
var mainKeys = []string{"physical_to_logical_map", "layer_list", "device_experts", "ep_rank_to_expert_id_list"}

// fields are the keys of the JSON placements, read in any order.
type fields struct {
	keys      []string
	moelb     moelbFields
	ascend    ascendFields
	omni      omniFields
	fast      fastDeployFields
	remainder []string // keys that no format knows
}

// decodePlacementObject tells the format by the key that only it has.
func decodePlacementObject(s *scanner, gpus int) (placement.Placement, error) {
	var f fields
	err := s.object(func(key string) error {
		f.keys = append(f.keys, key)
		for _, read := range []func(*scanner, string) (bool, error){f.moelb.read, f.ascend.read, f.omni.read, f.fast.read} {
			if known, err := read(s, key); known || err != nil {
				return err
			}
		}
		f.remainder = append(f.remainder, key)
		return s.skip(0)
	})
	if err != nil {
		return placement.Placement{}, err
	}
	if err := s.finish(); err != nil {
		return placement.Placement{}, err
	}
	main := ""
	for _, key := range f.keys {
		if slices.Contains(mainKeys, key) {
			if main != "" {
				return placement.Placement{}, guard.Errorf(placement.ErrShape, key, -1, -1, "beside %s: one of them is expected", main)
			}
			main = key
		}
	}
	switch main {
	case "physical_to_logical_map":
		if len(f.keys) == 1 {
			return f.moelb.sglang(gpus)
		}
		return f.moelb.placement(gpus, f.remainder)
	case "layer_list":
		return f.ascend.placement()
	case "device_experts":
		return f.omni.placement()
	case "ep_rank_to_expert_id_list":
		return f.fast.placement(gpus)
	}
	for _, key := range f.keys {
		if _, ok := statsFormat[key]; ok || key == "loads" {
			return placement.Placement{}, errors.New(guard.Quote(key) + " makes this statistics, not a placement")
		}
	}
	return placement.Placement{}, errors.New("not a known placement format: the object has none of " + strings.Join(mainKeys, ", "))
}

// complete demands a valid placement of every expert: engines' files say nowhere
// how many there are, and hold them all.
func complete(p *placement.Placement) error {
	if err := p.Validate(); err != nil {
		return err
	}
	return p.CheckComplete()
}

// gpusOf demands the number of GPUs where the file does not say it.
func gpusOf(gpus int, f Format) error {
	if gpus == 0 {
		return guard.Errorf(placement.ErrValue, "num_gpus", -1, -1, "format %s does not say how many GPUs there are: give the number", f)
	}
	return nil
}

// expertsOf is the largest id + 1.
func expertsOf(rows [][]int) int {
	most := -1
	for _, row := range rows {
		for _, e := range row {
			most = max(most, e)
		}
	}
	return most + 1
}
