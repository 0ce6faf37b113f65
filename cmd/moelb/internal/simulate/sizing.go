package simulate

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/moelb/moelb/bench/cost"
	"github.com/moelb/moelb/bench/simulate"
	"github.com/moelb/moelb/cmd/moelb/internal/console"
	"github.com/moelb/moelb/cmd/moelb/internal/human"
)

// seconds is a flag that reads 0.05, 50ms and 2s alike.
type seconds float64

func (s *seconds) String() string { return strconv.FormatFloat(float64(*s), 'g', -1, 64) }
func (s *seconds) Type() string   { return "seconds" }
func (s *seconds) Set(text string) error {
	x, err := strconv.ParseFloat(text, 64)
	if err != nil {
		d, e := time.ParseDuration(text)
		if e != nil {
			return fmt.Errorf("%.40q is no time such as 0.05, 50ms or 2s", text)
		}
		x = d.Seconds()
	}
	*s = seconds(x)
	return nil
}

// aimed says whether a fleet for an aim is asked for.
func (f *simulateFlags) aimed(cmd *cobra.Command) bool {
	for _, name := range []string{"slo-ttft", "slo-tpot", "slo-percentile"} {
		if cmd.Flags().Changed(name) {
			return true
		}
	}
	return false
}

// sized is the answer for one kind of GPU.
type sized struct {
	simulate.Sized
	gpu   cost.GPU
	price float64
	only  bool // the fleet was given
	err   error
}

// size answers how many units an aim needs, on each kind of GPU.
func (f *simulateFlags) size(cmd *cobra.Command, c *console.Console) error {
	changed := cmd.Flags().Changed
	given := changed("prefill-units") || changed("decode-units")
	switch {
	case !changed("rps"):
		return console.Usagef("--slo-ttft, --slo-tpot and --slo-percentile need --rps")
	case f.scenario != steadyScenario:
		return console.Usagef("--scenario %s: an aim is for requests at one rate, steady or of a --trace", f.scenario)
	case given && (f.fleet.Prefill < 1 || f.fleet.Decode < 1 || f.fleet.Prefill > 1<<10 || f.fleet.Decode > 1<<10):
		return console.Usagef("--prefill-units %d, --decode-units %d: both are needed, from 1 to 1024", f.fleet.Prefill, f.fleet.Decode)
	case f.prefillTP < 0:
		return console.Usagef("--prefill-tp %d: at least 0 is needed", f.prefillTP)
	}
	if f.seconds == 0 {
		f.seconds = 40
	}
	p, err := simulate.FindPolicy(f.prefill, f.decode, f.experts)
	if err != nil {
		return refused(cmd, err)
	}
	if !(f.aim.Percentile > 0 && f.aim.Percentile < 100) {
		return console.Usagef("--slo-percentile %v: a percentage above 0 and below 100 is needed", f.aim.Percentile)
	}
	aim := f.aim
	aim.Rate, aim.TTFT, aim.TPOT, aim.Percentile = f.rate, float64(f.ttft), float64(f.tpot), aim.Percentile/100
	if err := aim.Validate(); err != nil {
		return refused(cmd, err)
	}
	kinds := strings.Split(f.gpu, ",")
	if f.gpu == "all" {
		kinds = strings.Split(gpuNames(), ", ")
	}
	if len(kinds) > 1 && f.modelFile == "-" {
		return console.Usagef("--model-file -: standard input is read once, for one kind of GPU: name a file")
	}
	var all []sized
	bar := console.Progress(c, len(kinds))
	for _, kind := range kinds {
		one := *f
		one.gpu = kind
		x, err := one.sizeOn(cmd, c, p, aim, given)
		if err != nil {
			return err
		}
		if len(kinds) == 1 && x.err != nil {
			return x.err
		}
		all = append(all, x)
		bar.Add(1)
	}
	bar.Finish()
	b := f.sizingTable(all, aim)
	if f.asJSON {
		if b, err = f.sizingJSON(all, aim); err != nil {
			return err
		}
	}
	_, err = cmd.OutOrStdout().Write(b)
	return err
}

