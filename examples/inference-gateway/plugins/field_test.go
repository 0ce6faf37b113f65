package plugins

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/handlers"

	"github.com/moelb/moelb/bench/workload"
)

// live is one request's stream that lasts: the endpoint picker serves it beside the
// test, which goes on when the picker waits for what the proxy says next.
type live struct {
	stream
	in   chan *extproc.ProcessingRequest
	idle chan struct{}
	over chan error
	done bool
}

func (l *live) Recv() (*extproc.ProcessingRequest, error) {
	l.idle <- struct{}{}
	m, ok := <-l.in
	if !ok {
		return nil, status.Error(codes.Canceled, "")
	}
	return m, nil
}

// wait returns when the picker waits for more, or is done with the stream.
func (l *live) wait() {
	select {
	case <-l.idle:
	case <-l.over:
		l.done = true
	}
}

// say has the proxy say something, unless the picker has closed the stream.
func (l *live) say(m *extproc.ProcessingRequest) {
	if !l.done {
		l.in <- m
		l.wait()
	}
}

// cut ends the stream as a client or a proxy does that has gone.
func (l *live) cut() {
	if !l.done {
		close(l.in)
		l.wait()
	}
}

// begin has a server serve a stream and waits for it to listen.
func begin(server *handlers.StreamingServer) *live {
	l := &live{in: make(chan *extproc.ProcessingRequest), idle: make(chan struct{}), over: make(chan error, 1)}
	go func() { l.over <- server.Process(l) }()
	l.wait()
	return l
}

var _ grpc.ServerStream = (*live)(nil)

// said are what a proxy says of a request and its response.
func requestHeaders(path string) *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extproc.HttpHeaders{Headers: headers(":path", path)},
	}}
}

func requestBody(body string) *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
		RequestBody: &extproc.HttpBody{Body: []byte(body), EndOfStream: true},
	}}
}

func responseHeaders(pairs ...string) *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extproc.HttpHeaders{Headers: headers(pairs...)},
	}}
}

func responseBody(body string, last bool) *extproc.ProcessingRequest {
	return &extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
		ResponseBody: &extproc.HttpBody{Body: []byte(body), EndOfStream: last},
	}}
}

var (
	streamed = responseHeaders(":status", "200", "content-type", "text/event-stream")
	piece    = responseBody("data: {\"choices\": [{\"text\": \"a\"}]}\n\n", false)
)

// usage is the end of a stream that reports its tokens.
func usage(prompt, output int) *extproc.ProcessingRequest {
	return responseBody(fmt.Sprintf("data: {\"object\": \"text_completion\", \"usage\": {\"prompt_tokens\": %d, \"completion_tokens\": %d, \"total_tokens\": %d}}\n\ndata: [DONE]\n\n", prompt, output, prompt+output), true)
}

// site is a pool of endpoints that run in lockstep steps what an endpoint picker
// sends them, as vLLM does, and its clients: a closed loop.
type site struct {
	t      testing.TB
	clock  *clock
	yaml   string
	pool   *pool
	server *handlers.StreamingServer
	picker *DecodePicker
	rng    *rand.Rand
	load   []workload.Request

	units   [][]int // the ranks of each
	rank    []*engine
	at      map[string]int // endpoints by their ports
	ends    map[int][]*job // by step
	step    int
	sent    int
	refused int
	lost    int // sent to an endpoint that does not exist
	metrics bool
	fill    int // steps until it is full
	batch   int // requests a rank
	retry   []*job
	placed  func(*job)

	together bool // what comes with a step waits, to be placed together
}

// engine is one endpoint.
type engine struct {
	endpoint datalayer.Endpoint
	jobs     map[*job]bool
	kv       int
	up       bool
}

// job is one request that an endpoint runs.
type job struct {
	*live
	rank           int
	prompt, output int // tokens
	begun          int // step
	kv             int // when it was last added up
	answered       bool
	orphan         bool // no picker knows of it any more
	gone           bool
}

// perToken is how few bytes make a token in these tests, so that bodies are small.
const perToken = 0.0625

func siteYAML(parameters string) string {
	return "apiVersion: inference.networking.x-k8s.io/v1alpha1\nkind: EndpointPickerConfig\nplugins:\n- type: " + DecodePickerType +
		"\n  parameters: {stepTime: 48ms, bytesPerToken: 0.0625" + parameters + "}\nschedulingProfiles:\n- name: decode\n  plugins:\n  - pluginRef: " + DecodePickerType + "\n"
}

