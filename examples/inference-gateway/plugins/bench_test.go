package plugins

import (
	"strconv"
	"syscall"
	"testing"
	"time"

	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/datalayer"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/plugin"
	"sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/requestcontrol"
	fwk "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/interface/scheduling"
	upstream "sigs.k8s.io/gateway-api-inference-extension/pkg/epp/framework/plugins/scheduling/picker"
)

// BenchmarkSchedule is what the endpoint picker's scheduler takes for a request, from
// the profile to its release, with our pickers and with its own that knows no loads:
// of one unit, of three, and as one of two routers, who listen to what endpoints say.
func BenchmarkSchedule(b *testing.B) {
	h := handle(nil)
	late := time.Duration(0)
	now := func() time.Time { return time.Unix(1e9, 0).Add(late) } // 5,000 requests a second come
	decoder := func(parameters string) plugin.Plugin {
		p, err := newDecodePickerAt("decode", []byte(`{"kvCapacity": 550000`+parameters+`}`), h, now)
		if err != nil {
			b.Fatal(err)
		}
		return p
	}
	prefiller, err := newPrefillPickerAt("prefill", nil, h, now)
	if err != nil {
		b.Fatal(err)
	}
	for _, x := range []struct {
		name string
		plugin.Plugin
	}{
		{"max-score", upstream.NewMaxScorePicker(1)},
		{"decode", decoder("")},
		{"decode-units", decoder(`, "unitLabel": "unit"`)},
		{"decode-routers", decoder(`, "routers": 2`)},
		{"prefill", prefiller},
	} {
		b.Run("picker="+x.name, func(b *testing.B) {
			all := endpoints(ranks, func(g int) *datalayer.Metrics {
				return &datalayer.Metrics{RunningRequestsSize: 3, KVCacheUsagePercent: 0.1, CacheBlockSize: 64, CacheNumBlocks: 8000, UpdateTime: time.Now()}
			})
			for g, e := range all {
				e.GetMetadata().Labels = map[string]string{"unit": strconv.Itoa(3 * g / ranks)}
			}
			s := scheduler(b, x.Plugin)
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
				late += 200 * time.Microsecond
				r := prompt(500 + i*7919%9500)
				result, err := s.Schedule(ctx, r, all)
				if err != nil {
					b.Fatal(err)
				}
				if hook, ok := x.Plugin.(requestcontrol.PreRequest); ok {
					hook.PreRequest(ctx, r, result)
				}
				old := &running[i%len(running)]
				if hook, ok := x.Plugin.(requestcontrol.ResponseBody); ok && *old != nil {
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
