package formats

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// Stats is what a statistics file holds.
type Stats struct {
	// Windows are the recorded steps or windows, oldest first: at least one,
	// all of one shape and valid.
	Windows []placement.Loads
	// Format is the name of the recognised format, one of the package comment's.
	Format string
	// Steps is how many recorded windows each of Windows adds up, the last
	// perhaps fewer: 1 unless they hold more than 2^25 numbers together.
	Steps int
	// Note is what a reader of the file should know, in one line; "" = nothing.
	Note string
	// Layers are the numbers of the layers, ascending, where the file gives them
	// (TensorRT-LLM's, which begin at the first MoE layer); nil = from 0.
	Layers []int
	// Placement is the placement in force while recording, where the file holds
	// one (SGLang's per_pass records); else nil. Its GPUs is 0 where the file
	// does not say how many there are.
	Placement *placement.Placement
}

// Sum returns the windows added up, in memory of its own.
func (s *Stats) Sum() placement.Loads {
	sum := placement.NewLoads(len(s.Windows[0]), s.Windows[0].Experts())
	for _, w := range s.Windows {
		for l, row := range w {
			for e, v := range row {
				sum[l][e] += v
			}
		}
	}
	return sum
}

// Format names a placement format that can be written.
type Format string

// The placement formats. All can be read and written; what one cannot express
// is an error when writing.
const (
	Moelb       Format = "moelb"        // this project's JSON: the maps, and how many GPUs and slots there are
	SGLang      Format = "sglang"       // --init-expert-location: {"physical_to_logical_map": [layers][slots]}
	VLLMAscend  Format = "vllm-ascend"  // expert_map.json
	TensorRTLLM Format = "tensorrt-llm" // moe_load_balancer.yaml
	Omni        Format = "omni"         // omni-infer's .npy: 0 or 1 for [device][layer][expert]; also read as nested JSON arrays
	OmniJSON    Format = "omni-json"    // omni-infer's as JSON: {"device_experts": [layer][device][experts]}
	FastDeploy  Format = "fastdeploy"   // JSON of its three tables

	// VLLMProposed is what was proposed to vLLM, which reads none as it is: JSON
	// of a list of slots a MoE layer. It may change with the proposals.
	VLLMProposed Format = "vllm-proposed"
)

// Formats lists the placement formats.
func Formats() []Format {
	return []Format{Moelb, SGLang, VLLMAscend, TensorRTLLM, Omni, OmniJSON, FastDeploy, VLLMProposed}
}

// ParseFormat returns the format of that name, or an error that lists the names.
func ParseFormat(name string) (Format, error) {
	if f := Format(name); slices.Contains(Formats(), f) {
		return f, nil
	}
	names := make([]string, 0, len(Formats()))
	for _, f := range Formats() {
		names = append(names, string(f))
	}
	return "", guard.Errorf(placement.ErrValue, "format", -1, -1, "%s is not one of %s", guard.Quote(name), strings.Join(names, ", "))
}

// ReadStats reads a statistics file, or a folder: TensorRT-LLM's (with
// meta_info.json), or one that holds the .pt files of SGLang's per_pass
// recorder, one a rank. A pass's counts are then the sum over the ranks; a pass
// that some rank's file lacks, as at the edges of a recording, is left out.
func ReadStats(path string) (Stats, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Stats{}, err
	}
	var s Stats
	if info.IsDir() {
		s, err = caught(func() (Stats, error) { return readStatsFolder(path, &guard.Standard) })
	} else {
		s, err = caught(func() (Stats, error) { return readStatsFile(path, &guard.Standard) })
	}
	if err != nil {
		return Stats{}, named(path, err)
	}
	return s, nil
}

// DecodeStats reads statistics of one file from a stream, whose format is told
// from its first bytes.
func DecodeStats(r io.Reader) (Stats, error) {
	return caught(func() (Stats, error) { return decodeStats(r, &guard.Standard) })
}

