package workload

import (
	"fmt"
	"math/rand/v2"

	"github.com/moelb/moelb/placement"
)

// windowSpread is the spread of the logarithm of a load from window to window.
// Within a domain, measured windows of 512 tokens differ by a total variation of
// 0.07 to 0.14 and correlate by 0.87 to 0.98; between domains by 0.04 to 0.23.
const windowSpread = 0.2

// Domains returns the loads of kinds of text, each with its own hot experts as
// skewed as those of Experts, in windows of so many tokens a layer that drift as
// measured windows do: see the test.
func Domains(m placement.Model, domains, windows, tokens int, seed uint64) []Domain {
	out := make([]Domain, domains)
	for d := range out {
		base := Experts(m, seed+uint64(d)<<32)
		out[d] = Domain{Name: fmt.Sprint("domain ", d), Windows: make([]placement.Loads, windows)}
		for w := range out[d].Windows {
			loads := placement.NewLoads(m.Layers, m.Experts)
			for l, row := range loads {
				r := rand.New(rand.NewPCG(seed+uint64(d)<<32, 1+uint64(w*m.Layers+l)))
				for e := range row {
					row[e] = base[l][e] * exp(float64(windowSpread*normal(r)))
				}
				limit(row, m.TopK)
				apportion(row, m.TopK*tokens)
			}
			out[d].Windows[w] = loads
		}
	}
	return out
}

// Alternate returns the windows of all domains by turns: the first of each, then
// the second of each, and so on, as far as all have one.
func Alternate(domains []Domain) []placement.Loads {
	var out []placement.Loads
	for w := 0; ; w++ {
		for _, d := range domains {
			if w >= len(d.Windows) {
				return out[:w*len(domains)]
			}
			out = append(out, d.Windows[w])
		}
	}
}
