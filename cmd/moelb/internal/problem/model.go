package problem

import (
	"strings"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/placement"
)

func ModelNames() string {
	var names []string
	for _, m := range placement.Models() {
		names = append(names, m.Name)
	}
	return strings.Join(names, ", ")
}

// FindModel returns the preset of a name. "auto" is the preset of that shape,
// its dense layers counted or not, and DeepSeek-V3 for any layers of 256
// experts; nil = none.
func FindModel(name string, layers, experts int) (*placement.Model, error) {
	var names []string
	for _, m := range placement.Models() {
		same := m.Experts == experts && (layers == m.Layers || layers == m.Layers+m.DenseLayers || m == placement.DeepSeekV3())
		if name == m.Name || name == "auto" && same {
			return &m, nil
		}
		names = append(names, m.Name)
	}
	switch name {
	case "auto", "none":
		return nil, nil
	}
	return nil, console.Usagef("--model: %q is unknown: one of %q is needed", name, append([]string{"auto", "none"}, names...))
}
