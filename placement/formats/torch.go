package formats

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
	"github.com/moelb/moelb/placement/formats/internal/matrix"
	"github.com/moelb/moelb/placement/formats/internal/torch"
)

// readWindows reads a tensor [layers, experts] or [windows, layers, experts] into t.
func readWindows(a *torch.Archive, x any, t *table) error {
	v, ok := x.(*torch.Tensor)
	if !ok || (len(v.Shape) != 2 && len(v.Shape) != 3) {
		return guard.Errorf(placement.ErrShape, t.field, -1, -1, "a tensor [layers, experts] or [windows, layers, experts] is expected")
	}
	dims := v.Shape[len(v.Shape)-2:]
	if dims[0] > a.Lim.Layers || dims[1] > a.Lim.Experts {
		return guard.Errorf(placement.ErrShape, t.field, -1, -1, "shape %s: at most %d layers of %d experts are supported", guard.Shape(v.Shape), a.Lim.Layers, a.Lim.Experts)
	}
	if dims[0] == 0 || dims[1] == 0 {
		return guard.Errorf(placement.ErrShape, t.field, -1, -1, "shape %s holds nothing", guard.Shape(v.Shape))
	}
	rows := 0
	var place error
	err := a.Rows(v, func(row []float64) error {
		if place = t.add(row); place == nil {
			if rows++; rows%dims[0] == 0 {
				place = t.end()
			}
		}
		return place
	})
	if err != nil && place == nil {
		return fmt.Errorf("%s: %w", t.field, err)
	}
	return err
}

// decodeTorch reads a .pt file of statistics.
func decodeTorch(r io.Reader, lim *guard.Limits) (Stats, error) {
	a, root, err := torch.Open(r, lim)
	if err != nil {
		return Stats{}, err
	}
	return torchStats(a, root)
}

// torchStats tells SGLang's dict from vllm-ascend's tensor.
func torchStats(a *torch.Archive, root any) (Stats, error) {
	if root == nil {
		return npzStats(a)
	}
	if dict, ok := root.(*torch.Dict); ok {
		return decodeSGLang(dict, a)
	}
	t := table{lim: a.Lim, field: "tensor"}
	if err := readWindows(a, root, &t); err != nil {
		return Stats{}, err
	}
	return t.stats("vllm-ascend")
}

// npzStats reads the one array of NumPy's .npz, or the one that has a name for loads.
func npzStats(a *torch.Archive) (Stats, error) {
	names := slices.DeleteFunc(a.Names(), func(name string) bool { return !strings.HasSuffix(name, ".npy") })
	if len(names) == 0 {
		return Stats{}, errors.New("a zip without data.pkl, which a .pt holds, and without .npy, which an .npz holds")
	}
	found := names[0]
	if len(names) > 1 {
		i := slices.IndexFunc(names, func(n string) bool { return n == "logical_count.npy" || n == "loads.npy" })
		if i < 0 {
			return Stats{}, fmt.Errorf("an .npz of %d arrays, none of them named logical_count or loads: save the one that is meant by itself", len(names))
		}
		found = names[i]
	}
	r, err := a.Entry(found)
	if err != nil {
		return Stats{}, err
	}
	defer r.Close()
	b := bufio.NewReaderSize(r, 1<<18)
	if head, _ := b.Peek(len(matrix.NpyMagic)); string(head) != matrix.NpyMagic {
		return Stats{}, fmt.Errorf("%s is no array of NumPy", guard.Quote(found))
	}
	s, err := decodeNpyStats(b, a.Lim)
	if err != nil {
		return Stats{}, fmt.Errorf("%s: %w", guard.Quote(found), err)
	}
	return s, nil
}
