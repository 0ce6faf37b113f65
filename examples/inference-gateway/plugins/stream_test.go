package plugins

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api-inference-extension/apix/v1alpha2"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/config/loader"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/datalayer"
	fwkdl "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	extractormetrics "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/extractor/metrics"
	sourcemetrics "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/source/metrics"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/fairness"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/ordering"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/saturationdetector/utilization"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/flowcontrol/usagelimits"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/requestcontrol/dataproducer/approximateprefix"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/requesthandling/parsers/openai"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/requesthandling/parsers/passthrough"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/profile"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/handlers"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/requestcontrol"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/scheduling"
)

// pool is what an endpoint picker knows of its pool: here, what a test says.
type pool struct{ endpoints []fwkdl.Endpoint }

func (p *pool) add(name, role string, port int) {
	p.endpoints = append(p.endpoints, fwkdl.NewEndpoint(&fwkdl.EndpointMetadata{
		NamespacedName: types.NamespacedName{Namespace: "serving", Name: name},
		PodName:        name, Address: "10.0.0.1", Port: strconv.Itoa(port), Labels: map[string]string{"moelb/role": role},
	}, nil))
}

func (p *pool) names() []types.NamespacedName {
	var names []types.NamespacedName
	for _, e := range p.endpoints {
		names = append(names, e.GetMetadata().NamespacedName)
	}
	return names
}

func (p *pool) PoolGet() (*datalayer.EndpointPool, error)               { return &datalayer.EndpointPool{}, nil }
func (p *pool) ObjectiveGet(string) *v1alpha2.InferenceObjective        { return nil }
func (p *pool) PodList(func(fwkdl.Endpoint) bool) []fwkdl.Endpoint      { return p.endpoints }
func (p *pool) Locate(context.Context, map[string]any) []fwkdl.Endpoint { return p.endpoints }

func (p *pool) ModelRewriteGet(string) (*v1alpha2.InferenceModelRewriteRule, string) {
	return nil, ""
}

func (p *pool) Admit(context.Context, *handlers.RequestContext, int) error { return nil }

// load makes an endpoint picker of a configuration as its command does.
func load(t *testing.T, yaml string, p *pool) (*handlers.StreamingServer, plugin.Handle, error) {
	t.Helper()
	Register()
	return loadRegistered(t, yaml, p)
}

func loadRegistered(t testing.TB, yaml string, p *pool) (*handlers.StreamingServer, plugin.Handle, error) {
	t.Helper()
	for name, factory := range map[string]plugin.FactoryFunc{
		profile.SingleProfileHandlerType:              profile.SingleProfileHandlerFactory,
		fairness.GlobalStrictFairnessPolicyType:       fairness.GlobalStrictFairnessPolicyFactory,
		ordering.FCFSOrderingPolicyType:               ordering.FCFSOrderingPolicyFactory,
		usagelimits.StaticUsageLimitPolicyType:        usagelimits.StaticPolicyFactory,
		openai.OpenAIParserType:                       openai.OpenAIParserPluginFactory,
		passthrough.PassthroughParserType:             passthrough.PassthroughParserPluginFactory,
		utilization.UtilizationDetectorType:           utilization.UtilizationDetectorFactory,
		sourcemetrics.MetricsDataSourceType:           sourcemetrics.MetricsDataSourceFactory,
		extractormetrics.MetricsExtractorType:         extractormetrics.CoreMetricsExtractorFactory,
		approximateprefix.ApproxPrefixCachePluginType: approximateprefix.ApproxPrefixCacheFactory,
	} {
		plugin.Register(name, factory)
	}
	raw, _, err := loader.LoadRawConfig([]byte(yaml), logr.Discard())
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(quiet())
	t.Cleanup(cancel)
	h := plugin.NewEppHandle(ctx, p.names)
	cfg, err := loader.InstantiateAndConfigure(raw, h, logr.Discard())
	if err != nil {
		return nil, nil, err
	}
	hooks := requestcontrol.NewConfig()
	hooks.AddPlugins(h.GetAllPlugins()...)
	order, err := datalayer.ValidateAndOrderDataDependencies(h.GetAllPlugins())
	if err != nil {
		return nil, nil, err
	}
	hooks.OrderPrepareDataPlugins(order)
	parser := handlers.NewParser(cfg.ParserConfig)
	director := requestcontrol.NewDirectorWithConfig(p, scheduling.NewSchedulerWithConfig(cfg.SchedulerConfig), p, parser, p, hooks)
	return handlers.NewStreamingServer(p, director, parser), h, nil
}

// stream is one request's, as a proxy sends it: each step is called when the
// messages of the steps before it have been dealt with.
type stream struct {
	grpc.ServerStream
	steps []func() (*extproc.ProcessingRequest, error)
	sent  []*extproc.ProcessingResponse
	fail  bool // sending does
}

func (s *stream) Context() context.Context { return quiet() }