// newSite makes a site of units of so many ranks each.
func newSite(t testing.TB, seed uint64, parameters string, units ...int) *site {
	t.Helper()
	t.Logf("seed %d", seed)
	s := &site{
		t: t, clock: newClock(), yaml: siteYAML(parameters), pool: &pool{}, rng: rand.New(rand.NewPCG(seed, 1)), metrics: true,
		load: workload.ScaleInputs(workload.Chat(20_000, seed), 4989), at: map[string]int{}, ends: map[int][]*job{}, fill: 64, batch: 40,
	}
	for u, n := range units {
		var unit []int
		for range n {
			unit = append(unit, s.add(fmt.Sprintf("unit-%d", u)))
		}
		s.units = append(s.units, unit)
	}
	s.restart()
	return s
}

// add adds an endpoint to the pool.
func (s *site) add(unit string) int {
	g := len(s.rank)
	port := strconv.Itoa(8000 + g)
	s.pool.add(fmt.Sprintf("%s-rank-%04d", unit, g), unit, 8000+g)
	e := s.pool.endpoints[len(s.pool.endpoints)-1]
	s.rank = append(s.rank, &engine{endpoint: e, jobs: map[*job]bool{}, up: true})
	s.at[port] = g
	return g
}

// remove takes an endpoint out of the pool.
func (s *site) remove(g int) {
	kept := s.pool.endpoints[:0:0]
	for _, e := range s.pool.endpoints {
		if e != s.rank[g].endpoint {
			kept = append(kept, e)
		}
	}
	s.pool.endpoints = kept
	s.rank[g].up = false
}

// restart starts the endpoint picker, anew where there was one: nobody tells the new
// one of what runs.
func (s *site) restart() {
	s.t.Helper()
	for _, e := range s.rank {
		for j := range e.jobs {
			j.orphan = true
		}
	}
	s.server, s.picker = s.start()
}

// start starts an endpoint picker.
func (s *site) start() (*handlers.StreamingServer, *DecodePicker) {
	s.t.Helper()
	var p *DecodePicker
	s.t.Cleanup(func() { // after its context was cancelled
		if p != nil && p.keeper != nil {
			<-p.keeper.ended
		}
	})
	server, h, err := loadAt(s.t, s.yaml, s.pool, s.clock.now)
	if err != nil {
		s.t.Fatal(err)
	}
	p = h.Plugin(DecodePickerType).(*DecodePicker)
	return server, p
}

// send sends a request and returns what became of it; nil = it was refused.
func (s *site) send(prompt, output int) *job {
	j := &job{live: begin(s.server), prompt: prompt, output: output, begun: s.step, kv: prompt}
	j.say(requestHeaders("/v1/completions"))
	j.say(j.body())
	return s.arrive(j)
}

// sendAll sends requests that wait for each other.
func (s *site) sendAll(all [][2]int) {
	var jobs []*job
	for i, x := range all {
		j := &job{live: begin(s.server), prompt: x[0], output: x[1], begun: s.step}
		j.say(requestHeaders("/v1/completions"))
		j.in <- j.body()
		for s.picker.ledger.Waiting() <= i {
			runtime.Gosched()
		}
		jobs = append(jobs, j)
	}
	s.picker.ledger.Flush()
	for _, j := range jobs {
		j.wait()
		s.arrive(j)
	}
}

// body is a request's, whose length it rounds.
func (j *job) body() *extproc.ProcessingRequest {
	n := max(int(float64(j.prompt)*perToken), 1)
	j.prompt, j.kv = int(float64(n)/perToken), int(float64(n)/perToken)
	return requestBody(`{"model": "m", "stream": true, "prompt": "` + strings.Repeat("x", n) + `"}`)
}

// arrive brings a request to the endpoint that was picked.
func (s *site) arrive(j *job) *job {
	s.sent++
	if j.refused() != 0 {
		s.refused++
		j.cut()
		return nil
	}
	_, port, err := net.SplitHostPort(j.header("x-gateway-destination-endpoint"))
	g, ok := s.at[port]
	if err != nil || !ok {
		s.t.Fatalf("sent to %q: %v", j.header("x-gateway-destination-endpoint"), err)
	}
	j.rank = g
	e := s.rank[g]
	if !e.up {
		s.lost++
	}
	e.jobs[j] = true
	e.kv += j.kv
	s.ends[s.step+j.output] = append(s.ends[s.step+j.output], j)
	if s.placed != nil {
		s.placed(j)
	}
	return j
}

// draw returns what a client asks for.
func (s *site) draw() (prompt, output int) {
	q := s.load[s.rng.IntN(len(s.load))]
	output = max(q.Output, 2)
	if s.step < s.fill {
		output = 2 + s.rng.IntN(output) // somewhere in its life
	}
	return max(q.Input, 16), output
}

// due is how many requests come with this step.
func (s *site) due(ended int) int {
	if s.step >= s.fill {
		return ended
	}
	up := 0
	for _, e := range s.rank {
		if e.up {
			up++
		}
	}
	return ended + up*s.batch/s.fill
}

