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
	// BytesPerToken turns the text of a request into tokens, unless a tokenizer
	// has counted them, until responses have told how long prompts are; 0 = 4.
	BytesPerToken float64 `json:"bytesPerToken"`

	// MediaTokens is how many tokens images and the like take.
	MediaTokens Media `json:"mediaTokens"`

	// MaxAge is after how long a request is released of whose stream nothing was
	// heard, as a duration like "20m"; "" = an hour.
	MaxAge string `json:"maxAge"`

	// MostHeld is how many requests are held at most: of more, those are released of
	// which nothing was heard for longest; 0 = 262,144.
	MostHeld int `json:"mostHeld"`

	// UnitLabel is the label of an endpoint's pod that names the lockstep unit which
	// it is a rank of; "" = all are ranks of one.
	UnitLabel string `json:"unitLabel"`

	// DrainLabel is the label of a pod that is to get nothing more, with whatever
	// value but "false"; "" = moelb/drain.
	DrainLabel string `json:"drainLabel"`

	// Of Routers endpoint pickers that serve one pool at once, this is number
	// Router, from 0; or the one whose number is at the end of the environment
	// variable RouterEnv, as a stateful set's pods are named. 0 = the only one.
	Routers   int    `json:"routers"`
	Router    int    `json:"router"`
	RouterEnv string `json:"routerEnv"`

	lengths lengths
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
	if p.MostHeld < 0 {
		return fmt.Errorf("parameters: mostHeld: %d is negative", p.MostHeld)
	}
	if err := p.MediaTokens.complete(); err != nil {
		return err
	}
	if p.DrainLabel == "" {
		p.DrainLabel = "moelb/drain"
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
	c := ledger.Config{Now: now, MostHeld: p.MostHeld, Present: func() []ledger.Name {
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