func (s *stream) Send(r *extproc.ProcessingResponse) error {
	if s.fail {
		return errors.New("the proxy is gone")
	}
	s.sent = append(s.sent, r)
	return nil
}

func (s *stream) Recv() (*extproc.ProcessingRequest, error) {
	if len(s.steps) == 0 {
		return nil, io.EOF
	}
	step := s.steps[0]
	s.steps = s.steps[1:]
	return step()
}

func (s *stream) then(r *extproc.ProcessingRequest, err error) *stream {
	s.steps = append(s.steps, func() (*extproc.ProcessingRequest, error) { return r, err })
	return s
}

// check calls f once what came before has been dealt with.
func (s *stream) check(f func()) *stream {
	s.steps = append(s.steps, func() (*extproc.ProcessingRequest, error) {
		f()
		return s.Recv()
	})
	return s
}

// header returns a header that the request was given.
func (s *stream) header(key string) string {
	for _, r := range s.sent {
		for _, h := range r.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
			if h.Header.Key == key {
				return string(h.Header.RawValue)
			}
		}
	}
	return ""
}

// refused returns the status with which the request was answered; 0 = it was not.
func (s *stream) refused() int {
	for _, r := range s.sent {
		if i := r.GetImmediateResponse(); i != nil {
			return int(i.Status.Code)
		}
	}
	return 0
}

func headers(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}

// ask sends a request of a prompt of so many characters.
func ask(prompt int) *stream {
	body := `{"model": "m", "stream": true, "prompt": "` + strings.Repeat("x", prompt) + `"}`
	s := &stream{}
	s.then(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extproc.HttpHeaders{Headers: headers(":path", "/v1/completions", "x-request-id", "same for all")},
	}}, nil)
	return s.then(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
		RequestBody: &extproc.HttpBody{Body: []byte(body), EndOfStream: true},
	}}, nil)
}

// answered adds the headers of a streamed response.
func (s *stream) answered() *stream {
	return s.then(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extproc.HttpHeaders{Headers: headers("status", "200", "content-type", "text/event-stream")},
	}}, nil)
}

// chunk adds a piece of a streamed response.
func (s *stream) chunk(last bool) *stream {
	body := "data: {\"choices\": [{\"text\": \"a\"}]}\n\n"
	if last {
		body = "data: {\"object\": \"text_completion\", \"usage\": {\"prompt_tokens\": 10, \"completion_tokens\": 2, \"total_tokens\": 12}}\n\ndata: [DONE]\n\n"
	}
	return s.then(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
		ResponseBody: &extproc.HttpBody{Body: []byte(body), EndOfStream: last},
	}}, nil)
}

func example(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile("../config/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestREADME: the configuration that the README shows is the one that is tested.
func TestREADME(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```yaml\n"+example(t, "decode.yaml")+"```\n") {
		t.Error("config/decode.yaml is not what the README shows")
	}
}

// TestStreams sends requests through the endpoint picker as a proxy does, with the
// example configuration: each holds its place for as long as its stream lasts,
// however that ends.
func TestStreams(t *testing.T) {
	p := &pool{}
	for g := range 3 {
		p.add("decode-0-rank-"+strconv.Itoa(g), "decode", 8000+g)
	}
	server, h, err := load(t, example(t, "decode.yaml"), p)
	if err != nil {
		t.Fatal(err)
	}
	picker := h.Plugin(DecodePickerType).(*DecodePicker)
	held := func(want int) func() {
		return func() {
			t.Helper()
			if n, _ := picker.ledger.Stats(); n != want {
				t.Errorf("%d requests are held, not %d", n, want)
			}
		}
	}
	for _, c := range []struct {
		name string
		s    *stream
		err  bool
	}{
		{"answered", ask(4000).check(held(1)).answered().chunk(false).check(held(1)).chunk(false).chunk(true).check(held(0)), false},
		{"client leaves before the answer", ask(4000).check(held(1)).then(nil, status.Error(codes.Canceled, "")), false},
		{"client leaves during the answer", ask(4000).answered().chunk(false).check(held(1)).then(nil, status.Error(codes.Canceled, "")), false},
		{"proxy closes the stream", ask(4000).answered().check(held(1)).then(nil, io.EOF), false},
		{"proxy fails", ask(4000).check(held(1)).then(nil, status.Error(codes.Unavailable, "")), true},
		{"proxy cannot be sent to", func() *stream { s := ask(4000); s.fail = true; return s }(), true},
		{"bad request", (&stream{}).then(ask(0).steps[0]()).then(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
			RequestBody: &extproc.HttpBody{Body: []byte("{"), EndOfStream: true},
		}}, nil), false},
	} {
		if err := server.Process(c.s); (err != nil) != c.err {
			t.Errorf("%s: error %v", c.name, err)
		}
		if n, unit := picker.ledger.Stats(); n != 0 {
			t.Errorf("%s: %d requests are held at the end", c.name, n)
		} else {
			for g, k := range unit.Ranks {
				if k.KV != 0 || k.Requests != 0 {
					t.Errorf("%s: rank %d ends with %d tokens of %d requests", c.name, g, k.KV, k.Requests)
				}
			}
		}
	}
	// Three at once, of one id, have a rank each.
	seen := map[string]bool{}
	outer := ask(4000)
	outer.check(func() {
		middle := ask(4000)
		middle.check(func() {
			inner := ask(4000)
			inner.check(held(3))
			if err := server.Process(inner); err != nil {
				t.Error(err)
			}
			seen[inner.header("x-gateway-destination-endpoint")] = true
		}).check(held(2))
		if err := server.Process(middle); err != nil {
			t.Error(err)
		}
		seen[middle.header("x-gateway-destination-endpoint")] = true
	})
	if err := server.Process(outer); err != nil {
		t.Error(err)
	}
	seen[outer.header("x-gateway-destination-endpoint")] = true
	if len(seen) != 3 || seen[""] {
		t.Errorf("three requests went to %v", seen)
	}
	held(0)()
}

