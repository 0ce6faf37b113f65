package plugins

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	fwk "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/datalayer/attribute/prefix"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/scheduling"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/prefill"
)

// TestBadParameters: what is wrong in a configuration file is said when it is
// loaded.
func TestBadParameters(t *testing.T) {
	t.Setenv("POD_NAME", "picker-b")
	for _, c := range []struct{ kind, parameters, want string }{
		{DecodePickerType, `{kvCapactiy: 5}`, `parameters: json: unknown field "kvCapactiy"`},
		{DecodePickerType, `{kvCapacity: -5}`, "parameters: kvCapacity: -5 is not from 0"},
		{DecodePickerType, `{kvCapacity: many}`, "parameters: json: cannot unmarshal string"},
		{DecodePickerType, `{maxRequests: -1}`, "parameters: maxRequests: -1 is not from 0"},
		{DecodePickerType, `{output: -1}`, "parameters: output: -1 is not from 0"},
		{DecodePickerType, `{cost: {kv: -1}}`, "parameters: cost.kv: -1 is not from 0"},
		{DecodePickerType, `{stepTime: 48}`, "parameters: json: cannot unmarshal number"},
		{DecodePickerType, `{stepTime: soon}`, `parameters: stepTime: "soon" is not a duration`},
		{DecodePickerType, `{stepTime: -1s}`, `parameters: stepTime: "-1s" is not a duration`},
		{DecodePickerType, `{stepTime: 1ns}`, "parameters: stepTime: 1ns is less than a microsecond"},
		{DecodePickerType, `{maxAge: 0s}`, `parameters: maxAge: "0s" is not a duration`},
		{DecodePickerType, `{bytesPerToken: -4}`, "parameters: bytesPerToken: -4 is not from"},
		{DecodePickerType, `{routers: 2, router: 2}`, "parameters: router: 2 is not from 0 to 1"},
		{DecodePickerType, `{routers: 2, routerEnv: POD_NAME}`, `parameters: routerEnv: POD_NAME is "picker-b", which does not end in a number`},
		{DecodePickerType, `[1]`, "parameters: json: cannot unmarshal array"},
		{PrefillPickerType, `{kvCapacity: 5}`, `parameters: json: unknown field "kvCapacity"`},
		{PrefillPickerType, `{cost: {pair: -1}}`, "parameters: cost: "},
		{PrefillPickerType, `{routers: -1}`, "parameters: router: "},
		{PairHandlerType, `{prefillHeader: ""}`, "parameters: prefillHeader is empty"},
		{LabelFilterType, `{value: x}`, "parameters: label is missing"},
	} {
		yaml := "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: " + c.kind + "\n  parameters: " + c.parameters + "\n"
		_, _, err := load(t, yaml, &pool{})
		if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.kind) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s %s: error %v, want one line with %q", c.kind, c.parameters, err, c.want)
		}
	}
}

// TestRouterEnv: pickers that share a configuration take their numbers from their
// pods' names.
func TestRouterEnv(t *testing.T) {
	t.Setenv("POD_NAME", "picker-2")
	p, err := newDecodePicker("x", []byte(`{"routers": 3, "routerEnv": "POD_NAME"}`), handle(nil))
	if err != nil {
		t.Fatal(err)
	}
	if n := p.(*DecodePicker).parameters.Router; n != 2 {
		t.Errorf("router %d, not 2", n)
	}
}

// odd keeps every second endpoint.
type odd struct{ plugin.Plugin }

func (odd) TypedName() plugin.TypedName { return plugin.TypedName{Type: "odd", Name: "odd"} }

func (odd) Filter(_ context.Context, _ *fwk.CycleState, _ *fwk.LLMRequest, all []fwk.Endpoint) []fwk.Endpoint {
	var kept []fwk.Endpoint
	for i := 1; i < len(all); i += 2 {
		kept = append(kept, all[i])
	}
	return kept
}

