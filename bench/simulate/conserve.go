package simulate

import "fmt"

// counts are what came in, what was done, and what went out, each counted where
// it happens.
type counts struct {
	entered, left struct{ requests, input, output int64 }
	cached        int64 // prompt tokens that the store held
	computed      int64 // prompt tokens that ranks computed
	again         int64 // tokens to prefill again after evictions
	generated     int64
}

// ConservationError says that a run lost something or made it up: the simulator
// is wrong.
type ConservationError struct{ Detail string }

func (e *ConservationError) Error() string { return "conservation: " + e.Detail }

// conserved checks, when nothing is left to do, that every request entered and
// left once, that as many tokens were prefilled and generated as asked, and that
// no KV is left; of a run that is cut, that each entered and left or is with a unit.
func (s *sim) conserved() error {
	fail := func(format string, args ...any) error {
		return &ConservationError{fmt.Sprintf(format, args...)}
	}
	c := &s.count
	if s.cut {
		held := int64(s.held.len())
		for _, u := range s.prefill {
			held += int64(u.queued)
		}
		for _, u := range s.decode {
			held += u.Total + int64(len(u.wait))
		}
		if out := c.entered.requests - c.left.requests; out != held || out != s.inFlight || out != int64(len(s.flights)-len(s.free)+s.held.len()) {
			return fail("%d requests entered and %d left; units hold %d", c.entered.requests, c.left.requests, held)
		}
		return nil
	}
	switch {
	case c.entered.requests != c.left.requests || s.inFlight != 0:
		return fail("%d requests entered, %d left", c.entered.requests, c.left.requests)
	case len(s.free) != len(s.flights):
		return fail("%d places of requests are free of %d", len(s.free), len(s.flights))
	case c.entered.input != c.left.input:
		return fail("prompts of %d tokens entered, of %d left", c.entered.input, c.left.input)
	case c.entered.input+c.again != c.cached+c.computed:
		return fail("%d tokens were to be prefilled, %d of them again; %d were cached and %d computed", c.entered.input+c.again, c.again, c.cached, c.computed)
	case c.entered.output != c.left.output || c.left.output != c.generated:
		return fail("%d tokens were asked for, %d generated, %d left", c.entered.output, c.generated, c.left.output)
	case s.queued != 0 || s.held.len() != 0 || s.prompts != 0:
		return fail("%d requests still wait, %d of them at the API server and %d for prefill", s.queued, s.held.len(), s.prompts)
	}
	seen := make([]bool, len(s.flights))
	for _, id := range s.free {
		if seen[id] {
			return fail("a request left twice")
		}
		seen[id] = true
	}
	for i, u := range s.prefill {
		if u.queued != 0 {
			return fail("prefill unit %d: %d prompts are left", i, u.queued)
		}
	}
	for i, u := range s.decode {
		if u.Total != 0 || len(u.wait) != 0 {
			return fail("decode unit %d: %d requests are left and %d wait", i, u.Total, len(u.wait))
		}
		for r, kv := range u.KV {
			if kv != 0 || u.N[r] != 0 || u.Latest(r) >= 0 {
				return fail("decode unit %d, rank %d: %d tokens of KV are left, of %d requests", i, r, kv, u.N[r])
			}
		}
	}
	return nil
}

// fault breaks a rule on purpose, for the test of the check.
type fault int

const (
	dropRequest fault = 1 + iota
	twice
	loseToken
	forgeToken
	leakKV
)
