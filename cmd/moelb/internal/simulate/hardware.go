package simulate

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

// hardware is the flags that say which model runs on what, and how.
type hardware struct {
	model, modelFile, gpu, gpuFile, overlap string
	expertBits, kvBits, tp                  int
}

func (h *hardware) flags(cmd *cobra.Command) {
	l := cmd.Flags()
	l.StringVar(&h.model, "model", "deepseek-v3", "model: "+pricedModels())
	l.StringVar(&h.modelFile, "model-file", "", "read the model from this JSON file, or - for standard input, in place of --model")
	l.StringVar(&h.gpu, "gpu", "h800", "kind of GPU: "+gpuNames())
	l.StringVar(&h.gpuFile, "gpu-file", "", "read the kind of GPU from this JSON file, or - for standard input, in place of --gpu")
	l.StringVar(&h.overlap, "overlap", "two-batch", "how computing and communication overlap: two-batch, single-batch or none")
	l.IntVar(&h.expertBits, "expert-bits", 0, "bits of an expert's weights: 4, 8 or 16; 0 = as the model is published")
	l.IntVar(&h.kvBits, "kv-bits", 16, "bits of the KV cache and of attention: 8 or 16")
	l.IntVar(&h.tp, "tp", 1, "GPUs that share the attention of their requests")
}

func pricedModels() string {
	var names []string
	for _, m := range cost.Models() {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// unit is a unit of the model on the GPU, without its phase and size.
func (h *hardware) unit(cmd *cobra.Command, c *console.Console) (cost.Unit, error) {
	u := cost.Unit{Factors: cost.Calibrated(), ExpertBits: h.expertBits, KVBits: h.kvBits, TP: h.tp}
	for _, name := range []string{"model", "gpu"} {
		if cmd.Flags().Changed(name) && cmd.Flags().Changed(name+"-file") {
			return u, console.Usagef("--%s and --%s-file exclude each other", name, name)
		}
	}
	if h.modelFile == "-" && h.gpuFile == "-" {
		return u, console.Usagef("--model-file and --gpu-file: only one of them can be standard input")
	}
	var err error
	if u.Model, err = preset(cmd, c, "model", h.modelFile, h.model, cost.FindModel, cost.ReadModel); err != nil {
		return u, err
	}
	if u.GPU, err = preset(cmd, c, "gpu", h.gpuFile, h.gpu, cost.FindGPU, cost.ReadGPU); err != nil {
		return u, err
	}
	if u.Overlap, err = cost.FindOverlap(h.overlap); err != nil {
		return u, refused(cmd, err)
	}
	return u, nil
}

// preset reads what a file says, standard input for "-", or else takes the preset of
// a name.
func preset[T any](cmd *cobra.Command, c *console.Console, flag, file, name string, find func(string) (T, error), read func(io.Reader) (T, error)) (x T, err error) {
	if file == "" {
		if x, err = find(name); err != nil {
			return x, refused(cmd, err)
		}
		return x, nil
	}
	in, err := c.OpenFor("--"+flag+"-file", file)
	if err != nil {
		return x, err
	}
	defer in.Close()
	if in.R == nil {
		return x, fmt.Errorf("--%s-file: %s is a folder", flag, file)
	}
	x, err = read(in.R)
	return x, console.Named(in.Name(), err)
}
