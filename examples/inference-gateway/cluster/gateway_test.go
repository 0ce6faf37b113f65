package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	extproc "github.com/envoyproxy/go-control-plane/envoy/service/ext_proc/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

// gateway is a client of one endpoint picker that does as a gateway does: it asks where
// a request goes, sends it there, and shows the picker what comes back.
type gateway struct {
	port string
	conn *grpc.ClientConn
	http *http.Client
}

func dial(port string) (*gateway, error) {
	conn, err := grpc.NewClient("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return &gateway{port, conn, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}, err
}

// healthy reports whether what listens on a port is a picker that is in charge.
func healthy(ctx context.Context, conn *grpc.ClientConn) bool {
	r, err := health.NewHealthClient(conn).Check(ctx, &health.HealthCheckRequest{Service: extproc.ExternalProcessor_ServiceDesc.ServiceName})
	return err == nil && r.Status == health.HealthCheckResponse_SERVING
}

// What may become of a request besides an answer.
var (
	errPicker  = errors.New("the picker has gone")
	errRefused = errors.New("refused")
	errEngine  = errors.New("the endpoint failed")
)

// ask sends a request of so many bytes that wants so many tokens. It returns to which
// address it went; "" = none.
func (g *gateway) ask(ctx context.Context, bytes, tokens int) (address string, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // a stream that breaks off
	stream, err := extproc.NewExternalProcessorClient(g.conn).Process(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errPicker, err)
	}
	body := fmt.Sprintf(`{"model": "m", "stream": true, "max_tokens": %d, "prompt": "%s"}`, tokens, strings.Repeat("x", bytes))
	_ = stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestHeaders{
		RequestHeaders: &extproc.HttpHeaders{Headers: headers(":path", "/v1/completions", ":method", "POST", "content-type", "application/json")},
	}})
	_ = stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_RequestBody{
		RequestBody: &extproc.HttpBody{Body: []byte(body), EndOfStream: true},
	}})
	for address == "" {
		m, err := stream.Recv()
		switch {
		case err != nil:
			return "", fmt.Errorf("%w: %w", errPicker, err)
		case m.GetImmediateResponse() != nil:
			return "", fmt.Errorf("%w: %v", errRefused, m.GetImmediateResponse())
		}
		for _, h := range m.GetRequestHeaders().GetResponse().GetHeaderMutation().GetSetHeaders() {
			if h.Header.Key == "x-gateway-destination-endpoint" {
				address = string(h.Header.RawValue)
			}
		}
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	if err := g.forward(ctx, stream, address, body); err != nil {
		return address, err
	}
	_ = stream.CloseSend()
	<-over
	return address, nil
}

// forward sends a request to an endpoint and shows a picker its answer.
func (g *gateway) forward(ctx context.Context, stream extproc.ExternalProcessor_ProcessClient, address, body string) error {
	r, err := http.NewRequestWithContext(ctx, "POST", "http://"+address+"/v1/completions", strings.NewReader(body))
	if err != nil {
		return err
	}
	w, err := g.http.Do(r)
	if err != nil {
		return fmt.Errorf("%w: %w", errEngine, err)
	}
	defer w.Body.Close()
	_ = stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseHeaders{
		ResponseHeaders: &extproc.HttpHeaders{Headers: headers(":status", fmt.Sprint(w.StatusCode), "content-type", w.Header.Get("Content-Type"))},
	}})
	for piece := make([]byte, 4096); ; {
		n, err := w.Body.Read(piece)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("%w: %w", errEngine, err)
		}
		_ = stream.Send(&extproc.ProcessingRequest{Request: &extproc.ProcessingRequest_ResponseBody{
			ResponseBody: &extproc.HttpBody{Body: append([]byte(nil), piece[:n]...), EndOfStream: err != nil},
		}})
		if err != nil {
			return nil
		}
	}
}

func headers(pairs ...string) *corev3.HeaderMap {
	m := &corev3.HeaderMap{}
	for i := 0; i < len(pairs); i += 2 {
		m.Headers = append(m.Headers, &corev3.HeaderValue{Key: pairs[i], RawValue: []byte(pairs[i+1])})
	}
	return m
}