// TestFiltered: what a filter has taken out, before the picker or after it in the
// configuration, is never picked.
func TestFiltered(t *testing.T) {
	all := endpoints(8, noMetrics)
	h := handle(func() []types.NamespacedName { return nil })
	for _, last := range []bool{false, true} {
		p, err := newDecodePicker("decode", nil, h)
		if err != nil {
			t.Fatal(err)
		}
		plugins := []plugin.Plugin{odd{}, p}
		if last {
			plugins = []plugin.Plugin{p, odd{}}
		}
		s := scheduler(t, plugins...)
		count := map[string]int{}
		for i := range 80 {
			r, err := s.Schedule(quiet(), &fwk.LLMRequest{RequestId: fmt.Sprint(i)}, all)
			if err != nil {
				t.Fatal(err)
			}
			count[r.ProfileResults["decode"].TargetEndpoints[0].GetMetadata().NamespacedName.Name]++
		}
		for g := range 8 {
			if n, want := count[rankName(g).Name], 20*(g%2); n != want {
				t.Errorf("rank %d has %d requests, not %d", g, n, want)
			}
		}
	}
}

// TestPickerAlone: a picker that is not among the filters knows no request, and
// refuses rather than to lose count.
func TestPickerAlone(t *testing.T) {
	p, err := newDecodePicker("decode", nil, handle(nil))
	if err != nil {
		t.Fatal(err)
	}
	profile := scheduling.NewSchedulerProfile().WithPicker(p.(fwk.Picker))
	r, err := profile.Run(quiet(), &fwk.LLMRequest{}, fwk.NewCycleState(), endpoints(2, noMetrics))
	if r != nil || err != nil {
		t.Errorf("result %v, error %v, want neither", r, err)
	}
}

// TestConcurrentPicks: many requests at once through one scheduler; the ledger ends
// with nothing.
func TestConcurrentPicks(t *testing.T) {
	h := handle(func() []types.NamespacedName { return nil })
	decoder, err := newDecodePicker("decode", []byte(`{"stepTime": "1ms"}`), h)
	if err != nil {
		t.Fatal(err)
	}
	prefiller, err := newPrefillPicker("prefill", nil, h)
	if err != nil {
		t.Fatal(err)
	}
	all := endpoints(24, noMetrics)
	for _, p := range []plugin.Plugin{decoder, prefiller} {
		s := scheduler(t, p)
		var wg sync.WaitGroup
		for w := range 16 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 1))
				for range 100 {
					some := make([]fwk.Endpoint, 0, len(all))
					for _, g := range rng.Perm(len(all))[:12] {
						some = append(some, all[g])
					}
					r := prompt(1 + rng.IntN(25_000))
					result, err := s.Schedule(quiet(), r, some)
					if err != nil {
						t.Error(err)
						return
					}
					p.(requestcontrol.PreRequest).PreRequest(quiet(), r, result)
					p.(requestcontrol.ResponseBody).ResponseBody(quiet(), r, &requestcontrol.Response{}, nil)
					p.(requestcontrol.ResponseBody).ResponseBody(quiet(), r, &requestcontrol.Response{EndOfStream: true}, nil)
				}
			})
		}
		wg.Wait()
	}
	if requests, tokens := (&picker{DecodePicker: decoder.(*DecodePicker)}).left(); requests != 0 || tokens != 0 {
		t.Errorf("the decode ledger ends with %d requests and %d tokens", requests, tokens)
	}
	held, ranks := prefiller.(*PrefillPicker).ledger.Stats()
	for g, k := range ranks {
		if held != 0 || k.Requests != 0 || k.Work != (prefill.Work{}) {
			t.Errorf("the prefill ledger ends with %d requests, rank %d with %v", held, g, k.Work)
		}
	}
}

