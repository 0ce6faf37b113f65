package ledger

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/moelb/moelb/bench/workload"
	"github.com/moelb/moelb/decode"
	"github.com/moelb/moelb/internal/long"
)

// TestUnitsLikeOne: three units in a pool, told apart, waste as little as with one
// ledger that takes all their ranks for one unit's; their steps take the same, and a
// token no longer for how requests are shared out.
func TestUnitsLikeOne(t *testing.T) {
	sizes, seeds := [][]int{{48, 32, 24}}, 1
	if long.Tests() {
		sizes, seeds = [][]int{{16, 12, 8}, {48, 32, 24}, {64, 48, 32}, {32, 32, 32}}, 3
	}
	for _, units := range sizes {
		var apart, one fare
		for seed := range uint64(seeds) {
			apart.add(poolOf(t, seed, true, units))
			one.add(poolOf(t, seed, false, units))
		}
		apart.mean(seeds)
		one.mean(seeds)
		t.Logf("units of %v: waste %.2f%%, a token %.2f%% longer than if all were even, steps apart by %.1f%% at most; as one: %.2f%%, %.2f%%, %.1f%%",
			units, 100*apart.waste, 100*apart.token, 100*apart.apart, 100*one.waste, 100*one.token, 100*one.apart)
		if apart.waste > one.waste+0.003 || apart.token > one.token+0.003 {
			t.Errorf("units of %v waste more than .3 points more than as one", units)
		}
		if apart.apart > 0.06 {
			t.Errorf("the steps of units of %v differ by %.1f%%", units, 100*apart.apart)
		}
	}
}

// fare is how a pool fared.
type fare struct {
	waste float64 // mean share of a unit's step for which its mean rank waits
	token float64 // by what share the mean token takes longer than were all ranks even
	apart float64 // by what share a unit's step was longer than another's, at most
}

func (f *fare) add(x fare) {
	f.waste, f.token, f.apart = f.waste+x.waste, f.token+x.token, max(f.apart, x.apart)
}

func (f *fare) mean(n int) {
	f.waste, f.token = f.waste/float64(n), f.token/float64(n)
}

// poolOf has a ledger place a closed loop of requests on units of so many ranks, which
// make their steps together; apart = it knows which is whose.
func poolOf(t *testing.T, seed uint64, apart bool, units []int) fare {
	const (
		step          = 48 * time.Millisecond
		batch, fill   = 88, 64
		warm, measure = 200, 300
	)
	type job struct{ rank, kv, output int }
	now := time.Unix(1e9, 0)
	d, err := NewDecode(decode.Config{KVCapacity: []int64{550_000}}, step, Config{Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	var candidates []Candidate
	for u, n := range units {
		for g := range n {
			c := Candidate{Name: Name{Name: fmt.Sprintf("unit-%d-rank-%03d", u, g)}}
			if apart {
				c.Unit = fmt.Sprint(u)
			}
			candidates = append(candidates, c)
		}
	}
	load := workload.ScaleInputs(workload.Chat(20_000, seed), 4989)
	rng := rand.New(rand.NewPCG(seed, 3))
	kv, count := make([]int, len(candidates)), make([]int, len(candidates))
	ends := map[int][]*job{}
	var all fare
	for at := range warm + measure {
		due := len(ends[at])
		for _, j := range ends[at] {
			d.End(j, Finished, int64(j.output))
			kv[j.rank] -= j.kv + j.output
			count[j.rank]--
		}
		if at < fill {
			due += len(kv) * batch / fill
		}
		for range due {
			q := load[rng.IntN(len(load))]
			j := &job{kv: max(q.Input, 16), output: max(q.Output, 2)}
			if at < fill {
				j.output = 2 + rng.IntN(j.output) // somewhere in its life
			}
			if j.rank, err = d.Pick(j, decode.Request{KV: int64(j.kv)}, candidates); err != nil || j.rank < 0 {
				t.Fatalf("request on rank %d: %v", j.rank, err)
			}
			d.Sent(j)
			kv[j.rank] += j.kv
			count[j.rank]++
			ends[at+j.output] = append(ends[at+j.output], j)
		}
		for g := range kv {
			kv[g] += count[g]
		}
		now = now.Add(step)
		if at >= warm {
			f := fareOf(kv, count, units)
			f.waste, f.token = f.waste/measure, f.token/measure
			all.add(f)
		}
	}
	return all
}

// fareOf is that of one step.
func fareOf(kv, count, units []int) (f fare) {
	c := decode.DeepSeekV3H800()
	seconds := func(kv, count float64) float64 { return c.Step + c.KV*kv + c.Request*count }
	least, most, tokens := 0.0, 0.0, 0.0
	kvAll, countAll, from := 0, 0, 0
	for _, n := range units {
		mostKV, mostCount, sumKV, sumCount := 0, 0, 0, 0
		for g := from; g < from+n; g++ {
			mostKV, mostCount = max(mostKV, kv[g]), max(mostCount, count[g])
			sumKV, sumCount = sumKV+kv[g], sumCount+count[g]
		}
		from, kvAll, countAll = from+n, kvAll+sumKV, countAll+sumCount
		took := seconds(float64(mostKV), float64(mostCount))
		even := seconds(float64(sumKV)/float64(n), float64(sumCount)/float64(n))
		f.waste += (took - even) / took / float64(len(units))
		tokens += took * float64(sumCount)
		if least == 0 || took < least {
			least = took
		}
		most = max(most, took)
	}
	n := float64(len(kv))
	f.token = tokens/float64(countAll)/seconds(float64(kvAll)/n, float64(countAll)/n) - 1
	f.apart = most/least - 1
	return f
}
