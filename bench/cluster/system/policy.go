package system

import "fmt"

// A Former decides which prompts of one prefill unit run in its next step and
// where. It is what the simulator asks of a prefill balancer.
type Former interface {
	// Enqueue hands over a prompt of tokens, of which the first cached need no
	// work.
	Enqueue(id, tokens, cached int64)
	// Step appends the next step's chunks to dst. A prompt stays on the rank that
	// its first chunk ran on; with its last chunk it is forgotten.
	Step(dst []Chunk) []Chunk
}

// Chunk is what a rank computes of a prompt in one step.
type Chunk struct {
	ID     int64
	Rank   int
	Tokens int64
	Last   bool
}

// A Placer decides on which rank of one decode unit a request runs. It is what
// the simulator asks of a decode balancer.
type Placer interface {
	// Place returns the rank of a request with kv tokens of KV, or -1 where it
	// fits nowhere now. It is then asked again later.
	Place(id, kv int64) int
	// Step says that every request grew by one token.
	Step()
	// Done says that a request has left its rank, with kv tokens.
	Done(id int64, rank int, kv int64)
}

// PrefillConfig and DecodeConfig are what a balancer knows of its unit.
type PrefillConfig struct {
	Ranks     int
	MaxTokens int64   // new tokens a rank and step
	Pair      float64 // seconds a query-key pair
	Token     float64 // seconds a new token
}
type DecodeConfig struct {
	Ranks       int
	KVCapacity  int64   // tokens a rank
	MaxRequests int     // a rank
	KV, Request float64 // seconds a KV token, and a request, of the busiest rank
}

// PrefillPolicy and DecodePolicy are balancers by name. Even units also get
// requests by how much work they have; others by turns.
type PrefillPolicy struct {
	Name string
	New  func(PrefillConfig) Former
	Even bool
}
type DecodePolicy struct {
	Name string
	New  func(DecodeConfig) Placer
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

// PrefillPolicies lists the balancers of prompts, ours first, none last.
func PrefillPolicies() []PrefillPolicy {
	return []PrefillPolicy{
		{"even", func(c PrefillConfig) Former { return newEvenFormer(c) }, true},
		{"least-tokens", func(c PrefillConfig) Former { return newQueueFormer(c, true) }, true},
		{"round-robin", func(c PrefillConfig) Former { return newQueueFormer(c, false) }, false},
	}
}

// DecodePolicies lists the balancers of requests that stay, ours first, none
// last.
func DecodePolicies() []DecodePolicy {
	return []DecodePolicy{
		{"water-level", func(c DecodeConfig) Placer { return &waterLevel{ledger: newLedger(c)} }, true},
		{"least-requests", func(c DecodeConfig) Placer { return &leastRequests{ledger: newLedger(c)} }, true},
		{"round-robin", func(c DecodeConfig) Placer { return &roundRobin{ledger: newLedger(c)} }, false},
	}
}
