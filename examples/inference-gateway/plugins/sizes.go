package plugins

import (
	"encoding/json"
	"fmt"
	"sync"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"

	"github.com/moelb/moelb/examples/inference-gateway/ledger"
)

// Media is how many tokens what is no text takes, by kind, each piece.
type Media struct {
	Image int `json:"image"` // 0 = 1000
	Audio int `json:"audio"` // 0 = 750, half a minute
	Video int `json:"video"` // 0 = 8000
	File  int `json:"file"`  // 0 = 2000
}

func (m *Media) complete() error {
	for _, x := range [...]struct {
		name  string
		value *int
		usual int
	}{{"image", &m.Image, 1000}, {"audio", &m.Audio, 750}, {"video", &m.Video, 8000}, {"file", &m.File, 2000}} {
		if *x.value < 0 || *x.value > 1<<20 {
			return fmt.Errorf("parameters: mediaTokens: %s: %d is not from 0 to 2^20", x.name, *x.value)
		}
		if *x.value == 0 {
			*x.value = x.usual
		}
	}
	return nil
}

// content is what a request's body is made of.
type content struct {
	text  int // bytes
	media int // tokens, as the parameters say
}

// kinds are the types of pieces that are no text, as the APIs name them.
func (m *Media) of(kind string) int {
	switch kind {
	case "image_url", "input_image", "image":
		return m.Image
	case "input_audio", "audio_url", "audio":
		return m.Audio
	case "video_url", "input_video", "video":
		return m.Video
	case "input_file", "file":
		return m.File
	}
	return 0
}

// measure returns what a body is made of; false = it can't be read.
func (m *Media) measure(b *scheduling.LLMRequestBody) (content, bool) {
	var c content
	switch {
	case b == nil:
		return c, false
	case b.ChatCompletions != nil:
		for i := range b.ChatCompletions.Messages {
			message := &b.ChatCompletions.Messages[i].Content
			c.text += len(message.Raw)
			for j := range message.Structured {
				if block := &message.Structured[j]; m.of(block.Type) > 0 {
					c.media += m.of(block.Type)
				} else {
					c.text += len(block.Text)
				}
			}
		}
		m.walk(b.ChatCompletions.Tools, &c, deepest)
		m.walk(b.ChatCompletions.Documents, &c, deepest)
	case b.Completions != nil:
		c.text = len(b.Completions.Prompt.Raw)
		for _, s := range b.Completions.Prompt.Strings {
			c.text += len(s)
		}
	case b.Responses != nil:
		m.walk(b.Responses.Input, &c, deepest)
		m.walk(b.Responses.Instructions, &c, deepest)
		m.walk(b.Responses.Tools, &c, deepest)
	case b.Conversations != nil:
		for i := range b.Conversations.Items {
			m.walk(b.Conversations.Items[i].Content, &c, deepest)
		}
	case b.Embeddings != nil:
		m.walk(b.Embeddings.Input, &c, deepest)
	default:
		return c, false
	}
	return c, c.text > 0 || c.media > 0
}

// deepest is how deep lists and objects are looked into.
const deepest = 32

// walk adds up what a JSON value is made of: its strings, with the names of its
// fields, but for pieces of other kinds than text, whatever they carry.
func (m *Media) walk(x any, c *content, depth int) {
	if depth == 0 {
		return
	}
	switch x := x.(type) {
	case string:
		c.text += len(x)
	case []any:
		for _, y := range x {
			m.walk(y, c, depth-1)
		}
	case map[string]any:
		if kind, ok := x["type"].(string); ok {
			if n := m.of(kind); n > 0 {
				c.media += n
				return
			}
			if text, ok := x["text"].(string); ok {
				c.text += len(text)
				return
			}
		}
		for name, y := range x {
			c.text += len(name)
			m.walk(y, c, depth-1)
		}
	}
}

// lengths learns, from what responses report, how long prompts are: for each model by
// what factor its prompts, and its pieces that are no text, are longer than they
// seem.
type lengths struct {
	mu     sync.Mutex
	Models map[string]*model `json:"models"`
	Mean   ledger.Average    `json:"mean"` // of all prompts
}

// model is what is known of one model's tokens.
type model struct {
	Text  ratio `json:"text"`
	Media ratio `json:"media"`
}

const (
	mostModels = 256 // more are not told apart
	farthest   = 8.  // a factor is no more, and no less than its reciprocal
	memory     = 1 - 1.0/256
	first      = 1024 // tokens of a prompt, while none is known
)

// ratio is one of sums, of about the latest 256 values, each counting at most as much
// as farthest says.
type ratio struct {
	True float64 `json:"true"`
	Seem float64 `json:"seem"`
}

func (r *ratio) add(truth, seem float64) {
	if !(seem > 0 && truth > 0) {
		return
	}
	truth = min(max(truth, seem/farthest), seem*farthest)
	r.True, r.Seem = float64(r.True*memory)+truth, float64(r.Seem*memory)+seem
}

func (r *ratio) value() float64 {
	if !(r.Seem > 0) {
		return 1
	}
	return min(max(r.True/r.Seem, 1/farthest), farthest)
}

// of returns what is known of a model; nil = nothing.
func (l *lengths) of(name string) *model { return l.Models[name] }

// tokens estimates a prompt's length.
func (l *lengths) tokens(name string, c content, bytesPerToken float64) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, media := float64(c.text)/bytesPerToken, float64(c.media)
	if m := l.of(name); m != nil {
		text, media = text*m.Text.value(), media*m.Media.value()
	}
	return text + media
}

// usual is the length of a prompt of which nothing is known.
func (l *lengths) usual() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.Mean.Value(); n > 0 {
		return n
	}
	return first
}

// learn takes in how long a prompt was.
func (l *lengths) learn(name string, c content, bytesPerToken float64, prompt int) {
	if prompt <= 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Mean.Add(float64(prompt))
	if c == (content{}) {
		return
	}
	m := l.of(name)
	if m == nil {
		if len(l.Models) >= mostModels {
			return
		}
		if l.Models == nil {
			l.Models = map[string]*model{}
		}
		m = &model{}
		l.Models[name] = m
	}
	text := float64(c.text) / bytesPerToken
	if c.media == 0 {
		m.Text.add(float64(prompt), text)
	} else {
		m.Media.add(float64(prompt)-float64(text*m.Text.value()), float64(c.media))
	}
}

// append returns what was learned, as JSON.
func (l *lengths) append() ([]byte, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return json.Marshal(l)
}

// restore takes it over. What makes no sense is an error, and changes nothing.
func (l *lengths) restore(data []byte) error {
	var x lengths
	if err := json.Unmarshal(data, &x); err != nil {
		return fmt.Errorf("snapshot: lengths: %w", err)
	}
	if len(x.Models) > mostModels {
		return fmt.Errorf("snapshot: lengths: of %d models", len(x.Models))
	}
	for name, m := range x.Models {
		if m == nil {
			return fmt.Errorf("snapshot: lengths: nothing of model %q", name)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.Models, l.Mean = x.Models, x.Mean
	return nil
}
