package plugins

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	fwk "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
)

// taken sends one request of a body and returns how many tokens its rank then holds;
// it is answered as having had a prompt of so many (0 = without usage).
func taken(s *site, path, body string, prompt int) int64 {
	s.t.Helper()
	l := begin(s.server)
	l.say(requestHeaders(path))
	l.say(requestBody(body))
	if l.refused() != 0 {
		s.t.Fatalf("refused with %d: %.100s", l.refused(), body)
	}
	_, unit := s.picker.ledger.Stats()
	kv := int64(0)
	for _, k := range unit.Ranks {
		kv += k.KV
	}
	l.say(streamed)
	l.say(piece)
	if prompt > 0 {
		l.say(usage(prompt, 5))
	} else {
		l.say(responseBody("data: [DONE]\n\n", true))
	}
	l.cut()
	return kv
}

// TestContent: a prompt is as long as its text, and what is no text as its kind says,
// however many bytes it has.
func TestContent(t *testing.T) {
	s := newSite(t, 1, ", kvCapacity: 262144", 3)
	s.yaml = strings.Replace(s.yaml, "0.0625", "4", 1)
	s.restart()
	image := `{"type": "image_url", "image_url": {"url": "data:image/png;base64,` + strings.Repeat("iVBO", 1<<18) + `"}}`
	audio := `{"type": "input_audio", "input_audio": {"format": "wav", "data": "` + strings.Repeat("UklG", 1<<18) + `"}}`
	words := strings.Repeat("word", 100)
	chat := func(pieces ...string) string {
		return `{"model": "m", "messages": [{"role": "user", "content": [` + strings.Join(pieces, ", ") + `]}]}`
	}
	text := `{"type": "text", "text": "` + words + `"}`
	for _, c := range []struct {
		name, path, body string
		want             int64
	}{
		{"an image", "/v1/chat/completions", chat(image), 1000},
		{"text and two images", "/v1/chat/completions", chat(text, image, image), 2100},
		{"text and sound", "/v1/chat/completions", chat(text, audio), 850},
		{"text", "/v1/chat/completions", chat(text), 100},
		{"plain text", "/v1/chat/completions", `{"model": "m", "messages": [{"role": "user", "content": "` + words + `"}, {"role": "user", "content": "` + words + `"}]}`, 200},
		{"fields that are no prompt", "/v1/completions", `{"model": "m", "user": "` + words + `", "prompt": "` + words + `"}`, 100},
		{"prompts", "/v1/completions", `{"model": "m", "prompt": ["` + words + `", "` + words + `"]}`, 200},
		{"a response's input", "/v1/responses", `{"model": "m", "input": "` + words + `", "instructions": "` + words + `"}`, 200},
		{"an image in a response's input", "/v1/responses", `{"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "` + words + `"}, {"type": "input_image", "image_url": "data:image/png;base64,` + strings.Repeat("iVBO", 1<<18) + `"}]}]}`, 1103},
		{"a tool", "/v1/chat/completions", `{"model": "m", "messages": [{"role": "user", "content": "` + words + `"}], "tools": [{"type": "function", "function": {"name": "` + words + `"}}]}`, 206},
	} {
		if n := taken(s, c.path, c.body, 0); n < c.want || n > c.want+c.want/20+5 {
			t.Errorf("%s: %d tokens, not %d", c.name, n, c.want)
		}
	}
	s.finish()
}

// TestUnread: a body that can't be read counts as the mean prompt, whatever its size.
func TestUnread(t *testing.T) {
	s := newSite(t, 2, "", 3)
	s.yaml = strings.Replace(s.yaml, "plugins:\n", "plugins:\n- type: passthrough-parser\n", 1) + "parser:\n  pluginRef: passthrough-parser\n"
	s.restart()
	for _, body := range []string{"\x00\x01", strings.Repeat("\xff", 1<<20)} {
		if n := taken(s, "/v1/completions", body, 0); n != first {
			t.Errorf("%d bytes that can't be read: %d tokens, not %d", len(body), n, first)
		}
	}
	for range 300 {
		s.picker.parameters.lengths.learn("m", content{}, 4, 3000)
	}
	if n := taken(s, "/v1/completions", "\x00", 0); n != 3000 {
		t.Errorf("with prompts of 3,000 tokens: %d", n)
	}
	s.finish()
}

