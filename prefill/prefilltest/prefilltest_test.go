package prefilltest

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moelb/moelb/prefill"
)

func create(t *testing.T, cfg prefill.Config) *prefill.Balancer {
	b, err := prefill.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBalancer(t *testing.T) {
	for _, cfg := range []prefill.Config{{Ranks: 1}, {Ranks: 7}, {Ranks: 12, MaxTokens: 2048}, {Ranks: 9, Routers: 3, Router: 1, MaxTokens: 4096}, {Ranks: 4, MaxTokens: 1000, MaxKV: []int64{50_000}, Patience: 1}} {
		Assigner(t, cfg.Ranks, func() prefill.Assigner { return create(t, cfg) })
		Former(t, cfg.Ranks, cfg.MaxTokens, func() prefill.Former { return create(t, cfg) })
	}
}

// recorder keeps what is reported.
type recorder struct {
	testing.TB
	said []string
}

func (r *recorder) Helper() {}
func (r *recorder) Errorf(format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf(format, args...))
}

// broken breaks one promise.
type broken struct {
	*prefill.Balancer
	how   string
	calls int
}

func (b *broken) Add(r prefill.Request) (int, error) {
	rank, err := b.Balancer.Add(r)
	if b.calls++; b.how == "rank" && b.calls == 40 {
		rank = 5
	}
	return rank, err
}

func (b *broken) Done(id prefill.ID) error {
	err := b.Balancer.Done(id)
	if b.how == "takes off twice" {
		return nil
	}
	return err
}

func (b *broken) Enqueue(r prefill.Request) error {
	err := b.Balancer.Enqueue(r)
	if b.how == "waits twice" {
		return nil
	}
	return err
}

func (b *broken) Step(dst []prefill.Chunk) []prefill.Chunk {
	if b.calls++; b.how == "idles" && b.calls == 40 {
		return dst
	}
	n := len(dst)
	dst = b.Balancer.Step(dst)
	for i := range dst[n:] {
		k := &dst[n+i]
		switch b.how {
		case "no such rank":
			k.Rank += 5
		case "moves":
			if k.Last {
				k.Rank = (k.Rank + 1) % 5
			}
		case "too much":
			k.Tokens++
		case "never last":
			k.Last = false
		}
	}
	return dst
}

// TestFinds: each broken promise is found.
func TestFinds(t *testing.T) {
	expect := func(how string, r recorder) {
		if len(r.said) == 0 {
			t.Errorf("%s: not found", how)
		} else if !strings.Contains(r.said[0], "seed") {
			t.Errorf("%s: %q names no seed", how, r.said[0])
		}
	}
	created := 0
	config := func(how string) prefill.Config {
		cfg := prefill.Config{Ranks: 5, MaxTokens: 1024}
		if created++; how == "differs" && created%2 == 0 {
			cfg.Routers = 2
		}
		if how == "takes more than it may" {
			cfg.MaxTokens = 1025
		}
		return cfg
	}
	for _, how := range []string{"rank", "takes off twice", "differs"} {
		var r recorder
		Assigner(&r, 5, func() prefill.Assigner { return &broken{Balancer: create(t, config(how)), how: how} })
		expect(how, r)
	}
	for _, how := range []string{"waits twice", "takes off twice", "idles", "no such rank", "moves", "too much", "never last", "takes more than it may"} {
		var r recorder
		Former(&r, 5, 1024, func() prefill.Former { return &broken{Balancer: create(t, config(how)), how: how} })
		expect(how, r)
	}
}
