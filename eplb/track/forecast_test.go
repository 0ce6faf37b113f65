package track

import (
	"context"
	"errors"
	"math"
	"reflect"
	"testing"

	"github.com/moelb/moelb/eplb"
	"github.com/moelb/moelb/placement"
)

func TestForecastSet(t *testing.T) {
	past := func() []placement.Loads {
		return []placement.Loads{{{8, 0, 1}}, {{0, 8, 2}}, {{4, 4, 3}}}
	}
	for _, c := range []struct {
		f       Forecast
		loads   placement.Loads
		windows []placement.Loads
	}{
		{Forecast{}, placement.Loads{{4, 4, 3}}, nil},
		{Forecast{Past: 2}, placement.Loads{{4, 12, 5}}, nil},
		{Forecast{Past: 9}, placement.Loads{{12, 12, 6}}, nil},
		{Forecast{Past: 3, HalfLife: 1}, placement.Loads{{6, 8, 4.25}}, nil},
		{Forecast{Past: 3, HalfLife: .5}, placement.Loads{{4.5, 6, 3.5625}}, nil},
		{Forecast{Past: 2, Joint: true}, nil, past()[1:]},
		{Forecast{Joint: true}, nil, past()[2:]},
	} {
		p := eplb.Problem{Loads: placement.Loads{{1}}, Windows: past()[:1], Replicas: 7}
		given := past()
		if err := c.f.Set(&p, given); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(p.Loads, c.loads) || !reflect.DeepEqual(p.Windows, c.windows) || p.Replicas != 7 {
			t.Errorf("%+v: loads %v, windows %v", c.f, p.Loads, p.Windows)
		}
		if !reflect.DeepEqual(given, past()) {
			t.Errorf("%+v: the past has changed: %v", c.f, given)
		}
	}
}

func TestForecastRefused(t *testing.T) {
	w := placement.Loads{{1, 2}}
	for _, c := range []struct {
		f    Forecast
		past []placement.Loads
		kind error
		want string
	}{
		{Forecast{}, nil, placement.ErrShape, "loads: no windows"},
		{Forecast{Past: -1}, []placement.Loads{w}, placement.ErrValue, "past: -1 is negative"},
		{Forecast{HalfLife: math.NaN()}, []placement.Loads{w}, placement.ErrValue, "half_life: NaN: 0, or a finite number ≥ 0.01, is needed"},
		{Forecast{HalfLife: 2, Joint: true}, []placement.Loads{w}, placement.ErrValue, "half_life: windows planned jointly all count alike"},
		{Forecast{Past: 2}, []placement.Loads{w, {{1, 2, 3}}}, placement.ErrShape, "loads: a window of 1x3 beside one of 1x2"},
		{Forecast{Past: 2}, []placement.Loads{{}, {{1, 2, 3}}}, placement.ErrShape, "loads: a window of 1x3 beside one of 0x0"},
	} {
		p := eplb.Problem{Replicas: 2, Topology: placement.Topology{GPUs: 2}}
		if err := c.f.Set(&p, c.past); err == nil || err.Error() != c.want || !errors.Is(err, c.kind) {
			t.Errorf("%+v: %v, want %q", c.f, err, c.want)
		}
	}
}

func TestBacktestRefused(t *testing.T) {
	p := eplb.Problem{Replicas: 2, Topology: placement.Topology{GPUs: 2}}
	w := placement.Loads{{1, 2}}
	scores, err := Backtest(t.Context(), p, eplb.Options{}, Forecast{}, []placement.Loads{w, w, {{1}}})
	if !errors.Is(err, placement.ErrShape) || len(scores) != 1 {
		t.Errorf("%v, %v: the third window has another shape", scores, err)
	}
	p.Replicas = 1
	if scores, err := Backtest(t.Context(), p, eplb.Options{}, Forecast{}, []placement.Loads{w, w}); !errors.Is(err, placement.ErrFit) || scores != nil {
		t.Errorf("%v, %v: too few replicas", scores, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if scores, err := Backtest(ctx, p, eplb.Options{}, Forecast{}, []placement.Loads{w, w}); err != nil || scores != nil {
		t.Errorf("%v, %v: ended before it began", scores, err)
	}
}
