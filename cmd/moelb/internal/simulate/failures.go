package simulate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

// failures are what --fail asks for, in the order given.
type failures []failure

// failure is ranks that die; ranks is as given: "", "3", "8-15" or "node1".
type failure struct {
	simulate.Failure
	ranks string
}

const failureForm = "FROM-UNTIL:PHASE:UNIT[:RANKS], such as 120-300:decode:0:node1"

func (f *failures) Type() string   { return "failure" }
func (f *failures) String() string { return "" }

// Set reads one failure.
func (f *failures) Set(text string) error {
	bad := func() error { return fmt.Errorf("%.60q is not %s", text, failureForm) }
	parts := strings.Split(text, ":")
	if len(parts) < 3 || len(parts) > 4 {
		return bad()
	}
	var x failure
	from, until, ok := strings.Cut(parts[0], "-")
	var err [3]error
	x.Second, err[0] = strconv.ParseFloat(from, 64)
	x.Until, err[1] = strconv.ParseFloat(until, 64)
	x.Unit, err[2] = strconv.Atoi(parts[2])
	x.Decode = parts[1] == cost.DecodePhase.String()
	if !ok || err != [3]error{} || !x.Decode && parts[1] != cost.PrefillPhase.String() {
		return bad()
	}
	if len(parts) == 4 {
		if x.ranks = parts[3]; x.ranks == "" {
			return bad()
		}
	}
	*f = append(*f, x)
	return nil
}

// of are the failures of a system whose units are known.
func (f failures) of(c *simulate.Config) ([]simulate.Failure, error) {
	var out []simulate.Failure
	for i, x := range f {
		u := &c.Prefill
		if x.Decode {
			u = &c.Decode
		}
		node, inNode := strings.CutPrefix(x.ranks, "node")
		first, last, several := strings.Cut(node, "-")
		from, err := strconv.Atoi(first)
		to := from
		if several {
			var e error
			if to, e = strconv.Atoi(last); err == nil {
				err = e
			}
		}
		each := 1
		if inNode {
			each = max(1, u.GPU.Node/max(1, u.TP))
		}
		switch {
		case x.ranks == "": // the whole unit
		case err != nil || from < 0 || to < from || to >= u.Groups()/each:
			return nil, console.Usagef("--fail, number %d: %.40q: ranks such as 3 or 8-15 of %d, or a node such as node1 of %d, are needed", i, x.ranks, u.Groups(), u.Nodes)
		default:
			x.Rank, x.Ranks = from*each, (to-from+1)*each
		}
		out = append(out, x.Failure)
	}
	return out, nil
}
