package plugins

import (
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/common/observability/logging"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"

	"github.com/moelb/moelb/examples/inference-gateway/ledger"
)

// placer is what both pickers are: it places requests in a ledger, on endpoints as its
// parameters see them.
//
// Pick is not given the request, Filter is: so a picker is a filter too, one that keeps
// every endpoint and leaves a note. A request is known by its address, which the
// endpoint picker keeps until the request's stream has ended; ids come from clients and
// need not be unique.
type placer[L interface{ Sent(key any) }] struct {
	name       plugin.TypedName
	common     *Parameters
	ledger     L
	candidates sync.Pool // of *[]ledger.Candidate
}

// init reads a picker's parameters, of which common are a part, and returns what its
// ledger needs.
func (p *placer[L]) init(kind, name string, raw json.RawMessage, parameters any, common *Parameters, h plugin.Handle, now func() time.Time) (ledger.Config, error) {
	p.name, p.common = plugin.TypedName{Type: kind, Name: name}, common
	if err := read(raw, parameters); err != nil {
		return ledger.Config{}, err
	}
	if err := common.complete(); err != nil {
		return ledger.Config{}, err
	}
	return common.ledger(h, now)
}

// note is what the filter leaves for the picker.
type note struct {
	request   *scheduling.LLMRequest
	endpoints []scheduling.Endpoint
}

// Clone returns the note.
func (n *note) Clone() plugin.StateData { return n }

// TypedName returns the picker's type and its name in the configuration.
func (p *placer[L]) TypedName() plugin.TypedName { return p.name }

// Filter keeps every endpoint.
func (p *placer[L]) Filter(_ context.Context, cycle *scheduling.CycleState, request *scheduling.LLMRequest, endpoints []scheduling.Endpoint) []scheduling.Endpoint {
	cycle.Write(plugin.StateKey(p.name.String()), &note{request, endpoints})
	return endpoints
}

// PreRequest notes that the request goes to the endpoint picked.
func (p *placer[L]) PreRequest(_ context.Context, r *scheduling.LLMRequest, _ *scheduling.SchedulingResult) {
	p.ledger.Sent(r)
}

// pick places the request that Filter noted on one of the endpoints; nil refuses it.
// see adds to a candidate what only the one picker looks at; same = it is the endpoint
// that it was. place returns which is taken; -1 = none has room.
func (p *placer[L]) pick(ctx context.Context, cycle *scheduling.CycleState, scored []*scheduling.ScoredEndpoint,
	see func(c *ledger.Candidate, e scheduling.Endpoint, same bool),
	place func(r *scheduling.LLMRequest, candidates []ledger.Candidate) (int, error)) *scheduling.ProfileRunResult {
	r, endpoints := p.noted(ctx, cycle, scored)
	if r == nil {
		return nil
	}
	list, _ := p.candidates.Get().(*[]ledger.Candidate)
	if list == nil {
		list = new([]ledger.Candidate)
	}
	defer p.candidates.Put(list)
	*list = slices.Grow((*list)[:0], len(endpoints))[:len(endpoints)]
	for i, e := range endpoints {
		c := &(*list)[i]
		see(c, e, p.common.candidate(c, e))
	}
	i, err := place(r, *list)
	if err != nil {
		log.FromContext(ctx).Error(err, "The request cannot be placed", "plugin", p.name, "request", r.RequestId)
		return nil
	}
	if i < 0 {
		log.FromContext(ctx).V(logging.DEFAULT).Info("No endpoint has room for the request", "plugin", p.name, "request", r.RequestId)
		return nil
	}
	return &scheduling.ProfileRunResult{TargetEndpoints: []scheduling.Endpoint{endpoints[i]}}
}

