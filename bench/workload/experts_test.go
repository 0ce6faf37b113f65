package workload

import (
	"encoding/binary"
	"flag"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moelb/moelb/placement"
)

// skew is the largest of x over its mean, and its coefficient of variation.
func skew(x []float64) (most, cv float64) {
	var sum, squares float64
	for _, v := range x {
		sum += v
		squares += v * v
		most = max(most, v)
	}
	n := float64(len(x))
	mean := sum / n
	return most / mean, math.Sqrt(squares/n-mean*mean) / mean
}

// TestExpertsAreAsSkewedAsPublished holds the generator, averaged over seeds,
// against the figures published for DeepSeek-R1 on 32 GPUs (TensorRT-LLM's
// report on wide expert parallelism).
func TestExpertsAreAsSkewedAsPublished(t *testing.T) {
	m := placement.DeepSeekV3()
	const seeds = 40
	var hottest, cv, rank, rankCV float64
	ranks := make([]float64, m.Layers) // mean imbalance of 32 GPUs, by layer
	for seed := range seeds {
		for l, row := range Experts(m, uint64(seed)) {
			gpus := make([]float64, 32)
			for e, v := range row {
				gpus[e*len(gpus)/len(row)] += v
			}
			a, b := skew(row)
			c, d := skew(gpus)
			n := float64(seeds * m.Layers)
			hottest, cv, rank, rankCV = hottest+a/n, cv+b/n, rank+c/n, rankCV+d/n
			ranks[l] += c / seeds
		}
	}
	for _, x := range []struct {
		what            string
		got, want, near float64
	}{
		{"expert max/mean", hottest, 11.9, .03},
		{"expert CV", cv, 1.28, .04},
		{"GPU max/mean", rank, 2.56, .03},
		{"GPU CV", rankCV, .48, .03},
		{"GPU max/mean, layer 3", ranks[0], 1.50, .07},
		{"GPU max/mean, layer 4", ranks[1], 1.50, .07},
		{"GPU max/mean, layer 5", ranks[2], 1.50, .07},
		{"GPU max/mean, layer 58", ranks[55], 3.46, .07},
		{"GPU max/mean, layer 59", ranks[56], 1.72, .07},
		{"GPU max/mean, layer 60", ranks[57], 2.12, .07},
	} {
		t.Logf("%-22s %6.3f, published %5.2f", x.what, x.got, x.want)
		if math.Abs(x.got/x.want-1) > x.near {
			t.Errorf("%s is %.3f: published %.2f, want within %.0f%%", x.what, x.got, x.want, 100*x.near)
		}
	}
}

func TestExpertsRouteEveryToken(t *testing.T) {
	for _, m := range placement.Models() {
		loads := Experts(m, 1)
		if err := loads.Validate(); err != nil {
			t.Fatal(err)
		}
		if len(loads) != m.Layers || loads.Experts() != m.Experts {
			t.Fatalf("%s: %d layers of %d experts", m.Name, len(loads), loads.Experts())
		}
		for l, row := range loads {
			sum := 0.0
			for e, v := range row {
				if v != math.Trunc(v) || v > tokensALayer {
					t.Errorf("%s: layer %d, expert %d: %v of %d tokens", m.Name, l, e, v, tokensALayer)
				}
				sum += v
			}
			if sum != float64(m.TopK*tokensALayer) {
				t.Errorf("%s: layer %d: %v tokens for %d routed", m.Name, l, sum, m.TopK*tokensALayer)
			}
		}
	}
}

func TestZipfFollowsItsLaw(t *testing.T) {
	loads := Zipf(200, 256, 1.2, 1e6, 7)
	var total, hottest, share float64
	for _, row := range loads {
		for _, v := range row {
			if v < 1 || v != math.Trunc(v) {
				t.Fatalf("%v is no whole number of tokens", v)
			}
			total += v / 200
		}
		most, _ := skew(row)
		hottest += most / 256 / 200
	}
	for k := 1; k <= 256; k++ {
		share += math.Pow(float64(k), -1.2)
	}
	if math.Abs(total-1e6) > 50 {
		t.Errorf("%v tokens a layer, want 10^6 but for rounding", total)
	}
	// The first share is 1/share of all; the lognormal factor moves it a little
	// both ways, and up on average.
	if want := 1 / share; hottest < want*.95 || hottest > want*1.15 {
		t.Errorf("the hottest expert gets %.3f of all, want about %.3f", hottest, want)
	}
}

var update = flag.Bool("update", false, "write the golden files anew")

// TestGeneratorsNeverChange pins every token: figures quoted for a seed hold
// only as long as the seed gives the same loads, on every platform.
func TestGeneratorsNeverChange(t *testing.T) {
	var got strings.Builder
	for _, x := range []struct {
		name  string
		loads placement.Loads
	}{
		{"deepseek-v3, seed 1", Experts(placement.DeepSeekV3(), 1)},
		{"deepseek-v2-lite, seed 2", Experts(placement.DeepSeekV2Lite(), 2)},
		{"zipf 0.8, seed 1", Zipf(58, 256, .8, 1e6, 1)},
		{"zipf 1.2, seed 1", Zipf(58, 256, 1.2, 1e6, 1)},
	} {
		for l, row := range x.loads {
			h, sum, hot := fnv.New32a(), 0.0, 0
			for e, v := range row {
				h.Write(binary.LittleEndian.AppendUint32(nil, uint32(v)))
				if sum += v; v > row[hot] {
					hot = e
				}
			}
			fmt.Fprintf(&got, "%s, layer %d: %v tokens, %v of them to expert %d, checksum %08x\n", x.name, l, sum, row[hot], hot, h.Sum32())
		}
	}
	const file = "testdata/loads.golden"
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got.String(), "\n")); d != "" {
		t.Errorf("%s (-update writes it anew):\n%s", file, d)
	}
	if a, b := Experts(placement.DeepSeekV3(), 1), Experts(placement.DeepSeekV3(), 3); a[0][0] == b[0][0] && a[0][1] == b[0][1] {
		t.Error("another seed gives the same loads")
	}
}

func TestExactFunctions(t *testing.T) {
	for i := -700; i <= 700; i++ {
		x := float64(i) / 100
		if got, want := exp(x), math.Exp(x); math.Abs(got/want-1) > 3e-14 {
			t.Errorf("exp(%v) = %v, want %v", x, got, want)
		}
		y := math.Exp(x * 3)
		if got, want := log(y), math.Log(y); math.Abs(got-want) > 3e-14*(1+math.Abs(want)) {
			t.Errorf("log(%v) = %v, want %v", y, got, want)
		}
	}
}
