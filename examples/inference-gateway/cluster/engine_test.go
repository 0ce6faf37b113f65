package cluster

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	stepTime    = 48 * time.Millisecond
	capacity    = 550_000 // tokens
	perByte     = 16      // tokens of a prompt's byte, so that prompts are small
	enginesPort = "8000"
)

// engine is a pod on an address of loopback that answers as vLLM does: a token a step
// for all that it runs.
type engine struct {
	name, address string
	unit          string
	server        *http.Server

	mu   sync.Mutex
	runs map[*completion]bool
	gone time.Time // when it was closed; zero = it is up
	took int       // requests
}

type completion struct {
	tokens int
	begun  time.Time
}

// newEngine starts an engine on the i-th address.
func newEngine(name, unit string, i int) (*engine, error) {
	e := &engine{name: name, unit: unit, address: fmt.Sprintf("127.1.%d.%d", i/250, 1+i%250), runs: map[*completion]bool{}}
	l, err := net.Listen("tcp", net.JoinHostPort(e.address, enginesPort))
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", e.metrics)
	mux.HandleFunc("POST /v1/completions", e.complete)
	e.server = &http.Server{Handler: mux}
	go func() { _ = e.server.Serve(l) }()
	return e, nil
}

// close ends the engine as a process does: what it runs is cut off.
func (e *engine) close() {
	e.mu.Lock()
	e.gone = time.Now()
	e.mu.Unlock()
	_ = e.server.Close()
}

// goneBefore is for how long it had been closed at a moment.
func (e *engine) goneBefore(at time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.gone.IsZero() {
		return 0
	}
	return at.Sub(e.gone)
}

// load is how many requests it runs, of how many tokens.
func (e *engine) load() (requests, tokens int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.runs {
		tokens += c.tokens + int(time.Since(c.begun)/stepTime)
	}
	return len(e.runs), tokens
}

func (e *engine) metrics(w http.ResponseWriter, _ *http.Request) {
	requests, tokens := e.load()
	for _, m := range []struct {
		name, labels string
		value        float64
	}{
		{"num_requests_running", `model_name="m"`, float64(requests)},
		{"num_requests_waiting", `model_name="m"`, 0},
		{"kv_cache_usage_perc", `model_name="m"`, float64(tokens) / capacity},
		{"lora_requests_info", `max_lora="0",running_lora_adapters="",waiting_lora_adapters=""`, 1},
		{"cache_config_info", fmt.Sprintf(`block_size="50",num_gpu_blocks="%d"`, capacity/50), 1},
	} {
		fmt.Fprintf(w, "# TYPE vllm:%s gauge\nvllm:%s{%s} %v\n", m.name, m.name, m.labels, m.value)
	}
}

// complete answers with a first piece, and after as many steps as it has tokens with
// how many they were.
func (e *engine) complete(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Prompt    string `json:"prompt"`
		MaxTokens int    `json:"max_tokens"`
	}
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c := &completion{perByte * len(body.Prompt), time.Now()}
	e.mu.Lock()
	e.runs[c] = true
	e.took++
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.runs, c)
		e.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprintf(w, "data: {\"choices\": [{\"text\": \"a\"}]}\n\n")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-time.After(time.Duration(body.MaxTokens) * stepTime):
	case <-r.Context().Done():
		return
	}
	fmt.Fprintf(w, "data: {\"object\": \"text_completion\", \"usage\": {\"prompt_tokens\": %d, \"completion_tokens\": %d, \"total_tokens\": %d}}\n\ndata: [DONE]\n\n",
		c.tokens, body.MaxTokens, c.tokens+body.MaxTokens)
}