// ReadPlacement reads a placement from a file. See DecodePlacement.
func ReadPlacement(path string, gpus int) (placement.Placement, error) {
	p, err := fromFile(path, func(r io.Reader) (placement.Placement, error) { return DecodePlacement(r, gpus) })
	if err != nil {
		return placement.Placement{}, named(path, err)
	}
	return p, nil
}

// DecodePlacement reads a placement in any of the formats, which is told from
// the input; the result is valid. gpus is needed where the format does not say
// it (SGLang, TensorRT-LLM, FastDeploy, VLLMProposed, and Moelb without num_gpus and
// gpu_slots); 0 = the file must say. Where both say it they must agree. The
// number of experts is the largest id + 1 where the file does not say it. Only a
// Moelb file that says how many experts there are may lack some of them.
func DecodePlacement(r io.Reader, gpus int) (placement.Placement, error) {
	return caught(func() (placement.Placement, error) { return decodePlacement(r, gpus, &guard.Standard) })
}

// EncodeOptions are what some formats need beyond the placement. The zero
// value serves where layers are numbered from the first MoE layer.
type EncodeOptions struct {
	FirstLayer int   // absolute number of the first layer, where Layers is nil; DeepSeek-V3: 3
	Layers     []int // absolute number of each layer, ascending; nil = from FirstLayer
	Rows       int   // layers of the model, dense ones too, for SGLang's file; 0 = up to the last of Layers
}

// numbers are the absolute numbers of n layers.
func (o *EncodeOptions) numbers(n int) ([]int, error) {
	if o.Layers == nil {
		if o.FirstLayer < 0 || o.FirstLayer > placement.MaxLayers {
			return nil, guard.Errorf(placement.ErrValue, "first_layer", -1, -1, "%d: between 0 and %d are possible", o.FirstLayer, placement.MaxLayers)
		}
		ids := make([]int, n)
		for l := range ids {
			ids[l] = o.FirstLayer + l
		}
		return ids, nil
	}
	if len(o.Layers) != n {
		return nil, guard.Errorf(placement.ErrShape, "layers", -1, -1, "%d numbers for %d layers", len(o.Layers), n)
	}
	for l, id := range o.Layers {
		if id < 0 || l > 0 && id <= o.Layers[l-1] {
			return nil, guard.Errorf(placement.ErrValue, "layers", l, -1, "number %d: ascending numbers from 0 are expected", id)
		}
	}
	return o.Layers, nil
}

// EncodePlacement writes p in format f. It writes nothing where p is not valid
// or cannot be expressed in f: in all but Moelb every expert must have a replica, and
// layers as many experts;
// in all but Moelb and the two of omni-infer, slots must be shared evenly and none be
// empty; VLLMAscend and omni-infer cannot hold an expert twice on one GPU.
//
// A GPU that holds nothing in any layer is out of service. SGLang's file keeps
// its rank and has expert 0 in its slots, as SGLang's own elastic planner writes
// it: its dispatch passes ranks over that are not active. VLLMAscend's file lists
// the other devices alone, numbered anew, as after a scale-down. In the other
// formats its empty slots are an error.
func EncodePlacement(w io.Writer, f Format, p *placement.Placement, o EncodeOptions) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if f != Moelb {
		if err := p.CheckComplete(); err != nil {
			return err
		}
		for l := range p.LayerExperts {
			if n := p.LayerExperts[l]; n != p.Experts {
				return &placement.Error{Field: "layer_experts", Layer: l, Index: -1, Kind: placement.ErrFit, Detail: fmt.Sprintf("%d experts of %d: format %s has as many in every layer", n, p.Experts, f)}
			}
		}
	}
	ids, err := o.numbers(len(p.PhysicalToLogical))
	if err != nil {
		return err
	}
	var text []byte
	switch f {
	case Moelb:
		text, err = encodeMoelb(p)
	case SGLang:
		text, err = encodeSGLang(p, ids, &o)
	case VLLMAscend:
		text, err = encodeVLLMAscend(p)
	case TensorRTLLM:
		text, err = encodeTensorRTLLM(p, ids)
	case Omni:
		text, err = encodeOmni(p)
	case OmniJSON:
		text, err = encodeOmniJSON(p)
	case FastDeploy:
		text, err = encodeFastDeploy(p)
	case VLLMProposed:
		text, err = encodeVLLMProposed(p)
	default:
		_, err = ParseFormat(string(f))
	}
	if err != nil {
		return err
	}
	_, err = w.Write(text)
	return err
}

