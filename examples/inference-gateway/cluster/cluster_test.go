// Package cluster tests the endpoint picker's binary in a cluster that has an API server
// of its own: etcd and kube-apiserver on loopback, pods that are endpoints there and
// answer as vLLM does, and clients that speak to the picker as a gateway does.
package cluster

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// site is a pool of pods and those who ask it for answers.
type site struct {
	*server
	clients int
	program string                  // the picker's
	gateway atomic.Pointer[gateway] // to the picker in charge
	pods    int                     // so far

	mu      sync.Mutex
	engines map[string]*engine // by address, those that are gone too
	up      []*engine          // in order of age

	asked, answered atomic.Int64
	refused         atomic.Int64 // answered so by the picker
	orphaned        atomic.Int64 // asked again since a picker had gone
	cut             atomic.Int64 // asked again since an endpoint had gone
}

const (
	pickerConfig = `apiVersion: inference.networking.x-k8s.io/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: moelb-decode-picker
  parameters:
    kvCapacity: 550000
    stepTime: 48ms
    bytesPerToken: 0.0625
    unitLabel: moelb/unit
    snapshot: {configMap: serving/moelb, interval: 1s}
schedulingProfiles:
- name: decode
  plugins:
  - pluginRef: moelb-decode-picker
`
	pods  = "/api/v1/namespaces/serving/pods"
	merge = "application/merge-patch+json"
)

type object map[string]any

func newSite(t *testing.T, clients int) *site {
	t.Helper()
	s := &site{server: newServer(t), clients: clients, engines: map[string]*engine{}}
	s.program = s.build("..", ".", "picker")
	s.resources()
	s.write("picker.yaml", []byte(pickerConfig))
	s.must("POST", "/api/v1/namespaces", "", object{"metadata": object{"name": "serving"}})
	s.must("POST", "/apis/inference.networking.k8s.io/v1/namespaces/serving/inferencepools", "", object{
		"apiVersion": "inference.networking.k8s.io/v1", "kind": "InferencePool", "metadata": object{"name": "pool"},
		"spec": object{
			"selector": object{"matchLabels": object{"app": "vllm"}}, "targetPorts": []object{{"number": 8000}},
			"endpointPickerRef": object{"name": "picker", "port": object{"number": 9002}},
		},
	})
	t.Cleanup(func() {
		for _, e := range s.up {
			e.close()
		}
	})
	return s
}

// picker is an endpoint picker's process.
type picker struct {
	*exec.Cmd
	name, port string
	health     *grpc.ClientConn
}

// picker starts one of several, of whom one is in charge.
func (s *site) picker(name string) *picker {
	s.t.Helper()
	port, check := freePort(s.t), freePort(s.t)
	cmd := s.run([]string{"KUBECONFIG=" + s.path("kubeconfig")}, name, s.program, "--pool-name=pool", "--pool-namespace=serving",
		"--config-file="+s.path("picker.yaml"), "--grpc-port="+port, "--grpc-health-port="+check, "--metrics-port="+freePort(s.t), "--secure-serving=false",
		"--metrics-endpoint-auth=false", "--tracing=false", "--enable-pprof=false", "--ha-enable-leader-election",
		"--refresh-metrics-interval=2s", "--metrics-staleness-threshold=10s", "--v=1")
	conn, err := grpc.NewClient("127.0.0.1:"+check, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		s.t.Fatal(err)
	}
	return &picker{cmd, name, port, conn}
}

// follow has clients ask whichever picker is in charge, and returns it.
func (s *site) follow(pickers ...*picker) (leader *picker) {
	s.t.Helper()
	s.until("a picker is in charge", 2*time.Minute, func() bool {
		for _, p := range pickers {
			if healthy(s.t.Context(), p.health) {
				leader = p
				return true
			}
		}
		return false
	})
	g, err := dial(leader.port)
	if err != nil {
		s.t.Fatal(err)
	}
	s.gateway.Store(g)
	return leader
}

