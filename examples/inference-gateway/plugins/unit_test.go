package plugins

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	fwk "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/profile"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/scheduling"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
)

// quiet is a context whose logger says nothing.
func quiet() context.Context { return log.IntoContext(context.Background(), logr.Discard()) }

// traced is one of a request's own stream.
func traced() context.Context { return trace.ContextWithSpan(quiet(), noop.Span{}) }

// finished is the end of an answer of so many tokens.
func finished(tokens int) *requestcontrol.Response {
	return &requestcontrol.Response{EndOfStream: true, Usage: requestcontrol.Usage{CompletionTokens: tokens}}
}

// clock is a time that tests set.
type clock struct{ at time.Time }

func newClock() *clock                { return &clock{time.Unix(1e9, 0)} }
func (c *clock) now() time.Time       { return c.at }
func (c *clock) pass(d time.Duration) { c.at = c.at.Add(d) }

// handle is that of an endpoint picker in which these endpoints exist.
func handle(present func() []types.NamespacedName) plugin.Handle {
	return plugin.NewEppHandle(quiet(), present)
}

func rankName(g int) types.NamespacedName {
	return types.NamespacedName{Namespace: "serving", Name: fmt.Sprintf("decode-rank-%03d", g)}
}

// endpoints makes n ranks that have these metrics.
func endpoints(n int, metrics func(g int) *datalayer.Metrics) []fwk.Endpoint {
	all := make([]fwk.Endpoint, n)
	for g := range all {
		name := rankName(g)
		all[g] = fwk.NewEndpoint(&datalayer.EndpointMetadata{
			NamespacedName: name, PodName: name.Name, Address: "10.0.0.1", Port: strconv.Itoa(8000 + g),
		}, metrics(g), nil)
	}
	return all
}

var text = strings.Repeat("x", 1<<23)

// prompt makes a request of so many tokens, at four bytes each.
func prompt(tokens int) *fwk.LLMRequest {
	return &fwk.LLMRequest{Body: &fwk.LLMRequestBody{Completions: &fwk.CompletionsRequest{Prompt: fwk.Prompt{Raw: text[:4*tokens]}}}}
}

func noMetrics(int) *datalayer.Metrics { return datalayer.NewMetrics() }

// scheduler is the endpoint picker's own, with one profile of a picker and filters.
func scheduler(tb testing.TB, plugins ...plugin.Plugin) *scheduling.Scheduler {
	tb.Helper()
	p := scheduling.NewSchedulerProfile()
	if err := p.AddPlugins(plugins...); err != nil {
		tb.Fatal(err)
	}
	return scheduling.NewSchedulerWithConfig(scheduling.NewSchedulerConfig(
		profile.NewSingleProfileHandler(), map[string]fwk.SchedulerProfile{"decode": p}))
}

// router places requests on the ranks of a unit.
type router interface {
	place(r *running, all []fwk.Endpoint) (rank int)
	done(*running)
	step()
}

// running is one request of the simulation.
type running struct {
	router  router
	rank    int
	kv      int // when it ends
	prompt  int
	request *fwk.LLMRequest
	id      decode.ID
}

// session is the library's own, without an endpoint picker around it.
type session struct {
	*decode.Balancer
	ids decode.ID
}

func (s *session) place(r *running, _ []fwk.Endpoint) int {
	s.ids++
	r.id = s.ids
	g, err := s.Add(decode.Request{ID: r.id, KV: int64(r.prompt)})
	if err != nil {
		panic(err)
	}
	return g
}

func (s *session) done(r *running) {
	if err := s.Done(r.id); err != nil {
		panic(err)
	}
}

func (s *session) step() { s.Step() }

// picker is a decode picker under the endpoint picker's scheduler.
type picker struct {
	*DecodePicker
	s  *scheduling.Scheduler
	of map[string]int
}

const stepTime = 48 * time.Millisecond

