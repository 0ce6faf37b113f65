package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
)

// The profiles that a PairHandler runs.
const (
	PrefillProfile = "prefill"
	DecodeProfile  = "decode"
)

// PairHandler gives every request a rank to prefill on and one to decode on. The
// request is sent to the latter, with the former's host and port in a header. It
// runs the decode profile first, since it is that picker which refuses requests:
// what was placed for a request that is refused afterwards is not released at once.
type PairHandler struct {
	name   plugin.TypedName
	header string
}

var (
	_ scheduling.ProfileHandler = (*PairHandler)(nil)
	_ requestcontrol.PreRequest = (*PairHandler)(nil)
)

func newPairHandler(name string, raw json.RawMessage, _ plugin.Handle) (plugin.Plugin, error) {
	c := struct {
		PrefillHeader string `json:"prefillHeader"`
	}{"x-prefiller-host-port"}
	if err := read(raw, &c); err != nil {
		return nil, err
	}
	if c.PrefillHeader == "" {
		return nil, fmt.Errorf("parameters: prefillHeader is empty")
	}
	return &PairHandler{plugin.TypedName{Type: PairHandlerType, Name: name}, c.PrefillHeader}, nil
}

// TypedName returns the handler's type and its name in the configuration.
func (h *PairHandler) TypedName() plugin.TypedName { return h.name }

// Pick returns the profile to run next: decode, then prefill unless that failed.
func (h *PairHandler) Pick(_ context.Context, _ *scheduling.CycleState, _ *scheduling.LLMRequest, profiles map[string]scheduling.SchedulerProfile, results map[string]*scheduling.ProfileRunResult) map[string]scheduling.SchedulerProfile {
	next := DecodeProfile
	if decode, ran := results[DecodeProfile]; ran {
		next = PrefillProfile
		if _, ran := results[PrefillProfile]; ran || decode == nil {
			return nil
		}
	}
	profile, ok := profiles[next]
	if !ok {
		return nil // ProcessResults says so
	}
	return map[string]scheduling.SchedulerProfile{next: profile}
}

// ProcessResults demands both ranks, and makes the decode rank the request's
// destination.
func (h *PairHandler) ProcessResults(_ context.Context, _ *scheduling.CycleState, _ *scheduling.LLMRequest, results map[string]*scheduling.ProfileRunResult) (*scheduling.SchedulingResult, error) {
	for _, name := range [...]string{DecodeProfile, PrefillProfile} {
		if results[name] == nil {
			return nil, fmt.Errorf("profile %s found no endpoint", name)
		}
	}
	return &scheduling.SchedulingResult{ProfileResults: results, PrimaryProfileName: DecodeProfile}, nil
}

// PreRequest names the prefill rank in the request's headers.
func (h *PairHandler) PreRequest(_ context.Context, r *scheduling.LLMRequest, result *scheduling.SchedulingResult) {
	if p := result.ProfileResults[PrefillProfile]; p != nil && len(p.TargetEndpoints) > 0 && r.Headers != nil {
		m := p.TargetEndpoints[0].GetMetadata()
		r.Headers[h.header] = net.JoinHostPort(m.GetIPAddress(), m.GetPort())
	}
}

// LabelFilter keeps the endpoints whose pod has a label with a value.
type LabelFilter struct {
	name         plugin.TypedName
	label, value string
}

var _ scheduling.Filter = (*LabelFilter)(nil)

func newLabelFilter(name string, raw json.RawMessage, _ plugin.Handle) (plugin.Plugin, error) {
	var c struct {
		Label string `json:"label"`
		Value string `json:"value"`
	}
	if err := read(raw, &c); err != nil {
		return nil, err
	}
	if c.Label == "" {
		return nil, fmt.Errorf("parameters: label is missing")
	}
	return &LabelFilter{plugin.TypedName{Type: LabelFilterType, Name: name}, c.Label, c.Value}, nil
}

// TypedName returns the filter's type and its name in the configuration.
func (f *LabelFilter) TypedName() plugin.TypedName { return f.name }

// Filter keeps the endpoints that have the label.
func (f *LabelFilter) Filter(_ context.Context, _ *scheduling.CycleState, _ *scheduling.LLMRequest, endpoints []scheduling.Endpoint) []scheduling.Endpoint {
	var kept []scheduling.Endpoint
	for _, e := range endpoints {
		if value, ok := e.GetMetadata().Labels[f.label]; ok && value == f.value {
			kept = append(kept, e)
		}
	}
	return kept
}
