package simulate

import (
	"fmt"
	"strings"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/bench/simulate/experts"
	"github.com/moelb/moelb/bench/simulate/lockstep"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// PrefillPolicy is a balancer of prompts by name. Even units also get requests by how
// much work they have; others by turns.
type PrefillPolicy struct {
	Name string
	New  func(prefill.Config) (prefill.Former, error)
	Even bool
}

// String returns the policy's name on the wire.
func (p PrefillPolicy) String() string { return p.Name }

// DecodePolicy is the same for requests that generate.
type DecodePolicy struct {
	Name string
	New  func(decode.Config) (decode.Batcher, error)
	Even bool
}

// String returns the policy's name on the wire.
func (p DecodePolicy) String() string { return p.Name }

// Policy is one of each balancer.
type Policy struct {
	Prefill PrefillPolicy
	Decode  DecodePolicy
	Experts experts.Policy
}

// String names the three.
func (p Policy) String() string {
	return fmt.Sprintf("%s / %s / %s", p.Prefill.Name, p.Decode.Name, p.Experts)
}

// PrefillPolicies lists the balancers of prompts that a study compares: ours
// first, what engines run, none last.
func PrefillPolicies() []PrefillPolicy {
	return choose(allPrefill(), "moelb", "sglang-total-tokens", "trtllm-adp", "round-robin")
}

// allPrefill is ours and every one of package baseline.
func allPrefill() []PrefillPolicy {
	out := []PrefillPolicy{{"moelb", func(c prefill.Config) (prefill.Former, error) { return prefill.New(c) }, true}}
	for _, p := range baseline.PrefillPolicies() {
		out = append(out, PrefillPolicy{p.Name, func(c prefill.Config) (prefill.Former, error) { return lockstep.NewRouted(p.New(c.Ranks), c), nil }, p.Name != "round-robin"})
	}
	return out
}

// choose returns the named of all, in the order of the names.
func choose[P fmt.Stringer](all []P, names ...string) []P {
	var out []P
	for _, n := range names {
		for _, p := range all {
			if p.String() == n {
				out = append(out, p)
			}
		}
	}
	return out
}

// FindPolicy returns the named balancers: ours is "moelb" for requests and
// "optimal" for experts; those of package baseline, "deepseek" and "none" are the
// others. An error lists them.
func FindPolicy(prompts, requests, placing string) (Policy, error) {
	var p Policy
	var err error
	if p.Prefill, err = find("prefill", prompts, allPrefill()); err != nil {
		return p, err
	}
	if p.Decode, err = find("decode", requests, allDecode()); err != nil {
		return p, err
	}
	p.Experts, err = find("experts", placing, []experts.Policy{experts.Optimal, experts.DeepSeek, experts.Alone})
	return p, err
}

func find[P fmt.Stringer](what, name string, all []P) (P, error) {
	var names []string
	for _, p := range all {
		if p.String() == name {
			return p, nil
		}
		names = append(names, p.String())
	}
	var none P
	return none, fmt.Errorf("%s policy: %.40q is unknown: known are %s", what, name, strings.Join(names, ", "))
}

// DecodePolicies lists the balancers of requests that stay: ours first, what
// engines run, none last.
func DecodePolicies() []DecodePolicy {
	return choose(allDecode(), "moelb", "least-tokens", "vllm-new", "round-robin")
}

// allDecode is ours and every one of package baseline.
func allDecode() []DecodePolicy {
	out := []DecodePolicy{{"moelb", func(c decode.Config) (decode.Batcher, error) { return decode.New(c) }, true}}
	for _, p := range baseline.DecodePolicies() {
		out = append(out, DecodePolicy{p.Name, func(c decode.Config) (decode.Batcher, error) { return p.New(c.Ranks, c.KVCapacity[0], 1), nil }, p.Name != "round-robin"})
	}
	return out
}