func newPicker(tb testing.TB, c *clock, ranks int, parameters string) *picker {
	tb.Helper()
	p, err := newDecodePickerAt("decode", []byte(parameters), handle(func() []types.NamespacedName { return nil }), c.now)
	if err != nil {
		tb.Fatal(err)
	}
	of := map[string]int{}
	for g := range ranks {
		of[rankName(g).Name] = g
	}
	return &picker{p, scheduler(tb, p), of}
}

func (p *picker) place(r *running, all []fwk.Endpoint) int {
	r.request = prompt(r.prompt)
	result, err := p.s.Schedule(quiet(), r.request, all)
	if err != nil {
		panic(err)
	}
	p.PreRequest(quiet(), r.request, result)
	return p.of[result.ProfileResults[result.PrimaryProfileName].TargetEndpoints[0].GetMetadata().NamespacedName.Name]
}

func (p *picker) done(r *running) {
	p.ResponseBody(traced(), r.request, finished(r.kv-r.prompt), nil)
}

func (*picker) step() {} // its clock does

// outcome is how a unit fared: max/mean over its ranks, mean over the steps once
// a quarter of the requests have come, and half as many again as fill the unit.
type outcome struct {
	kv, requests float64
	ranks        []int // of each request, in order
}

const (
	ranks    = 144
	batch    = 88
	capacity = 550_000
	fill     = 96 // steps until the unit is full
)

// run has routers serve a closed loop of so many requests, each arriving at one of
// them at random. With stale ≥ 0 the endpoints' metrics are those of so many steps
// ago.
func run(c *clock, total, stale int, routers ...router) outcome {
	load := workload.ScaleInputs(workload.Chat(20_000, 1), 4989)
	rng := rand.New(rand.NewPCG(7, 7))
	var out outcome
	kv, count := make([]int, ranks), make([]int, ranks)
	ends := map[int][]*running{}
	all := endpoints(ranks, noMetrics)
	var past [][2][]int
	counted, due := 0, 0
	for step := 0; len(out.ranks) < total; step++ {
		if stale >= 0 {
			past = append(past, [2][]int{append([]int(nil), count...), append([]int(nil), kv...)})
			seen := past[max(0, len(past)-1-stale)]
			at := c.at.Add(-time.Duration(min(stale, len(past)-1)) * stepTime)
			all = endpoints(ranks, func(g int) *datalayer.Metrics {
				return &datalayer.Metrics{
					RunningRequestsSize: seen[0][g], KVCacheUsagePercent: float64(seen[1][g]) / capacity,
					CacheBlockSize: 50, CacheNumBlocks: capacity / 50, UpdateTime: at,
				}
			})
		}
		if step < fill {
			due += ranks * batch / fill
		}
		for range due {
			q := load[rng.IntN(len(load))]
			output := max(q.Output, 1)
			if step < fill {
				output = 1 + rng.IntN(output) // somewhere in its life
			}
			r := &running{router: routers[rng.IntN(len(routers))], prompt: max(q.Input, 1), kv: max(q.Input, 1) + output}
			r.rank = r.router.place(r, all)
			out.ranks = append(out.ranks, r.rank)
			kv[r.rank] += r.prompt
			count[r.rank]++
			ends[step+output] = append(ends[step+output], r)
		}
		for g := range kv {
			kv[g] += count[g]
		}
		for _, r := range routers {
			r.step()
		}
		c.pass(stepTime)
		ended := ends[step+1]
		delete(ends, step+1)
		due = len(ended)
		for _, r := range ended {
			r.router.done(r)
			kv[r.rank] -= r.kv
			count[r.rank]--
		}
		if len(out.ranks) > max(total/4, ranks*batch*3/2) {
			out.kv += imbalance(kv)
			out.requests += imbalance(count)
			counted++
		}
	}
	out.kv /= float64(counted)
	out.requests /= float64(counted)
	for _, ended := range ends {
		for _, r := range ended {
			r.router.done(r)
		}
	}
	return out
}

func imbalance(loads []int) float64 {
	most, sum := 0, 0
	for _, n := range loads {
		most = max(most, n)
		sum += n
	}
	return float64(most) * float64(len(loads)) / float64(sum)
}
