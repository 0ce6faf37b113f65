package plugins

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/attribute/prefix"

	"github.com/moelb/moelb/examples/inference-gateway/ledger"
	"github.com/moelb/moelb/prefill"
)

// PrefillParameters are what a prefill picker's configuration may say.
type PrefillParameters struct {
	Parameters
	Cost struct { // of a step, in seconds; zero = DeepSeek-V3 on H800
		Pair   float64 `json:"pair"`
		Token  float64 `json:"token"`
		Step   float64 `json:"step"`
		Prefix float64 `json:"prefix"`
	} `json:"cost"`
}

// PrefillPicker picks the rank that a prompt is prefilled on. It places the prompt
// in its ledger with the pick and takes it off when the first of the response comes,
// or its stream ends without any. Where the endpoint picker knows what of a prompt
// an endpoint has cached (approx-prefix-cache-producer), affinity and balance are
// one decision.
type PrefillPicker struct {
	noter
	parameters PrefillParameters
	ledger     *ledger.Prefill
}

var (
	_ scheduling.Filter           = (*PrefillPicker)(nil)
	_ scheduling.Picker           = (*PrefillPicker)(nil)
	_ requestcontrol.PreRequest   = (*PrefillPicker)(nil)
	_ requestcontrol.ResponseBody = (*PrefillPicker)(nil)
)

func newPrefillPicker(name string, raw json.RawMessage, h plugin.Handle) (plugin.Plugin, error) {
	return newPrefillPickerAt(name, raw, h, time.Now)
}

func newPrefillPickerAt(name string, raw json.RawMessage, h plugin.Handle, now func() time.Time) (*PrefillPicker, error) {
	p := &PrefillPicker{noter: noter{name: plugin.TypedName{Type: PrefillPickerType, Name: name}}}
	c := &p.parameters
	if err := read(raw, c); err != nil {
		return nil, err
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	cfg, err := c.Parameters.ledger(h, now)
	if err != nil {
		return nil, err
	}
	p.ledger, err = ledger.NewPrefill(prefill.Config{Cost: prefill.Cost(c.Cost), Routers: c.Routers, Router: c.Router}, cfg)
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return p, nil
}

// Pick picks one of the endpoints that the profile's filters have left, whatever
// their scores.
func (p *PrefillPicker) Pick(ctx context.Context, cycle *scheduling.CycleState, scored []*scheduling.ScoredEndpoint) *scheduling.ProfileRunResult {
	r, endpoints := p.noted(ctx, cycle, scored)
	if r == nil {
		return nil
	}
	list := p.list(len(endpoints))
	defer p.give(list)
	candidates := *list
	tokens := p.parameters.tokens(r, prefill.MaxPrompt)
	for i, e := range endpoints {
		p.parameters.candidate(&candidates[i], e)
		candidates[i].Cached = 0
		if a, ok := e.Get(prefix.PrefixCacheMatchInfoKey); ok {
			if m, ok := a.(*prefix.PrefixCacheMatchInfo); ok {
				// Its last token is computed even where all are cached.
				candidates[i].Cached = min(int64(m.MatchBlocks())*int64(m.BlockSizeTokens()), int64(tokens)-1)
			}
		}
	}
	i, err := p.ledger.Pick(r, int64(tokens), candidates)
	return p.picked(ctx, r, endpoints, i, err)
}

// PreRequest notes that the request goes to the endpoint picked.
func (p *PrefillPicker) PreRequest(_ context.Context, r *scheduling.LLMRequest, _ *scheduling.SchedulingResult) {
	p.ledger.Sent(r)
}

// ResponseBody takes the request off: there is a first token, or the stream has
// ended. Where another endpoint than the one picked has answered, as a decode rank
// does, an error is not held against the latter.
func (p *PrefillPicker) ResponseBody(ctx context.Context, r *scheduling.LLMRequest, response *requestcontrol.Response, at *datalayer.EndpointMetadata) {
	how := ledger.Finished
	if at == nil || !p.ledger.Holds(r, ledger.Name(at.NamespacedName)) {
		if !well(response) {
			how = ledger.Cut
		}
	} else if response.EndOfStream {
		how = ending(ctx, response, false, true)
	} else if !well(response) {
		how = ledger.Failed
	}
	if response.EndOfStream && how == ledger.Finished {
		p.parameters.learn(r, response.Usage.PromptTokens)
	}
	p.ledger.End(r, how)
}
