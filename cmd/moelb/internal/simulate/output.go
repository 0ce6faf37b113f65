package simulate

import (
	"bytes"
	"fmt"

	"github.com/moelb/moelb/cmd/moelb/internal/human"
)

// headline says in one line what was simulated.
func (s *simulated) headline() string {
	return fmt.Sprintf("%s, %.0f a second at the peak, on %s and %s of %s", s.Traffic, s.Rate, human.Plural(s.Fleet.Prefill, "prefill unit"), human.Plural(s.Fleet.Decode, "decode unit"), s.config.Decode.GPU.Name)
}

// table is a study for people.
func (s *simulated) table() []byte {
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%s\nmean prompt %.0f tokens, %.1f%% of them cached; %.0f generated; load %.2f of what the fleet serves with all balancers on\n\n", s.headline(), s.MeanInput, 100*s.HitRate, s.MeanOutput, s.Load)
	unstable := false
	g := human.Table{}
	g.Add("", "prefill", "decode", "experts", "tokens/s", "carries/s", "TTFT p50", "p99", "TPOT p50", "p99", "idle", "evicted")
	for _, r := range s.Rows {
		late := [4]string{human.Duration(r.TTFT50), human.Duration(r.TTFT99), milli(r.TPOT50), milli(r.TPOT99)}
		if r.Unstable {
			unstable = true
			late = [4]string{"unstable", "", "", ""}
		}
		g.Add(r.Label, r.Policy.Prefill.Name, r.Policy.Decode.Name, r.Policy.Experts.String(), fmt.Sprintf("%.0f", r.TokensPerSecond), fmt.Sprintf("%.0f", r.Carries), late[0], late[1], late[2], late[3], fmt.Sprintf("%.1f%%", 100*r.Idle), fmt.Sprint(r.Evictions))
	}
	g.Write(b, "  ")
	if unstable {
		fmt.Fprintf(b, "\nUnstable: fewer than the %.0f requests a second that come are carried, and waiting times grow for as long as they do.\n", s.Rate)
	}
	if n := s.Rows[0].LeftOut; n > 0 {
		fmt.Fprintf(b, "\n%s left out, longer than a decode GPU's room for KV.\n", human.Plural(int(n), "request"))
	}
	b.WriteString("\nWhat it takes when units are full:\n\n")
	on := s.Rows[0]
	h := human.Table{}
	h.Add("", "requests/s a prefill unit", "a decode unit", "nodes for 1000/s", "$ a million tokens", "more than all on")
	for _, r := range s.Rows {
		h.Add(r.Label, fmt.Sprintf("%.1f", r.PrefillCapacity), fmt.Sprintf("%.1f", r.DecodeCapacity), fmt.Sprintf("%.1f", r.NodesPerThousand), fmt.Sprintf("%.3f", r.USDPerMillion), fmt.Sprintf("%+.1f%%", 100*(r.USDPerMillion/on.USDPerMillion-1)))
	}
	h.Write(b, "  ")
	b.WriteString("\nHow uneven the work was, max/mean:\n\n")
	u := human.Table{}
	u.Add("", "pairs", "new tokens", "experts (prefill)", "KV", "requests", "experts (decode)", "expert moves")
	for _, r := range s.Rows {
		u.Add(r.Label, f3(r.PairsImbalance), f3(r.TokensImbalance), f3(r.PrefillExperts), f3(r.KVImbalance), f3(r.RequestsImbalance), f3(r.DecodeExperts), fmt.Sprintf("%d in %s", r.Moves, human.Duration(r.MoveSeconds)))
	}
	u.Write(b, "  ")
	fmt.Fprintf(b, "\nEvery request entered and left once, as many tokens were prefilled and generated as asked, and no KV was left: checked at the end of each run. %s: %s entered and left, with %d prompt tokens, %d of them cached, and %d generated; %d tokens were prefilled again.\n", on.Label, human.Plural(int(on.Requests), "request"), on.InputTokens, on.HitTokens, on.OutputTokens, on.AgainTokens)
	if len(s.config.Failures) > 0 {
		b.WriteString("\nRanks that died, and requests that lost their KV and were placed again:\n\n")
		d := human.Table{}
		d.Add("", "ranks died", "requests placed again", "tokens prefilled again")
		for _, r := range s.Rows {
			d.Add(r.Label, fmt.Sprint(r.Failures), fmt.Sprint(r.Returned), fmt.Sprint(r.AgainTokens))
		}
		d.Write(b, "  ")
	}
	return b.Bytes()
}

func f3(x float64) string { return fmt.Sprintf("%.3f", x) }

func milli(seconds float64) string { return fmt.Sprintf("%.1f ms", 1e3*seconds) }
