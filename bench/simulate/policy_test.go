package simulate

import (
	"testing"

	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/internal/long"
)

// TestPolicies runs every balancer of each kind that FindPolicy knows with the usual
// others, and at length in some combinations, while GPUs die and return: the runs
// check that nothing is lost.
func TestPolicies(t *testing.T) {
	base := planned(brief(ours(), .3))
	base.setTopics(base.Seconds)
	failures := []Failure{{Second: .1, Until: .2, Rank: 3, Ranks: 2}, {Second: .12, Until: .25, Decode: true, Rank: 1, Ranks: 1}}
	runs := 0
	for i, p := range allPrefill() {
		for j, d := range allDecode() {
			for _, e := range []experts.Policy{experts.Optimal, experts.DeepSeek, experts.Alone} {
				odd := 0
				for _, other := range []bool{i > 0, j > 0, e != experts.Optimal} {
					if other {
						odd++
					}
				}
				if odd > 1 && (!long.Tests() || (i+j)%6 != 0) {
					continue
				}
				c := base
				var err error
				if c.Policy, err = FindPolicy(p.Name, d.Name, e.String()); err != nil {
					t.Fatal(err)
				}
				c.Failures = failures
				r, err := Run(c, tinyRequests(.5*full, 1))
				if err != nil || r.Failures != 3 || r.ServedPerSecond <= 0 {
					t.Errorf("%v: %d failures, %v requests a second: %v", c.Policy, r.Failures, r.ServedPerSecond, err)
				}
				runs++
			}
		}
	}
	t.Logf("%d combinations", runs)
}
