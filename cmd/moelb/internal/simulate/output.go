package simulate

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/internal/wire"
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
	b.WriteString("\nEvery request entered and left once, as many tokens were prefilled and generated as asked, and no KV was left: checked at the end of each run.\n")
	return b.Bytes()
}

func f3(x float64) string { return fmt.Sprintf("%.3f", x) }

func milli(seconds float64) string { return fmt.Sprintf("%.1f ms", 1e3*seconds) }

// json is the contract's answer to moelb simulate.
func (s *simulated) json() []byte {
	o := &wire.Encoder{}
	number := func(name string, x float64) { o.Field(name); o.Float(x) }
	text := func(name, x string) { o.Field(name); o.Quote(x) }
	count := func(name string, n int64) { o.Field(name); o.Int(n) }
	o.Raw(`{"version":1`)
	text("workload", s.Traffic)
	text("gpu", s.config.Decode.GPU.Name)
	count("prefill_units", int64(s.Fleet.Prefill))
	count("decode_units", int64(s.Fleet.Decode))
	number("requests_per_second", s.Rate)
	number("load", s.Load)
	number("mean_input", s.MeanInput)
	number("mean_output", s.MeanOutput)
	number("hit", s.HitRate)
	o.Field("policies")
	wire.List(o, s.Rows, func(r simulate.Row) {
		o.Raw("\n" + `{"label":`)
		o.Quote(r.Label)
		text("prefill", r.Policy.Prefill.Name)
		text("decode", r.Policy.Decode.Name)
		text("experts", r.Policy.Experts.String())
		number("tokens_per_second", r.TokensPerSecond)
		number("input_tokens_per_second", r.InputPerSecond)
		for _, x := range []struct {
			name  string
			value float64
		}{{"ttft_p50", r.TTFT50}, {"ttft_p99", r.TTFT99}, {"tpot_p50", r.TPOT50}, {"tpot_p99", r.TPOT99}} {
			if o.Field(x.name); r.Unstable {
				o.Raw("null")
			} else {
				o.Float(x.value)
			}
		}
		o.Field("unstable")
		o.Raw(strconv.FormatBool(r.Unstable))
		number("carries_requests_per_second", r.Carries)
		count("left_out", r.LeftOut)
		number("idle", r.Idle)
		number("prefill_idle", r.PrefillIdle)
		number("decode_idle", r.DecodeIdle)
		count("requests", r.Requests)
		count("input_tokens", r.InputTokens)
		count("output_tokens", r.OutputTokens)
		count("evictions", r.Evictions)
		count("peak_in_flight", r.PeakInFlight)
		number("node_seconds", r.NodeSeconds)
		number("prefill_unit_requests_per_second", r.PrefillCapacity)
		number("decode_unit_requests_per_second", r.DecodeCapacity)
		number("nodes_per_1000_requests_per_second", r.NodesPerThousand)
		number("usd_per_million_tokens", r.USDPerMillion)
		o.Field("imbalance")
		o.Raw(`{"pairs":`)
		o.Float(r.PairsImbalance)
		number("tokens", r.TokensImbalance)
		number("kv", r.KVImbalance)
		number("requests", r.RequestsImbalance)
		number("prefill_experts", r.PrefillExperts)
		number("decode_experts", r.DecodeExperts)
		o.Raw("}")
		count("expert_moves", r.Moves)
		number("expert_move_seconds", r.MoveSeconds)
		o.Raw("}")
	})
	o.Raw("}\n")
	return o.B
}
