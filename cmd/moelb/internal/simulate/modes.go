package simulate

import (
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/moelb/moelb/cmd/moelb/internal/console"
)

// only refuses every flag that was given and would change nothing of what is asked
// for: allowed are those that do, and why says what the others are not for.
func only(cmd *cobra.Command, asked, why string, allowed ...string) error {
	var err error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && !slices.Contains(allowed, f.Name) {
			err = console.Usagef("--%s does not go with %s: %s", f.Name, asked, why)
		}
	})
	return err
}

// refused is an error about a quantity, naming the flag that gave it: where that one was
// left out, the one that it follows from.
func refused(cmd *cobra.Command, err error) error {
	quantity, why, _ := strings.Cut(err.Error(), ": ")
	name := strings.NewReplacer(" ", "-", "_", "-").Replace(quantity)
	for _, x := range [][2]string{{"queries", "mtp"}, {"rate", "rps"}, {"ttft", "slo-ttft"}, {"tpot", "slo-tpot"}} {
		if name == x[0] {
			name = x[1]
		}
	}
	for _, x := range [][2]string{{"imbalance-attention", "imbalance-kv"}, {"imbalance-tokens", "imbalance-requests"}} {
		if name == x[0] && cmd.Flags().Changed(x[1]) {
			name = x[1]
		}
	}
	for _, x := range [][2]string{{"nodes", "gpus"}, {"tp", "slice-experts"}} {
		if name == x[0] && !cmd.Flags().Changed(name) && cmd.Flags().Changed(x[1]) {
			name = x[1]
		}
	}
	if cmd.Flags().Lookup(name) == nil {
		return console.Usage(err)
	}
	return console.Usagef("--%s: %s", name, why)
}

// The flags that are of a piece.
var (
	policyFlags   = []string{"prefill-policy", "decode-policy", "experts-policy"}
	hardwareFlags = []string{"model", "model-file", "gpu", "gpu-file", "overlap", "expert-bits", "kv-bits", "tp"}
	priceFlags    = []string{"price-gpu-hour", "price-hit", "price-miss", "price-output"}
	tokenFlags    = []string{"nodes-per-token", "gpus-per-token", "copies-off-node"}
	// runFlags are those of a system that runs requests.
	runFlags = slices.Concat(hardwareFlags, policyFlags, tokenFlags, []string{"trace", "block-tokens", "scenario", "data", "rps", "seconds", "decode-units", "prefill-units", "prefill-tp", "mtp", "acceptance", "hit", "max-tokens", "max-requests", "seed", "price-gpu-hour", "json"})
)

// suits refuses the flags that would change nothing of what the others ask for.
func (f *simulateFlags) suits(cmd *cobra.Command, aimed bool) error {
	changed := cmd.Flags().Changed
	switch {
	case f.trace != "" && changed("scenario"):
		return console.Usagef("--trace and --scenario exclude each other")
	case aimed:
		if err := only(cmd, "--slo-ttft, --slo-tpot and --slo-percentile", "a fleet is looked for, at --rps requests a second", append([]string{"slo-ttft", "slo-tpot", "slo-percentile"}, runFlags...)...); err != nil {
			return err
		}
	case f.scenario == deepSeekScenario:
		return only(cmd, "--scenario "+deepSeekScenario, "it reckons with published rates and simulates nothing; the same day simulated is --scenario "+livedScenario, slices.Concat(hardwareFlags, priceFlags, []string{"scenario", "json"})...)
	case f.scenario == livedScenario:
		return only(cmd, "--scenario "+livedScenario, "the day has its own fleet, system and demand; --scenario "+dayScenario+" is one of your own", append([]string{"scenario", "data", "spread", "seconds", "seed", "json"}, policyFlags...)...)
	default:
		if err := only(cmd, "a comparison of policies", "it is for --scenario "+deepSeekScenario+" or "+livedScenario, append([]string{"load", "fail", "html"}, runFlags...)...); err != nil {
			return err
		}
	}
	switch {
	case changed("data") && f.scenario != serveGenScenario:
		return console.Usagef("--data: only with --scenario %s or %s", serveGenScenario, livedScenario)
	case changed("acceptance") && f.queries == 1:
		return console.Usagef("--acceptance: only with --mtp above 1: of one token a step none can be refused")
	}
	return nil
}