// end ends a request that has finished.
func (s *site) end(j *job) {
	s.drop(j)
	if !j.orphan {
		j.say(usage(j.prompt, j.output))
		j.cut()
	}
}

// drop takes a request off its endpoint.
func (s *site) drop(j *job) {
	e := s.rank[j.rank]
	delete(e.jobs, j)
	e.kv -= j.kv
	j.gone = true
}

// fail has an endpoint's process end: what it runs is cut off, and asked for again.
func (s *site) fail(g int) {
	for _, j := range s.ordered(g) {
		s.drop(j)
		if !j.orphan {
			j.cut()
		}
		s.retry = append(s.retry, j)
	}
}

// ordered returns an endpoint's requests in the order in which they end.
func (s *site) ordered(g int) []*job {
	var all []*job
	for step := s.step; step < s.step+1<<20 && len(all) < len(s.rank[g].jobs); step++ {
		for _, j := range s.ends[step] {
			if j.rank == g && !j.gone {
				all = append(all, j)
			}
		}
	}
	return all
}

// tick makes a step: requests come, run and end, metrics are told.
func (s *site) tick() {
	ended := s.ends[s.step]
	delete(s.ends, s.step)
	n := 0
	for _, j := range ended {
		if !j.gone {
			s.end(j)
			n++
		}
	}
	var come [][2]int
	for range s.due(n) {
		prompt, output := s.draw()
		come = append(come, [2]int{prompt, output})
	}
	for _, j := range s.retry {
		come = append(come, [2]int{j.prompt, max(j.output-(s.step-j.begun), 2)})
	}
	s.retry = nil
	if s.together {
		s.sendAll(come)
	} else {
		for _, x := range come {
			s.send(x[0], x[1])
		}
	}
	for _, e := range s.rank {
		for j := range e.jobs {
			j.kv++
			if !j.answered && !j.orphan {
				j.answered = true
				j.say(streamed)
				j.say(piece)
			}
		}
		e.kv += len(e.jobs)
	}
	s.clock.pass(stepTime)
	s.step++
	if s.metrics {
		for _, e := range s.rank {
			e.endpoint.UpdateMetrics(&datalayer.Metrics{
				RunningRequestsSize: len(e.jobs), KVCacheUsagePercent: float64(e.kv) / capacity,
				CacheBlockSize: 50, CacheNumBlocks: capacity / 50, UpdateTime: s.clock.now(),
			})
		}
	}
}

// kv and count are max/mean over the endpoints of a unit that are up.
func (s *site) kv(unit int) float64 {
	return s.over(unit, func(e *engine) int { return e.kv })
}

func (s *site) count(unit int) float64 {
	return s.over(unit, func(e *engine) int { return len(e.jobs) })
}

func (s *site) over(unit int, of func(*engine) int) float64 {
	var loads []int
	for _, g := range s.units[unit] {
		if s.rank[g].up {
			loads = append(loads, of(s.rank[g]))
		}
	}
	return imbalance(loads)
}

// run makes so many steps and returns the mean of the first unit's imbalance.
func (s *site) run(steps int) (kv, count float64) {
	for range steps {
		s.tick()
		kv += s.kv(0)
		count += s.count(0)
	}
	return kv / float64(steps), count / float64(steps)
}

// finish lets all that runs end and no more come, and demands that the ledger ends
// with nothing.
func (s *site) finish() {
	s.t.Helper()
	for _, e := range s.rank {
		for j := range e.jobs {
			s.end(j)
		}
	}
	s.empty(s.picker)
}

func (s *site) empty(p *DecodePicker) {
	s.t.Helper()
	held, unit := p.ledger.Stats()
	if held != 0 {
		s.t.Errorf("%d requests are held at the end", held)
	}
	for g, k := range unit.Ranks {
		if k.KV != 0 || k.Width != 0 {
			s.t.Errorf("rank %d ends with %d tokens of %d requests", g, k.KV, k.Width)
		}
	}
}

// loadAt is load with a clock.
func loadAt(t testing.TB, yaml string, p *pool, now func() time.Time) (*handlers.StreamingServer, plugin.Handle, error) {
	t.Helper()
	Register()
	plugin.Register(DecodePickerType, func(name string, raw json.RawMessage, h plugin.Handle) (plugin.Plugin, error) {
		return newDecodePickerAt(name, raw, h, now)
	})
	plugin.Register(PrefillPickerType, func(name string, raw json.RawMessage, h plugin.Handle) (plugin.Plugin, error) {
		return newPrefillPickerAt(name, raw, h, now)
	})
	return loadRegistered(t, yaml, p)
}
