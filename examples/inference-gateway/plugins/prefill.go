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
	placer[*ledger.Prefill]
	parameters PrefillParameters
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
	p := &PrefillPicker{}
	c := &p.parameters
	cfg, err := p.init(PrefillPickerType, name, raw, c, &c.Parameters, h, now)
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
	return p.pick(ctx, cycle, scored, func(c *ledger.Candidate, e scheduling.Endpoint, _ bool) {
		c.Cached = 0
		if a, ok := e.Get(prefix.PrefixCacheMatchInfoKey); ok {
			if m, ok := a.(*prefix.PrefixCacheMatchInfo); ok {
				c.Cached = int64(m.MatchBlocks()) * int64(m.BlockSizeTokens())
			}
		}
	}, func(r *scheduling.LLMRequest, candidates []ledger.Candidate) (int, error) {
		return p.ledger.Pick(r, int64(p.parameters.tokens(r, prefill.MaxPrompt)), candidates)
	})
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
