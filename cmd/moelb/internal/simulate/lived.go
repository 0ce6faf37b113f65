package simulate

import (
	"bytes"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
	"github.com/moelb/moelb/internal/wire"
)

// reach is what a node of prefill computes of requests whose lengths spread so.
type reach struct {
	name    string
	perNode float64
}

// live simulates the published day.
func (f *simulateFlags) live(cmd *cobra.Command, c *console.Console) error {
	if !(f.spread > 0 && f.spread <= 3) {
		return console.Usagef("--spread %v: above 0 and at most 3", f.spread)
	}
	p, err := simulate.FindPolicy(f.prefill, f.decode, f.experts)
	if err != nil {
		return console.Usage(err)
	}
	config := simulate.PublishedSystem()
	config.Policy, config.Seed = p, f.seed
	if f.seconds != 0 {
		if !(f.seconds >= 10 && f.seconds <= 3600) {
			return console.Usagef("--seconds %v of each hour: between 10 and 3600 are possible", f.seconds)
		}
		config.Seconds, config.Warm = f.seconds, f.seconds/3
	}
	t := simulate.PublishedTraffic(f.spread, f.seed)
	var reached []reach
	spreads := []float64{.9, 1.1, 1.25, 1.5}
	if f.data != "" {
		if t, err = simulate.ServeGenTraffic(f.data, f.seed); err != nil {
			return fmt.Errorf("--data: %w", err)
		}
	}
	bar := console.Progress(c, 1000)
	day, err := simulate.Live(config, t, func(done float64) { bar.Set(int(800 * done)) })
	if err != nil {
		return err
	}
	one := func(name string, t simulate.Traffic) error {
		x, err := simulate.PrefillReach(config, t)
		reached = append(reached, reach{name, x})
		bar.Add(40)
		return err
	}
	for _, s := range spreads {
		if err := one(fmt.Sprintf("%.4g", s), simulate.PublishedTraffic(s, f.seed)); err != nil {
			return err
		}
	}
	if f.data != "" {
		if err := one("ServeGen's", t); err != nil {
			return err
		}
	}
	bar.Finish()
	b := livedTable(&day, reached, t.Name)
	if f.asJSON {
		b = livedJSON(&day, reached, t.Name)
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

func livedTable(d *simulate.Lived, reached []reach, name string) []byte {
	b := &bytes.Buffer{}
	prefill, decode, request := simulate.PublishedRates()
	fmt.Fprintf(b, "DeepSeek's published day, simulated hour by hour on its fleet, at its demand: %s\nmean prompt %.0f tokens, %.1f%% of them cached; %.0f generated; %.0f tokens of KV behind a generated one\n\n", name, d.MeanInput, 100*d.HitRate, d.MeanOutput, d.MeanKV)
	g := human.Table{}
	g.Add("the day", "here", "published", "off by")
	for _, x := range []struct {
		name      string
		got, want float64
		format    string
	}{{"prompt tokens/s a prefill node", d.PrefillPerNode, prefill, "%.0f"}, {"generated tokens/s a decode node", d.DecodePerNode, decode, "%.0f"}, {"tokens/s a request", d.PerRequest, request, "%.1f"}} {
		g.Add(x.name, fmt.Sprintf(x.format, x.got), fmt.Sprintf(x.format, x.want), fmt.Sprintf("%+.1f%%", 100*(x.got/x.want-1)))
	}
	g.Write(b, "  ")
	b.WriteByte('\n')
	h := human.Table{}
	h.Add("hour", "prefill units", "decode units", "requests/s", "served", "TTFT p50", "tokens/s a request", "prefill idle", "decode idle")
	for _, x := range d.Hours {
		h.Add(fmt.Sprintf("%02d:00", x.Hour), fmt.Sprint(x.Fleet.Prefill), fmt.Sprint(x.Fleet.Decode), fmt.Sprintf("%.0f", x.Rate), fmt.Sprintf("%.1f%%", 100*x.Carries), human.Duration(x.Prefill.TTFT50), fmt.Sprintf("%.1f", 1/x.PerToken), fmt.Sprintf("%.0f%%", 100*x.Prefill.PrefillIdle), fmt.Sprintf("%.0f%%", 100*x.Decode.DecodeIdle))
	}
	h.Write(b, "  ")
	b.WriteString("\nWhat the spread of prompts' lengths does to a full prefill node (all scaled to the same KV, prompts and hits; DeepSeek published no lengths):\n\n")
	r := human.Table{}
	r.Add("spread", "prompt tokens/s a node, cached ones counted")
	for _, x := range reached {
		r.Add(x.name, fmt.Sprintf("%.0f", x.perNode))
	}
	r.Write(b, "  ")
	b.WriteString("\nNothing was fitted to the day's rates. A few units of each phase are simulated at their share of the demand.\n")
	return b.Bytes()
}

func livedJSON(d *simulate.Lived, reached []reach, name string) []byte {
	o := &wire.Encoder{}
	number := func(name string, x float64) { o.Field(name); o.Float(x) }
	o.Raw(`{"version":1,"scenario":"published-day"`)
	o.Field("workload")
	o.Quote(name)
	number("prefill_tokens_per_second_per_node", d.PrefillPerNode)
	number("decode_tokens_per_second_per_node", d.DecodePerNode)
	number("output_tokens_per_second_per_request", d.PerRequest)
	number("mean_input", d.MeanInput)
	number("mean_output", d.MeanOutput)
	number("mean_kv", d.MeanKV)
	number("hit", d.HitRate)
	o.Field("hours")
	wire.List(o, d.Hours, func(x simulate.LivedHour) {
		o.Raw("\n" + `{"hour":`)
		o.Int(int64(x.Hour))
		o.Field("prefill_units")
		o.Int(int64(x.Fleet.Prefill))
		o.Field("decode_units")
		o.Int(int64(x.Fleet.Decode))
		number("requests_per_second", x.Rate)
		number("served", x.Carries)
		number("ttft_p50", x.Prefill.TTFT50)
		number("tpot_p50", x.Decode.TPOT50)
		o.Raw("}")
	})
	o.Field("spreads")
	wire.List(o, reached, func(x reach) {
		o.Raw(`{"spread":`)
		o.Quote(x.name)
		number("prefill_tokens_per_second_per_node", x.perNode)
		o.Raw("}")
	})
	o.Raw("}\n")
	return o.B
}