// grow adds pods to the pool, each on an address of its own, of three units in turn.
func (s *site) grow(n int) {
	s.t.Helper()
	for range n {
		name, unit := fmt.Sprintf("vllm-%04d", s.pods), fmt.Sprintf("unit-%d", s.pods%3)
		e, err := newEngine(name, unit, s.pods)
		if err != nil {
			s.t.Fatal(err)
		}
		s.pods++
		s.mu.Lock()
		s.engines[net.JoinHostPort(e.address, enginesPort)] = e
		s.up = append(s.up, e)
		s.mu.Unlock()
		s.must("POST", pods, "", object{
			"metadata": object{"name": name, "labels": object{"app": "vllm", "moelb/unit": unit}},
			"spec":     object{"nodeName": "node", "containers": []object{{"name": "vllm", "image": "vllm"}}},
		})
		s.must("PATCH", pods+"/"+name+"/status", merge, object{"status": object{
			"phase": "Running", "podIP": e.address, "podIPs": []object{{"ip": e.address}}, "conditions": []object{{"type": "Ready", "status": "True"}},
		}})
	}
}

// shrink takes the oldest pods away, at once, with what they run.
func (s *site) shrink(n int) {
	s.t.Helper()
	s.mu.Lock()
	old := s.up[:n]
	s.up = s.up[n:]
	s.mu.Unlock()
	for _, e := range old {
		s.must("DELETE", pods+"/"+e.name+"?gracePeriodSeconds=0", "", nil)
		e.close()
	}
}

// drain has the oldest pods get nothing more, and returns when they run nothing.
func (s *site) drain(n int) {
	s.t.Helper()
	for _, e := range s.up[:n] {
		s.must("PATCH", pods+"/"+e.name, merge, object{"metadata": object{"labels": object{"moelb/drain": "true"}}})
	}
	s.until("the pods that drain are empty", 2*time.Minute, func() bool {
		for _, e := range s.up[:n] {
			if requests, _ := e.load(); requests > 0 {
				return false
			}
		}
		return true
	})
}

// serve has clients ask, each the next as soon as it is answered, until so many are
// asked; the function it returns waits for the last answer.
func (s *site) serve(total int) func() {
	var all sync.WaitGroup
	for i := range s.clients {
		all.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			time.Sleep(time.Duration(rng.IntN(5000)) * time.Millisecond)
			for s.asked.Add(1) <= int64(total) && !s.t.Failed() {
				s.one(16+int(min(300*rng.ExpFloat64(), 4000)), 20+rng.IntN(160))
			}
		})
	}
	return all.Wait
}

// one asks until there is an answer.
func (s *site) one(bytes, tokens int) {
	for !s.t.Failed() {
		from := time.Now()
		address, err := s.gateway.Load().ask(s.t.Context(), bytes, tokens)
		if address != "" {
			s.mu.Lock()
			e := s.engines[address]
			s.mu.Unlock()
			if e == nil {
				s.t.Errorf("sent to %s, where no pod ever was", address)
				return
			}
			if gone := e.goneBefore(from); gone > 10*time.Second {
				s.t.Errorf("sent to %s, which had been gone for %v", e.name, gone)
			}
		}
		switch {
		case err == nil:
			s.answered.Add(1)
			return
		case errors.Is(err, errPicker):
			s.orphaned.Add(1)
			time.Sleep(500 * time.Millisecond)
		case errors.Is(err, errRefused):
			s.refused.Add(1)
			s.t.Log(err)
			time.Sleep(100 * time.Millisecond)
		default:
			s.cut.Add(1)
		}
	}
}

