package plugins

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/common/observability/logging"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"

	"github.com/moelb/moelb/examples/inference-gateway/ledger"
)

// noter lets a picker know whose endpoint it picks. Pick is not given the request,
// Filter is: so a picker is a filter too, one that keeps every endpoint and leaves
// a note. A request is known by its address, which the endpoint picker keeps until
// the request's stream has ended; ids come from clients and need not be unique.
type noter struct{ name plugin.TypedName }

// note is what the filter leaves for the picker.
type note struct{ request *scheduling.LLMRequest }

// Clone returns the note.
func (n note) Clone() plugin.StateData { return n }

// TypedName returns the picker's type and its name in the configuration.
func (n *noter) TypedName() plugin.TypedName { return n.name }

// Filter keeps every endpoint.
func (n *noter) Filter(_ context.Context, cycle *scheduling.CycleState, request *scheduling.LLMRequest, endpoints []scheduling.Endpoint) []scheduling.Endpoint {
	cycle.Write(plugin.StateKey(n.name.String()), note{request})
	return endpoints
}

// request returns the request that Filter noted; nil = none.
func (n *noter) request(ctx context.Context, cycle *scheduling.CycleState) *scheduling.LLMRequest {
	found, err := scheduling.ReadCycleStateKey[note](cycle, plugin.StateKey(n.name.String()))
	if err != nil {
		log.FromContext(ctx).Error(err, "The picker is not among the profile's filters: it must be both", "plugin", n.name)
		return nil
	}
	return found.request
}

// picked makes the outcome of a pick: nil refuses the request.
func (n *noter) picked(ctx context.Context, r *scheduling.LLMRequest, endpoints []*scheduling.ScoredEndpoint, i int, err error) *scheduling.ProfileRunResult {
	if err != nil {
		log.FromContext(ctx).Error(err, "The request cannot be placed", "plugin", n.name, "request", r.RequestId)
		return nil
	}
	if i < 0 {
		log.FromContext(ctx).V(logging.DEFAULT).Info("No endpoint has room for the request", "plugin", n.name, "request", r.RequestId)
		return nil
	}
	return &scheduling.ProfileRunResult{TargetEndpoints: []scheduling.Endpoint{endpoints[i]}}
}

func name(e scheduling.Endpoint) ledger.Name { return ledger.Name(e.GetMetadata().NamespacedName) }

// tokens is how long a request's prompt is: counted by a tokenizer, or else
// estimated from its size.
func (p *Parameters) tokens(r *scheduling.LLMRequest, most int) int {
	size := r.RequestSizeBytes
	switch {
	case r.TokenizedPrompt != nil && len(r.TokenizedPrompt.TokenIDs) > 0:
		return min(len(r.TokenizedPrompt.TokenIDs), most)
	case size <= 0 && r.Body != nil:
		size = len(r.Body.PromptText())
	}
	return int(min(max(float64(size)/p.BytesPerToken, 1), float64(most)))
}