// TestUsage: what responses report corrects how long prompts are taken to be, for each
// model apart.
func TestUsage(t *testing.T) {
	s := newSite(t, 3, "", 3)
	s.yaml = strings.Replace(s.yaml, "0.0625", "4", 1)
	s.restart()
	ask := func(model string, prompt int) int64 {
		return taken(s, "/v1/completions", `{"model": "`+model+`", "prompt": "`+strings.Repeat("word", 1000)+`"}`, prompt)
	}
	if n := ask("dense", 2500); n != 1000 {
		t.Errorf("at first %d tokens, not 1,000", n)
	}
	if n := ask("dense", 2500); n != 2500 {
		t.Errorf("of a model that makes 2.5 times as many tokens: %d, not 2,500", n)
	}
	if n := ask("other", 0); n != 1000 {
		t.Errorf("of another model: %d, not 1,000", n)
	}
	for range 1000 {
		ask("dense", 1<<30)
	}
	if n := ask("dense", 0); n > 8000 {
		t.Errorf("after nonsense: %d tokens, more than eight times what it seems", n)
	}
	image := `{"model": "dense", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}`
	taken(s, "/v1/chat/completions", image, 300)
	if n := taken(s, "/v1/chat/completions", image, 300); n < 295 || n > 305 {
		t.Errorf("an image that was 300 tokens: %d", n)
	}
	s.finish()
}

// TestLengthsBounded: whatever responses report, factors stay within their bounds and
// models within their number; what is true is learned.
func TestLengthsBounded(t *testing.T) {
	const seed = 4
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, seed))
	var l lengths
	for i := range 20_000 {
		name := strings.Repeat("m", rng.IntN(2*mostModels))
		c := content{text: rng.IntN(1 << 20), media: rng.IntN(3) * rng.IntN(5000)}
		prompt := rng.IntN(1<<uint(rng.IntN(31)) + 1)
		l.learn(name, c, 4, prompt-1)
		n := l.tokens(name, c, 4)
		if most := farthest * (float64(c.text)/4 + float64(c.media)); n < 0 || n > most || math.IsNaN(n) {
			t.Fatalf("call %d: %v tokens of %+v", i, n, c)
		}
	}
	if len(l.Models) > mostModels {
		t.Errorf("%d models are kept", len(l.Models))
	}
	l = lengths{}
	for range 2000 {
		text := 1000 + rng.IntN(100_000)
		l.learn("m", content{text: text}, 4, int(float64(text)/4*1.7))
		l.learn("m", content{text: text, media: 2000}, 4, int(float64(text)/4*1.7)+600)
	}
	if n := l.tokens("m", content{text: 40_000, media: 1000}, 4); math.Abs(n-17_300) > 200 {
		t.Errorf("%v tokens, not 17,300", n)
	}
	l.learn("m", content{text: 40_000}, 4, 1<<30) // counts as one of the longest that may be
	if n := l.tokens("m", content{text: 40_000}, 4); n > 19_000 {
		t.Errorf("%v tokens after one nonsense, not about 17,000", n)
	}
}

// TestTokens: a prompt's length is what a tokenizer counted, if there is one.
func TestTokens(t *testing.T) {
	p := &Parameters{}
	if err := p.complete(); err != nil {
		t.Fatal(err)
	}
	counted := prompt(20)
	counted.TokenizedPrompt = &fwk.TokenizedPrompt{TokenIDs: make([]uint32, 17)}
	for _, c := range []struct {
		r    *fwk.LLMRequest
		want int
	}{
		{&fwk.LLMRequest{}, 500}, // the mean, at most so long
		{prompt(20), 20},
		{counted, 17},
		{prompt(1000), 500},
	} {
		if n := p.tokens(c.r, 500); n != c.want {
			t.Errorf("%d tokens, not %d", n, c.want)
		}
	}
	p.learn(counted, 1<<20)
	if n := p.tokens(prompt(20), 500); n != 20 {
		t.Errorf("what a tokenizer counted has taught that 20 tokens are %d", n)
	}
}