// watch returns max/mean over the pods, of tokens and of requests, and what share of what
// clients wait for runs, mean over the time until so many are answered.
func (s *site) watch(answered int) (kv, count, runs float64) {
	s.t.Helper()
	n := 0.0
	for end := time.Now().Add(10 * time.Minute); s.answered.Load() < int64(answered); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) || s.t.Failed() {
			s.t.Fatalf("%d are answered, not %d", s.answered.Load(), answered)
		}
		mostKV, sumKV, most, sum := 0, 0, 0, 0
		for _, e := range s.up {
			requests, tokens := e.load()
			mostKV, sumKV, most, sum = max(mostKV, tokens), sumKV+tokens, max(most, requests), sum+requests
		}
		if sum > 0 {
			kv += float64(mostKV) * float64(len(s.up)) / float64(sumKV)
			count += float64(most) * float64(len(s.up)) / float64(sum)
			runs += float64(sum) / float64(s.clients)
			n++
		}
	}
	return kv / n, count / n, runs / n
}

// TestCluster serves 10^5 requests on pods that come and go, while pickers change.
func TestCluster(t *testing.T) {
	total, few, many := 100_000, 192, 256
	if testing.Short() {
		total, few, many = 6_000, 24, 32
	}
	s := newSite(t, 12*few)
	s.grow(few)
	all := []*picker{s.picker("picker-a"), s.picker("picker-b")}
	leader := s.follow(all...)
	from := time.Now()
	wait := s.serve(total)
	at := func(share float64) int { return int(share * float64(total)) }
	slow := false // the machine, so that pods run too little to be even
	tell := func(what string, to float64) (kv float64) {
		t.Helper()
		kv, count, runs := s.watch(at(to))
		slow = slow || runs < 0.7
		t.Logf("%-30s KV %.3f, requests %.3f; %d answered, %d asked again after an endpoint, %d after a picker, %d refused",
			what+":", kv, count, s.answered.Load(), s.cut.Load(), s.orphaned.Load(), s.refused.Load())
		return kv
	}
	s.watch(at(0.1))
	before := tell("as it began", 0.2)

	s.grow(many - few)
	s.watch(at(0.3))
	grown := tell("with more pods", 0.4)

	for from := 0; from < many; from += many / 16 {
		s.shrink(many / 16)
		s.grow(many / 16)
	}
	s.watch(at(0.55))
	rolled := tell("when all were replaced", 0.65)

	_ = leader.Process.Kill()
	for i, p := range all {
		if p == leader {
			all[i] = s.picker("picker-c")
		}
	}
	s.follow(all...)
	s.watch(at(0.7))
	changed := tell("with another picker", 0.8)

	cut := s.cut.Load()
	s.drain(many - few)
	if n := s.cut.Load() - cut; n > 0 {
		t.Errorf("%d were cut off on pods that drain", n)
	}
	s.shrink(many - few)
	s.watch(at(0.9))
	shrunk := tell("with fewer pods", 0.97)
	wait()
	t.Logf("%d requests in %.0f s", s.answered.Load(), time.Since(from).Seconds())

	for _, x := range [][2]float64{{grown, rolled}, {grown, changed}, {before, shrunk}} { // of as many pods
		if slow {
			t.Log("this machine is too slow to tell whether pods are even")
			break
		}
		if x[1] > x[0]+0.1 {
			t.Errorf("KV max/mean %.3f; it was %.3f", x[1], x[0])
		}
	}
	var snapshot object
	if err := s.call("GET", "/api/v1/namespaces/serving/configmaps/moelb", "", nil, &snapshot); err != nil || snapshot["binaryData"] == nil {
		t.Errorf("no snapshot was written: %v", err)
	}
	if n := s.answered.Load(); n != int64(total) {
		t.Errorf("%d of %d requests were answered", n, total)
	}
	if s.refused.Load() > 0 {
		t.Errorf("%d requests were refused", s.refused.Load())
	}
	s.idle()
}

// idle demands that no pod runs anything, and that none was sent what it did not get.
func (s *site) idle() {
	s.t.Helper()
	took := 0
	for _, e := range s.engines {
		if n, _ := e.load(); n > 0 {
			s.t.Errorf("%s still runs %d requests", e.name, n)
		}
		took += e.took
	}
	if most := int(s.answered.Load() + s.cut.Load() + s.orphaned.Load()); took > most {
		s.t.Errorf("pods took %d requests, of %d that were sent", took, most)
	}
}
