package simulate

import (
	"fmt"

	"github.com/moelb/moelb/bench/baseline"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/prefill"
)

// PrefillPolicy and DecodePolicy are balancers by name. Even units also get
// requests by how much work they have; others by turns.
type PrefillPolicy struct {
	Name string
	New  func(prefill.Config) (prefill.Former, error)
	Even bool
}
type DecodePolicy struct {
	Name string
	New  func(decode.Config) (decode.Batcher, error)
	Even bool
}

// ExpertPolicy places experts.
type ExpertPolicy int

const (
	// ExpertsAlone: experts in order, no redundant ones: slots that are left
	// repeat the first experts, which takes little off the hottest.
	ExpertsAlone ExpertPolicy = iota
	// ExpertsDeepSeek plans by the published algorithm, anew every window.
	ExpertsDeepSeek
	// ExpertsOptimal plans by package eplb, and moves where that pays.
	ExpertsOptimal
)

// String returns the policy's name on the wire.
func (p ExpertPolicy) String() string { return [...]string{"none", "deepseek", "optimal"}[p] }

// Policy is one of each balancer.
type Policy struct {
	Prefill PrefillPolicy
	Decode  DecodePolicy
	Experts ExpertPolicy
}

// String names the three.
func (p Policy) String() string {
	return fmt.Sprintf("%s / %s / %s", p.Prefill.Name, p.Decode.Name, p.Experts)
}

// PrefillPolicies lists the balancers of prompts: ours first, what engines run,
// none last.
func PrefillPolicies() []PrefillPolicy {
	out := []PrefillPolicy{{"moelb", func(c prefill.Config) (prefill.Former, error) { return prefill.New(c) }, true}}
	for _, name := range []string{"sglang-total-tokens", "trtllm-adp", "round-robin"} {
		for _, p := range baseline.PrefillPolicies() {
			if p.Name == name {
				out = append(out, PrefillPolicy{name, func(c prefill.Config) (prefill.Former, error) { return newRouted(p.New(c.Ranks), c), nil }, name != "round-robin"})
			}
		}
	}
	return out
}

// DecodePolicies lists the balancers of requests that stay: ours first, what
// engines run, none last.
func DecodePolicies() []DecodePolicy {
	out := []DecodePolicy{{"moelb", func(c decode.Config) (decode.Batcher, error) { return decode.New(c) }, true}}
	for _, name := range []string{"least-tokens", "vllm-new", "round-robin"} {
		for _, p := range baseline.DecodePolicies() {
			if p.Name == name {
				out = append(out, DecodePolicy{name, func(c decode.Config) (decode.Batcher, error) { return p.New(c.Ranks, c.KVCapacity[0], 1), nil }, name != "round-robin"})
			}
		}
	}
	return out
}