func (f *simulateFlags) sizeOn(cmd *cobra.Command, c *console.Console, p simulate.Policy, aim simulate.Aim, given bool) (sized, error) {
	unit, err := f.hardware.unit(cmd, c)
	if err != nil {
		return sized{}, err
	}
	config, _, err := f.config(cmd, unit)
	if err != nil {
		return sized{gpu: unit.GPU, err: err}, nil
	}
	config.Policy, config.Series = p, 0
	if f.prefillTP == 0 && !cmd.Flags().Changed("tp") {
		config.Prefill.TP = 0 // as the aim needs
	}
	t, err := f.traffic(&config, cmd.Flags().Changed("hit"))
	if err != nil {
		return sized{}, err
	}
	x := sized{gpu: unit.GPU, price: unit.GPU.USDHour, only: given}
	if cmd.Flags().Changed("price-gpu-hour") {
		x.price = f.prices.GPUHour
	}
	if !given {
		x.Sized, x.err = simulate.Smallest(config, t, aim, x.price)
		return x, nil
	}
	x.Sized, x.err = simulate.Check(config, t, aim, f.fleet, x.price)
	return x, nil
}

// kept says how a fleet did.
func kept(t *simulate.Trial, a *simulate.Aim) (ttft, tpot, verdict string) {
	switch {
	case t.Fleet.Prefill == 0:
		return "", "", "there is no unit less"
	case t.Unstable:
		return "unstable", "", fmt.Sprintf("does not: carries %.0f/s", t.ServedPerSecond)
	case t.Holds:
		verdict = "holds"
	case t.TTFTAim > a.TTFT && t.TPOTAim > a.TPOT:
		verdict = "does not: both are late"
	case t.TTFTAim > a.TTFT:
		verdict = "does not: first tokens are late"
	default:
		verdict = "does not: tokens are late"
	}
	ttft, tpot = human.Duration(t.TTFTAim), milli(t.TPOTAim)
	return ttft, tpot, verdict
}

func (f *simulateFlags) sizingTable(all []sized, a simulate.Aim) []byte {
	b := &bytes.Buffer{}
	fmt.Fprintf(b, "%g requests a second, %.4g%% of them with their first token within %s and each further one within %s\n\n", a.Rate, 100*a.Percentile, human.Duration(a.TTFT), milli(a.TPOT))
	g := human.Table{}
	percentile := fmt.Sprintf("p%.4g", 100*a.Percentile)
	g.Add("", "prefill units", "decode units", "prefill TP", "GPUs", "prefill : decode", "TTFT "+percentile, "TPOT "+percentile, "goodput/s", "$/GPU hour", "$ a million tokens", "aim")
	for i := range all {
		x := &all[i]
		if x.err != nil {
			g.Add(x.gpu.Name, "", "", "", "", "", "", "", "", "", "", x.err.Error())
			continue
		}
		row := func(name string, t *simulate.Trial, gpus string, usd string) {
			ttft, tpot, verdict := kept(t, &a)
			if t.Fleet.Prefill == 0 {
				return
			}
			good := fmt.Sprintf("%.0f", t.GoodPerSecond)
			if t.Unstable || !t.Holds {
				good = ""
			}
			g.Add(name, fmt.Sprint(t.Fleet.Prefill), fmt.Sprint(t.Fleet.Decode), fmt.Sprint(t.PrefillTP), gpus, fmt.Sprintf("%.2f", float64(t.Fleet.Prefill)/float64(t.Fleet.Decode)), ttft, tpot, good, fmt.Sprintf("%.2f", x.price), usd, verdict)
		}
		row(x.gpu.Name, &x.Trial, fmt.Sprint(x.GPUs), fmt.Sprintf("%.3f", x.USDPerMillion))
		if !x.only {
			row("one prefill unit less", &x.LessPrefill, "", "")
			row("one decode unit less", &x.LessDecode, "", "")
		}
	}
	g.Write(b, "  ")
	b.WriteString("\nEach fleet was simulated as a whole, on the same requests. Decode units are as full at the start as they stay. GPU prices are assumptions; --price-gpu-hour sets one for all.\n")
	return b.Bytes()
}
