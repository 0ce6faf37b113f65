package plugins

import (
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	fwk "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	upstream "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/picker"
)

// BenchmarkSchedule is what the endpoint picker's scheduler takes for a request,
// from the profile to its release, with our pickers and with its own that knows no
// loads.
func BenchmarkSchedule(b *testing.B) {
	h := handle(nil)
	late := time.Duration(0)
	decoder, err := newDecodePickerAt("decode", []byte(`{"kvCapacity": 550000}`), h, func() time.Time { return time.Now().Add(late) })
	if err != nil {
		b.Fatal(err)
	}
	prefiller, err := newPrefillPicker("prefill", nil, h)
	if err != nil {
		b.Fatal(err)
	}
	all := endpoints(ranks, noMetrics)
	for _, p := range []plugin.Plugin{upstream.NewMaxScorePicker(1), decoder, prefiller} {
		b.Run("picker="+p.TypedName().Type, func(b *testing.B) {
			s := scheduler(b, p)
			ctx := quiet()
			running := make([]*fwk.LLMRequest, 1000)
			for range 2 { // and then nothing is left of what may have run before
				if _, err := s.Schedule(ctx, prompt(1), all); err != nil {
					b.Fatal(err)
				}
				late += time.Hour
			}
			b.ReportAllocs()
			before := busy()
			for i := 0; b.Loop(); i++ {
				r := prompt(500 + i*7919%9500)
				result, err := s.Schedule(ctx, r, all)
				if err != nil {
					b.Fatal(err)
				}
				if hook, ok := p.(requestcontrol.PreRequest); ok {
					hook.PreRequest(ctx, r, result)
				}
				old := &running[i%len(running)]
				if hook, ok := p.(requestcontrol.ResponseBody); ok && *old != nil {
					hook.ResponseBody(traced(), *old, finished(200), nil)
				}
				*old = r
			}
			b.ReportMetric(float64(busy()-before)/float64(b.N), "cpu-ns/op")
		})
	}
}

// busy is the time that the process has run for, of all processors: what else the
// machine does counts for nothing.
func busy() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