// TestPrefillAsSession: a prefill picker under the scheduler decides as a session of
// the library does, with what is cached where and without.
func TestPrefillAsSession(t *testing.T) {
	const ranks, block = 32, 16
	c := &clock{time.Unix(1e9, 0)}
	b, err := prefill.New(prefill.Config{Ranks: ranks})
	if err != nil {
		t.Fatal(err)
	}
	p, err := newPrefillPickerAt("prefill", nil, handle(func() []types.NamespacedName { return nil }), c.now)
	if err != nil {
		t.Fatal(err)
	}
	s := scheduler(t, p)
	all := endpoints(ranks, noMetrics)
	rng := rand.New(rand.NewPCG(3, 3))
	var running []*fwk.LLMRequest
	cached := make([]int64, ranks)
	for i, q := range workload.Chat(10_000, 2) {
		r := prefill.Request{ID: prefill.ID(i), Tokens: int64(max(q.Input, 1))}
		for g := range all {
			blocks := 0
			if i%2 == 0 && rng.IntN(4) == 0 {
				blocks = rng.IntN(q.Input/block + 1)
			}
			cached[g] = min(int64(blocks*block), r.Tokens-1)
			all[g].Put(prefix.PrefixCacheMatchInfoKey, prefix.NewPrefixCacheMatchInfo(blocks, q.Input/block, block))
			if cached[g] > 0 {
				r.CachedAt = cached
			}
		}
		want, err := b.Add(r)
		if err != nil {
			t.Fatal(err)
		}
		request := prompt(int(r.Tokens))
		result, err := s.Schedule(quiet(), request, all)
		if err != nil {
			t.Fatal(err)
		}
		p.PreRequest(quiet(), request, result)
		if got := result.ProfileResults["decode"].TargetEndpoints[0].GetMetadata().NamespacedName; got != rankName(want) {
			t.Fatalf("request %d went to %s, the session's to rank %d", i, got.Name, want)
		}
		running = append(running, request)
		if len(running) == 200 {
			p.ResponseBody(quiet(), running[0], &requestcontrol.Response{}, nil)
			running = running[1:]
			if err := b.Done(prefill.ID(i - 199)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, r := range running {
		p.ResponseBody(quiet(), r, &requestcontrol.Response{EndOfStream: true}, nil)
	}
	if held, _ := p.ledger.Stats(); held != 0 {
		t.Errorf("%d requests are held at the end", held)
	}
}

// TestLoad: what metrics say of an endpoint is taken in tokens; without a capacity
// it says nothing.
func TestLoad(t *testing.T) {
	at := time.Unix(5, 0)
	p := &DecodePicker{}
	m := &datalayer.Metrics{RunningRequestsSize: 3, WaitingQueueSize: 2, KVCacheUsagePercent: 0.5, UpdateTime: at}
	if l := p.load(m); l.Requests != 5 || l.KV != -1 || l.At != at {
		t.Errorf("without a capacity: %v", l)
	}
	p.parameters.KVCapacity = 1000
	if l := p.load(m); l.Requests != 5 || l.KV != 500 || l.At != at {
		t.Errorf("by the parameter: %v", l)
	}
	m.CacheBlockSize, m.CacheNumBlocks = 16, 200
	if l := p.load(m); l.KV != 1600 {
		t.Errorf("by the blocks: %v", l)
	}
	for _, bad := range []datalayer.Metrics{
		{RunningRequestsSize: -1, UpdateTime: at}, {RunningRequestsSize: 1 << 31, UpdateTime: at}, {KVCacheUsagePercent: -1, UpdateTime: at},
		{KVCacheUsagePercent: math.NaN(), UpdateTime: at}, {KVCacheUsagePercent: 1 << 30, UpdateTime: at}, {RunningRequestsSize: 5},
	} {
		if l := p.load(&bad); !l.At.IsZero() {
			t.Errorf("%+v is believed: %v", bad, l)
		}
	}
	for _, odd := range []datalayer.Metrics{
		{KvCacheMaxTokenCapacity: -1, KVCacheUsagePercent: 1, UpdateTime: at}, {KvCacheMaxTokenCapacity: 1 << 62, KVCacheUsagePercent: 1, UpdateTime: at},
		{CacheBlockSize: 1 << 40, CacheNumBlocks: 1 << 40, KVCacheUsagePercent: 1, UpdateTime: at},
	} {
		if l := p.load(&odd); l.KV != 1000 {
			t.Errorf("of a capacity that makes no sense: %v, not of the parameter's", l)
		}
	}
}