// noted returns the request that Filter noted, nil = none, and the endpoints to pick
// from: in the order in which Filter saw them, where they are the same.
func (p *placer[L]) noted(ctx context.Context, cycle *scheduling.CycleState, scored []*scheduling.ScoredEndpoint) (*scheduling.LLMRequest, []scheduling.Endpoint) {
	found, err := scheduling.ReadCycleStateKey[*note](cycle, plugin.StateKey(p.name.String()))
	if err != nil {
		log.FromContext(ctx).Error(err, "The picker is not among the profile's filters: it must be both", "plugin", p.name)
		return nil, nil
	}
	if len(found.endpoints) == len(scored) { // later filters only take away
		return found.request, found.endpoints
	}
	endpoints := make([]scheduling.Endpoint, len(scored))
	for i, e := range scored {
		endpoints[i] = e
	}
	return found.request, endpoints
}

// candidate makes c an endpoint as the ledger knows it, and reports whether it was
// that already, as it mostly is.
func (p *Parameters) candidate(c *ledger.Candidate, e scheduling.Endpoint) (same bool) {
	m := e.GetMetadata()
	name := ledger.Name(m.NamespacedName)
	if same = c.Name == name; !same {
		c.Name = name
	}
	unit, drain := "", false
	if len(m.Labels) > 0 {
		if p.UnitLabel != "" {
			unit = m.Labels[p.UnitLabel]
		}
		if v, ok := m.Labels[p.DrainLabel]; ok {
			drain = v != "false"
		}
	}
	if c.Unit != unit {
		c.Unit = unit
	}
	c.Drain = drain
	return same
}

// tokens is how long a request's prompt is, at most so long: counted by a tokenizer,
// or else estimated from what its body is made of; where that can't be read, as long
// as prompts are on average.
func (p *Parameters) tokens(r *scheduling.LLMRequest, most int) int {
	if r.TokenizedPrompt != nil && len(r.TokenizedPrompt.TokenIDs) > 0 {
		return min(len(r.TokenizedPrompt.TokenIDs), most)
	}
	n := 0.0
	if c, ok := p.MediaTokens.measure(r.Body); ok {
		n = p.lengths.tokens(r.TargetModel, c, p.BytesPerToken)
	} else {
		n = p.lengths.usual()
	}
	return int(min(max(math.Round(n), 1), float64(most)))
}

// learn takes in how long the engine says that a request's prompt was.
func (p *Parameters) learn(r *scheduling.LLMRequest, prompt int) {
	if r.TokenizedPrompt != nil && len(r.TokenizedPrompt.TokenIDs) > 0 {
		return
	}
	c, ok := p.MediaTokens.measure(r.Body)
	if !ok {
		c = content{}
	}
	p.lengths.learn(r.TargetModel, c, p.BytesPerToken, prompt)
}

// statusOf is a response's status, as proxies name it; 0 = there was none.
func statusOf(response *requestcontrol.Response) int {
	for _, key := range [...]string{":status", "status"} {
		if s, ok := response.Headers[key]; ok {
			n, _ := strconv.Atoi(s)
			return n
		}
	}
	return 0
}

// well reports whether a response's headers, where there are any, are those of an
// answer.
func well(response *requestcontrol.Response) bool {
	n := statusOf(response)
	return n == 0 || n >= 200 && n < 300
}

// broken reports whether the endpoint picker only cleans up after a stream that broke
// off: it does so outside of the request's trace.
func broken(ctx context.Context) bool {
	return trace.SpanFromContext(ctx) == trace.SpanFromContext(context.Background())
}

// ending tells how a request ended whose stream is over. answered says that some of
// an answer came before, long that there was time for one.
func ending(ctx context.Context, response *requestcontrol.Response, answered, long bool) ledger.End {
	n := statusOf(response)
	switch {
	case n >= 500 || n == 429 || n == 408:
		return ledger.Failed
	case n >= 300:
		return ledger.Refused
	case broken(ctx):
		return ledger.Cut
	case response.Usage.CompletionTokens > 0 || answered:
		return ledger.Finished
	case !long || strings.TrimSpace(response.Headers["content-length"]) == "0" || strings.Contains(response.Headers["content-type"], "event-stream"):
		return ledger.Failed
	}
	return ledger.Finished
}
