package decodetest

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moelb/moelb/decode"
)

func create(t *testing.T, cfg decode.Config) func() decode.Scheduler {
	return func() decode.Scheduler {
		b, err := decode.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}

func TestBalancer(t *testing.T) {
	for _, cfg := range []decode.Config{{Ranks: 1}, {Ranks: 7}, {Ranks: 12, KVCapacity: []int64{60_000}, MaxRequests: 20}, {Ranks: 9, Routers: 3, Router: 1}} {
		Scheduler(t, cfg.Ranks, create(t, cfg))
		Scheduler(t, cfg.Ranks, func() decode.Scheduler { return decode.NewSafe(create(t, cfg)().(*decode.Balancer)) })
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
	*decode.Balancer
	how   string
	calls int
	ended map[decode.ID]bool
}

var created int

func (b *broken) Add(r decode.Request) (int, error) {
	b.calls++
	switch {
	case b.how == "takes nonsense" && r.KV < 0:
		r.KV = 0
	case b.how == "takes twice":
		if _, err := b.Where(r.ID); err == nil {
			return 0, nil
		}
	case b.how == "no id again" && b.ended[r.ID]:
		return decode.Full, errors.New("used before")
	}
	rank, err := b.Balancer.Add(r)
	switch {
	case err != nil && b.how == "changes on an error":
		_, _ = b.Balancer.Add(decode.Request{ID: 1<<60 + decode.ID(b.calls), KV: 9000})
	case b.how == "rank" && b.calls == 40:
		return 99, err
	}
	return rank, err
}

func (b *broken) Done(id decode.ID) error {
	err := b.Balancer.Done(id)
	b.ended[id] = true
	if b.how == "ends twice" {
		return nil
	}
	return err
}

func (b *broken) Batch(dst []int, requests []decode.Request) ([]int, error) {
	if b.how == "drops what was there" {
		dst = dst[:0]
	}
	if b.how == "half a batch" {
		for _, r := range requests {
			rank, err := b.Balancer.Add(r)
			if err != nil {
				return dst[:0], err
			}
			dst = append(dst, rank)
		}
		return dst, nil
	}
	return b.Balancer.Batch(dst, requests)
}

// TestFinds: each broken promise is found.
func TestFinds(t *testing.T) {
	for _, how := range []string{"takes nonsense", "changes on an error", "rank", "takes twice", "no id again", "ends twice", "drops what was there", "half a batch", "differs"} {
		var found recorder
		Scheduler(&found, 5, func() decode.Scheduler {
			cfg := decode.Config{Ranks: 5}
			if created++; how == "differs" && created%2 == 0 {
				cfg.MaxRequests = 3
			}
			return &broken{Balancer: create(t, cfg)().(*decode.Balancer), how: how, ended: map[decode.ID]bool{}}
		})
		if len(found.said) == 0 {
			t.Errorf("%s: not found", how)
		} else if !strings.Contains(found.said[0], "seed") {
			t.Errorf("%s: %q names no seed", how, found.said[0])
		}
	}
}
