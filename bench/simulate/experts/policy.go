package experts

// Policy places experts.
type Policy int

const (
	// Alone: experts in order, no redundant ones: slots that are left
	// repeat the first experts, which takes little off the hottest.
	Alone Policy = iota
	// DeepSeek plans by the published algorithm, anew every window.
	DeepSeek
	// Optimal plans by package eplb, and moves where that pays.
	Optimal
)

// String returns the policy's name on the wire.
func (p Policy) String() string { return [...]string{"none", "deepseek", "optimal"}[p] }
