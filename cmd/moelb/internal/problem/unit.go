package problem

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// unitFields are what a problem says of its nodes, of what fails together, and
// of where experts must be.
type unitFields struct {
	nodeGPUs, domains, everywhere []int // nil = not given
	domainCount                   int   // domains that share the GPUs evenly; 0 = not given
	twoNodes, twoDomains          bool
	layerWeights                  []float64 // nil = not given
	layerExperts, layerReplicas   []int     // nil = not given
}

var (
	sizeKind   = kind{what: "an integer ≥ 1", least: 1, most: placement.MaxGPUs, whole: true, columns: placement.MaxGPUs, column: "GPUs"}
	countKind  = kind{what: "an integer ≥ 1", least: 1, most: placement.MaxSlots, whole: true, columns: placement.MaxLayers, column: "layers"}
	weightKind = kind{what: "a number ≥ 0", columns: placement.MaxLayers, column: "layers"}
	windowKind = kind{what: "a number ≥ 0", columns: placement.MaxCells, column: "windows"}
	expertKind = kind{what: "an expert's number", most: placement.MaxExperts - 1, whole: true, columns: placement.MaxExperts, column: "experts"}
)

// unitNames are the fields that unitFields reads.
var unitNames = []string{"gpus_per_node", "domains", "two_nodes", "two_domains", "everywhere", "layer_weights", "layer_experts", "layer_replicas"}

// read reads one of unitNames.
func (u *unitFields) read(s *wire.Scanner, key string) (err error) {
	switch key {
	case "gpus_per_node":
		u.nodeGPUs, err = readInts(s, &sizeKind, key)
	case "domains":
		if s.Peek() == '[' {
			u.domains, err = readInts(s, &sizeKind, key)
		} else {
			u.domainCount, err = s.Integer(key, 1, placement.MaxGPUs)
		}
	case "two_nodes":
		u.twoNodes, err = s.Bool(key)
	case "two_domains":
		u.twoDomains, err = s.Bool(key)
	case "layer_weights":
		u.layerWeights, err = ReadVector(s, &weightKind, key)
	case "layer_experts":
		u.layerExperts, err = readInts(s, &countKind, key)
	case "layer_replicas":
		u.layerReplicas, err = readInts(s, &countKind, key)
	case "everywhere":
		u.everywhere, err = readInts(s, &expertKind, key)
	}
	return err
}

func readInts(s *wire.Scanner, k *kind, field string) ([]int, error) {
	row, err := ReadVector(s, k, field)
	if err != nil {
		return nil, err
	}
	return Ints[int]([][]float64{row})[0], nil
}

// topology is that of a unit of so many GPUs.
func (u *unitFields) topology(gpus, nodes int, speed []float64) (placement.Topology, error) {
	t := placement.Topology{GPUs: gpus, Nodes: max(nodes, 1), NodeGPUs: u.nodeGPUs, DomainGPUs: u.domains, Speed: speed}
	if u.nodeGPUs != nil {
		if t.Nodes = 0; nodes > 1 {
			return t, wire.Bad(placement.ErrShape, "gpus_per_node", -1, -1, "beside num_nodes: one of them is expected")
		}
	}
	if n := u.domainCount; n > 0 {
		if gpus%n != 0 {
			return t, wire.Bad(placement.ErrShape, "domains", -1, -1, "%d GPUs cannot be shared evenly by %d domains: give the GPUs of each", gpus, n)
		}
		t.DomainGPUs = slices.Repeat([]int{gpus / n}, n)
	}
	return t, t.Validate()
}

// weights are those of so many layers; nil = all alike.
func (u *unitFields) weights(layers int) ([]float64, error) {
	const field = "layer_weights"
	if u.layerWeights == nil {
		return nil, nil
	}
	if len(u.layerWeights) != layers {
		return nil, wire.Bad(placement.ErrShape, field, -1, -1, "%d entries, but loads has %d layers", len(u.layerWeights), layers)
	}
	sum := 0.0
	for l, w := range u.layerWeights {
		if w > 1e6 {
			return nil, wire.Bad(placement.ErrValue, field, -1, l, "%v: at most 1e6 is supported", w)
		}
		sum += w
	}
	if sum == 0 {
		return nil, wire.Bad(placement.ErrValue, field, -1, -1, "no layer has any: one of them at least must be above 0")
	}
	return u.layerWeights, nil
}

// unitFlags are the same as flags.
type unitFlags struct {
	nodeGPUs, domains, everywhere string
	twoNodes, twoDomains          bool
}

func (f *unitFlags) Add(cmd *cobra.Command) {
	l := cmd.Flags()
	l.StringVar(&f.nodeGPUs, "gpus-per-node", "", "GPUs of each node, in order, comma-separated, instead of --nodes: 8,8,4")
	l.StringVar(&f.domains, "domains", "", "what fails together, apart from nodes: how many domains share the GPUs evenly, or the GPUs of each: 40,20,12")
	l.BoolVar(&f.twoNodes, "two-nodes", false, "every expert on two nodes at least, so that a node may fail; wants twice as many slots as experts")
	l.BoolVar(&f.twoDomains, "two-domains", false, "every expert in two domains at least")
	l.StringVar(&f.everywhere, "everywhere", "", "experts that sit on every GPU in service, comma-separated")
}

// override lets the flags that were given stand in for the fields.
func (f *unitFlags) override(cmd *cobra.Command, u *unitFields) error {
	for _, x := range []struct {
		flag, text string
		to         *[]int
	}{{"gpus-per-node", f.nodeGPUs, &u.nodeGPUs}, {"domains", f.domains, &u.domains}, {"everywhere", f.everywhere, &u.everywhere}} {
		if !cmd.Flags().Changed(x.flag) {
			continue
		}
		var err error
		if *x.to, err = ListOf("--"+x.flag, x.text); err != nil {
			return err
		}
	}
	if cmd.Flags().Changed("domains") {
		u.domainCount = 0
		if len(u.domains) == 1 {
			u.domainCount, u.domains = u.domains[0], nil
			if u.domainCount == 0 {
				return console.Usagef("--domains 0: at least 1 is needed")
			}
		}
	}
	if cmd.Flags().Changed("two-nodes") {
		u.twoNodes = f.twoNodes
	}
	if cmd.Flags().Changed("two-domains") {
		u.twoDomains = f.twoDomains
	}
	return nil
}

// NumbersOf is the numbers of a flag, comma-separated.
func NumbersOf(flag, text string) ([]float64, error) {
	var out []float64
	for i, word := range strings.Split(text, ",") {
		x, err := strconv.ParseFloat(strings.TrimSpace(word), 64)
		if err != nil {
			return nil, console.Usagef("%s: entry %d, %q, is not a number", flag, i, word)
		}
		out = append(out, x)
	}
	return out, nil
}

// ListOf is the whole numbers of a flag, comma-separated; none = nil.
func ListOf(flag, text string) ([]int, error) {
	var out []int
	for i, word := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		switch {
		case text == "":
			return nil, nil
		case err != nil || n < 0 || n > placement.MaxGPUs:
			return nil, console.Usagef("%s: entry %d, %q, is not a number from 0 to %d", flag, i, word, placement.MaxGPUs)
		}
		out = append(out, n)
	}
	return out, nil
}
