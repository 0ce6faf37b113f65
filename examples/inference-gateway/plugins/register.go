// Package plugins makes moelb's balancers plugins of the endpoint picker of the
// Kubernetes Gateway API Inference Extension. Each data-parallel rank of a unit is
// an endpoint.
package plugins

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"

	"github.com/moelb/moelb/examples/inference-gateway/ledger"
)

// The types by which a configuration file names the plugins.
const (
	DecodePickerType  = "moelb-decode-picker"
	PrefillPickerType = "moelb-prefill-picker"
	PairHandlerType   = "moelb-prefill-decode-handler"
	LabelFilterType   = "moelb-label-filter"
)

// Register makes the plugins known to the endpoint picker's configuration.
func Register() {
	plugin.Register(DecodePickerType, newDecodePicker)
	plugin.Register(PrefillPickerType, newPrefillPicker)
	plugin.Register(PairHandlerType, newPairHandler)
	plugin.Register(LabelFilterType, newLabelFilter)
}

// Parameters are those that both pickers take.
type Parameters struct {
	// BytesPerToken turns the size of a request into tokens, unless a tokenizer
	// has counted them; 0 = 4.
	BytesPerToken float64 `json:"bytesPerToken"`

	// MaxAge is how long a request is taken to run at most, as a duration like
	// "20m"; "" = an hour. It is released then, even if its stream has not ended.
	MaxAge string `json:"maxAge"`

	// Of Routers endpoint pickers that serve one pool at once, this is number
	// Router, from 0; or the one whose number is at the end of the environment
	// variable RouterEnv, as a stateful set's pods are named. 0 = the only one.
	Routers   int    `json:"routers"`
	Router    int    `json:"router"`
	RouterEnv string `json:"routerEnv"`
}

// read fills in parameters from a configuration file; nothing given leaves them as
// they are.
func read(raw json.RawMessage, into any) error {
	if len(raw) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("parameters: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("parameters: more than one object")
	}
	return nil
}

// complete checks the parameters and fills in their defaults.
func (p *Parameters) complete() error {
	if p.BytesPerToken == 0 {
		p.BytesPerToken = 4
	}
	if !(p.BytesPerToken >= 0.01 && p.BytesPerToken <= 1000) {
		return fmt.Errorf("parameters: bytesPerToken: %v is not from 0.01 to 1000", p.BytesPerToken)
	}
	if p.RouterEnv == "" {
		return nil
	}
	value := os.Getenv(p.RouterEnv)
	n, err := strconv.Atoi(value[strings.LastIndexByte(value, '-')+1:])
	if err != nil {
		return fmt.Errorf("parameters: routerEnv: %s is %q, which does not end in a number", p.RouterEnv, value)
	}
	p.Router = n
	return nil
}

// ledger is what the ledgers need, for a picker of a running endpoint picker.
func (p *Parameters) ledger(h plugin.Handle, now func() time.Time) (ledger.Config, error) {
	c := ledger.Config{Now: now, Present: func() []ledger.Name {
		pods := h.PodList()
		names := make([]ledger.Name, len(pods))
		for i := range pods {
			names[i] = ledger.Name(pods[i])
		}
		return names
	}}
	var err error
	c.MaxAge, err = duration("maxAge", p.MaxAge)
	return c, err
}

// duration reads a duration parameter; "" = 0, the default.
func duration(field, value string) (time.Duration, error) {
	if value == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(value)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("parameters: %s: %q is not a duration like \"50ms\" or \"20m\"", field, value)
	}
	return d, nil
}

// field is the parameter of a field that the balancers name as on their own wire.
func field(wire string) string {
	words := strings.Split(wire, "_")
	for i, w := range words[1:] {
		words[i+1] = strings.ToUpper(w[:1]) + w[1:]
	}
	return strings.Join(words, "")
}
