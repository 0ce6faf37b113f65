package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/log"
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
	// Hold is how long a request may wait to be placed together with others, a step
	// at most; "" = none waits.
	Hold string `json:"hold"`
	// Snapshot is where what the picker knows is written; none = nowhere.
	Snapshot Snapshot `json:"snapshot"`
}

// DecodePicker picks the rank that a request decodes on. It places the request in
// its ledger with the pick, so that no two picks meet in the same hole, and takes
// it off when its stream ends, however it ends.
type DecodePicker struct {
	placer[*ledger.Decode]
	parameters DecodeParameters
	keeper     *keeper // nil = none
	log        logr.Logger
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
	p := &DecodePicker{}
	c := &p.parameters
	cfg, err := p.init(DecodePickerType, name, raw, c, &c.Parameters, h, now)
	if err != nil {
		return nil, err
	}
	step, err := duration("stepTime", c.StepTime)
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
	hold, err := duration("hold", c.Hold)
	if err != nil {
		return nil, err
	}
	p.ledger.Hold(hold, nil)
	return p, p.keep(h)
}

// keep begins to keep the picker's snapshot.
func (p *DecodePicker) keep(h plugin.Handle) error {
	s, interval, err := p.parameters.Snapshot.open()
	if err != nil || s == nil {
		return err
	}
	p.keeper, p.log = newKeeper(s, p), log.FromContext(h.Context())
	ctx, cancel := context.WithTimeout(h.Context(), interval)
	defer cancel()
	if err := p.keeper.beat(ctx); err != nil {
		p.failed(err)
	}
	go p.keeper.run(h.Context(), interval, p.failed)
	return nil
}

func (p *DecodePicker) failed(err error) {
	p.log.Error(err, "The picker goes on without", "plugin", p.name)
}

// Pick picks one of the endpoints that the profile's filters have left, whatever
// their scores.
func (p *DecodePicker) Pick(ctx context.Context, cycle *scheduling.CycleState, scored []*scheduling.ScoredEndpoint) *scheduling.ProfileRunResult {
	if p.keeper != nil {
		p.keeper.begin(p.failed)
	}
	wanted := p.ledger.Wanted()
	return p.pick(ctx, cycle, scored, func(c *ledger.Candidate, e scheduling.Endpoint, same bool) {
		if m := e.GetMetrics(); wanted && (!same || m == nil || c.Load.At != m.UpdateTime) {
			c.Load = p.load(m)
		}
	}, func(r *scheduling.LLMRequest, candidates []ledger.Candidate) (int, error) {
		return p.ledger.Await(ctx, r, p.request(r), candidates)
	})
}

func (p *DecodePicker) request(r *scheduling.LLMRequest) decode.Request {
	return decode.Request{KV: int64(p.parameters.tokens(r, decode.MaxTokens))}
}

// load is what an endpoint's metrics say of it.
func (p *DecodePicker) load(m *datalayer.Metrics) ledger.Load {
	if m == nil || m.UpdateTime.IsZero() || !(m.KVCacheUsagePercent >= 0 && m.KVCacheUsagePercent <= 2) {
		return ledger.Load{}
	}
	l := ledger.Load{KV: -1, At: m.UpdateTime}
	for _, n := range [...]int{m.RunningRequestsSize, m.WaitingQueueSize} {
		if n < 0 || n > 1<<30 {
			return ledger.Load{}
		}
		l.Requests += n
	}
	capacity := int64(m.KvCacheMaxTokenCapacity)
	if capacity <= 0 && m.CacheBlockSize > 0 && m.CacheNumBlocks > 0 && m.CacheNumBlocks < 1<<40/m.CacheBlockSize {
		capacity = int64(m.CacheBlockSize) * int64(m.CacheNumBlocks)
	}
	if capacity <= 0 || capacity > 1<<40 {
		capacity = p.parameters.KVCapacity
	}
	if capacity > 0 { // else it is a share of what?
		l.KV = int64(m.KVCacheUsagePercent * float64(capacity))
	}
	return l
}

// ResponseBody notes that the request's stream moves, and takes the request off at
// its end. The endpoint picker calls it then even if the client has gone or the
// endpoint has failed.
func (p *DecodePicker) ResponseBody(ctx context.Context, r *scheduling.LLMRequest, response *requestcontrol.Response, at *datalayer.EndpointMetadata) {
	usage := &response.Usage
	if !response.EndOfStream {
		if !well(response) {
			return
		}
		if !p.ledger.Heard(r) && at != nil {
			_ = p.ledger.Resume(r, p.request(r), ledger.Name(at.NamespacedName))
		}
		if usage.CompletionTokens > 0 {
			p.ledger.Counted(r, int64(usage.PromptTokens), int64(usage.CompletionTokens))
		}
		return
	}
	answered, long := p.ledger.Answered(r)
	how := ending(ctx, response, answered, long)
	if how == ledger.Finished {
		p.parameters.learn(r, usage.PromptTokens)
	}
	p.ledger.End(r, how, int64(usage.CompletionTokens))
}