// even demands evenly shared slots, none of them empty, for a format that
// cannot express anything else.
func even(p *placement.Placement, f Format) error {
	first := p.FirstSlots()
	for g := range p.GPUs {
		if n := first[g+1] - first[g]; n != first[1] {
			return guard.Errorf(placement.ErrFit, "gpu_slots", -1, g, "%d slots, but GPU 0 has %d: format %s wants as many on every GPU", n, first[1], f)
		}
	}
	for l, row := range p.PhysicalToLogical {
		if s := slices.Index(row, -1); s >= 0 {
			return guard.Errorf(placement.ErrFit, "physical_to_logical_map", l, s, "the slot is empty, which format %s cannot express", f)
		}
	}
	return nil
}

// idle says of each GPU whether it holds nothing in any layer.
func idle(p *placement.Placement) []bool {
	first := p.FirstSlots()
	out := make([]bool, p.GPUs)
	for g := range out {
		out[g] = !slices.ContainsFunc(p.PhysicalToLogical, func(row []int) bool {
			return slices.ContainsFunc(row[first[g]:first[g+1]], func(e int) bool { return e >= 0 })
		})
	}
	return out
}

// once demands that no expert is twice on a GPU.
func once(p *placement.Placement, f Format) error {
	first := p.FirstSlots()
	last := make([]int, p.Experts)
	for l, row := range p.PhysicalToLogical {
		for g := range p.GPUs {
			mark := 1 + l*p.GPUs + g
			for s := first[g]; s < first[g+1]; s++ {
				if e := row[s]; e >= 0 {
					if last[e] == mark {
						return guard.Errorf(placement.ErrFit, "physical_to_logical_map", l, s, "expert %d is on GPU %d twice, which format %s does not allow", e, g, f)
					}
					last[e] = mark
				}
			}
		}
	}
	return nil
}

// caught turns a panic into an error. None is known; what a reader is given is
// hostile, and one that is found later must not take the program down.
func caught[T any](read func() (T, error)) (out T, err error) {
	defer func() {
		if r := recover(); r != nil {
			var none T
			out, err = none, fmt.Errorf("the input cannot be read: %s", guard.Quote(fmt.Sprint(r)))
		}
	}()
	return read()
}

// readStatsFile reads a .pt in place, and all else as a stream.
func readStatsFile(path string, lim *guard.Limits) (Stats, error) {
	return fromFile(path, func(r io.Reader) (Stats, error) {
		if a, root, err := torch.OpenFile(r, lim); a != nil || err != nil {
			if err != nil {
				return Stats{}, err
			}
			return torchStats(a, root)
		}
		return decodeStats(r, lim)
	})
}

func fromFile[T any](path string, decode func(io.Reader) (T, error)) (out T, err error) {
	f, err := os.Open(path)
	if err != nil {
		return out, err
	}
	defer f.Close()
	return decode(f)
}

// named says which file an error is about, once.
func named(path string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// readStatsFolder tells TensorRT-LLM's folder from SGLang's.
func readStatsFolder(path string, lim *guard.Limits) (Stats, error) {
	if _, err := os.Stat(filepath.Join(path, "meta_info.json")); err == nil {
		return readTensorRTLLM(path, lim)
	}
	names, err := os.ReadDir(path)
	if err != nil {
		return Stats{}, err
	}
	var dumps []string
	for _, n := range names {
		if !n.IsDir() && filepath.Ext(n.Name()) == ".pt" {
			dumps = append(dumps, n.Name())
		}
	}
	if len(dumps) == 0 {
		return Stats{}, errors.New("a folder of statistics holds meta_info.json (TensorRT-LLM) or .pt files (SGLang); this one holds neither")
	}
	return readSGLangFolder(path, dumps, lim)
}
