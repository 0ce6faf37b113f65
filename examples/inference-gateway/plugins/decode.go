package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"

	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/examples/inference-gateway/ledger"
)

// DecodeParameters are what a decode picker's configuration may say.
type DecodeParameters struct {
	Parameters
	KVCapacity  int64       `json:"kvCapacity"`  // tokens of KV cache a rank holds; 0 = no limit
	MaxRequests int         `json:"maxRequests"` // a rank runs at once; 0 = no limit
	Output      int64       `json:"output"`      // tokens a request generates, until some have ended; 0 = 512
	Cost        decode.Cost `json:"cost"`        // of a step; zero = DeepSeek-V3 on H800
	// StepTime is how often the unit makes a step, in which every request that
	// runs grows by a token; "" = 50ms.
	StepTime string `json:"stepTime"`
}

// DecodePicker picks the rank that a request decodes on. It places the request in
// its ledger with the pick, so that no two picks meet in the same hole, and takes
// it off when its stream ends, however it ends.
type DecodePicker struct {
	noter
	parameters DecodeParameters
	ledger     *ledger.Decode
}

var (
	_ scheduling.Filter           = (*DecodePicker)(nil)
	_ scheduling.Picker           = (*DecodePicker)(nil)
	_ requestcontrol.PreRequest   = (*DecodePicker)(nil)
	_ requestcontrol.ResponseBody = (*DecodePicker)(nil)
)

func newDecodePicker(name string, raw json.RawMessage, h plugin.Handle) (plugin.Plugin, error) {
	return newDecodePickerAt(name, raw, h, time.Now)
}

func newDecodePickerAt(name string, raw json.RawMessage, h plugin.Handle, now func() time.Time) (*DecodePicker, error) {
	p := &DecodePicker{noter: noter{plugin.TypedName{Type: DecodePickerType, Name: name}}}
	c := &p.parameters
	if err := read(raw, c); err != nil {
		return nil, err
	}
	if err := c.complete(); err != nil {
		return nil, err
	}
	step, err := duration("stepTime", c.StepTime)
	if err != nil {
		return nil, err
	}
	cfg, err := c.Parameters.ledger(h, now)
	if err != nil {
		return nil, err
	}
	p.ledger, err = ledger.NewDecode(decode.Config{
		KVCapacity: []int64{c.KVCapacity}, MaxRequests: c.MaxRequests, Cost: c.Cost, Output: c.Output, Routers: c.Routers, Router: c.Router,
	}, step, cfg)
	if e := (*decode.Error)(nil); errors.As(err, &e) {
		return nil, fmt.Errorf("parameters: %s: %s", field(e.Field), e.Detail)
	}
	if err != nil {
		return nil, fmt.Errorf("parameters: %w", err)
	}
	return p, nil
}

// Pick picks one of the endpoints that the profile's filters have left, whatever
// their scores.
func (p *DecodePicker) Pick(ctx context.Context, cycle *scheduling.CycleState, endpoints []*scheduling.ScoredEndpoint) *scheduling.ProfileRunResult {
	r := p.request(ctx, cycle)
	if r == nil {
		return nil
	}
	candidates := make([]ledger.Candidate, len(endpoints))
	for i, e := range endpoints {
		candidates[i].Name = name(e)
		if p.parameters.Routers > 1 {
			candidates[i].Load = p.load(e.GetMetrics())
		}
	}
	i, err := p.ledger.Pick(r, decode.Request{KV: int64(p.parameters.tokens(r, decode.MaxTokens))}, candidates)
	return p.picked(ctx, r, endpoints, i, err)
}

// load is what an endpoint's metrics say of it.
func (p *DecodePicker) load(m *datalayer.Metrics) ledger.Load {
	if m == nil {
		return ledger.Load{}
	}
	capacity := m.KvCacheMaxTokenCapacity
	if capacity == 0 {
		capacity = m.CacheBlockSize * m.CacheNumBlocks
	}
	if capacity == 0 {
		capacity = int(p.parameters.KVCapacity)
	}
	if capacity == 0 {
		return ledger.Load{} // a share of what?
	}
	return ledger.Load{Requests: m.RunningRequestsSize + m.WaitingQueueSize, KV: int(m.KVCacheUsagePercent * float64(capacity)), At: m.UpdateTime}
}

// PreRequest notes that the request goes to the endpoint picked.
func (p *DecodePicker) PreRequest(_ context.Context, r *scheduling.LLMRequest, _ *scheduling.SchedulingResult) {
	p.ledger.Sent(r)
}

// ResponseBody takes the request off at the end of its stream. The endpoint picker
// calls it then even if the client has gone or the endpoint has failed.
func (p *DecodePicker) ResponseBody(_ context.Context, r *scheduling.LLMRequest, response *requestcontrol.Response, _ *datalayer.EndpointMetadata) {
	if response.EndOfStream {
		p.ledger.Done(r, response.Usage.CompletionTokens)
	}
}