// TestRefused: where no rank has room, the client is told so at once.
func TestRefused(t *testing.T) {
	p := &pool{}
	p.add("a", "decode", 8000)
	server, h, err := load(t, strings.Replace(example(t, "decode.yaml"), "maxRequests: 256", "maxRequests: 1", 1), p)
	if err != nil {
		t.Fatal(err)
	}
	second := ask(10)
	first := ask(10).check(func() {
		if err := server.Process(second); err != nil {
			t.Error(err)
		}
	})
	if err := server.Process(first); err != nil {
		t.Error(err)
	}
	if first.refused() != 0 || second.refused() != 429 {
		t.Errorf("answered with %d and %d, not 0 and 429", first.refused(), second.refused())
	}
	if n, _ := h.Plugin(DecodePickerType).(*DecodePicker).ledger.Stats(); n != 0 {
		t.Errorf("%d requests are held at the end", n)
	}
}

// TestPrefillDecode: with the example of two units in one pool, each request gets a
// rank of either; the prefill rank is free again with the first token.
func TestPrefillDecode(t *testing.T) {
	p := &pool{}
	for g := range 2 {
		p.add("prefill-0-rank-"+strconv.Itoa(g), "prefill", 9000+g)
		p.add("decode-0-rank-"+strconv.Itoa(g), "decode", 8000+g)
	}
	server, h, err := load(t, example(t, "prefill-decode.yaml"), p)
	if err != nil {
		t.Fatal(err)
	}
	decoder, prefiller := h.Plugin(DecodePickerType).(*DecodePicker), h.Plugin(PrefillPickerType).(*PrefillPicker)
	held := func(prefills, decodes int) func() {
		return func() {
			t.Helper()
			n, _ := prefiller.ledger.Stats()
			m, _ := decoder.ledger.Stats()
			if n != prefills || m != decodes {
				t.Errorf("%d and %d requests are held, not %d and %d", n, m, prefills, decodes)
			}
		}
	}
	for range 2 {
		s := ask(4000).check(held(1, 1)).answered().check(held(1, 1)).chunk(false).check(held(0, 1)).chunk(true).check(held(0, 0))
		if err := server.Process(s); err != nil {
			t.Fatal(err)
		}
		_, to, err := net.SplitHostPort(s.header("x-gateway-destination-endpoint"))
		if err != nil || to[0] != '8' {
			t.Errorf("sent to port %q (%v), which is no decode rank's", to, err)
		}
		_, from, err := net.SplitHostPort(s.header("x-prefiller-host-port"))
		if err != nil || from[0] != '9' {
			t.Errorf("prefilled on port %q (%v), which is no prefill rank's", from, err)
		}
	}
	gone := ask(4000).then(nil, status.Error(codes.Canceled, ""))
	if err := server.Process(gone); err != nil {
		t.Error(err)
	}
	held(0, 0)()
	p.endpoints = p.endpoints[1:2] // a decode rank alone
	s := ask(4000)
	if err := server.Process(s); err != nil || s.refused() != 429 {
		t.Errorf("without a prefill rank: answered with %d, error %v", s.refused(), err)
	}
}

// TestPairWithout: a configuration that lacks one of the two profiles refuses.
func TestPairWithout(t *testing.T) {
	yaml, _, _ := strings.Cut(example(t, "prefill-decode.yaml"), "- name: decode\n  plugins:")
	p := &pool{}
	p.add("a", "prefill", 8000)
	server, _, err := load(t, yaml, p)
	if err != nil {
		t.Fatal(err)
	}
	s := ask(10)
	if err := server.Process(s); err != nil || s.refused() != 429 {
		t.Errorf("answered with %d, error %v", s.refused(), err)
	}
}
