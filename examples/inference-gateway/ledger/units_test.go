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

// TestQuoted: of the units whose steps are alike a request goes where its rank exceeds
// the level least, and of those where it joins the fullest; the others come after, the
// shortest step first.
func TestQuoted(t *testing.T) {
	d, err := NewDecode(decode.Config{}, 0, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var candidates []Candidate
	for g := range 12 {
		candidates = append(candidates, Candidate{Name: Name{Name: fmt.Sprint(g)}, Unit: fmt.Sprint(g % 3)})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	beyond, fuller, longer := 0, 0, 0
	for i := range 2000 {
		r := decode.Request{KV: 100 + int64(20_000*rng.ExpFloat64())}
		if i >= 400 {
			d.End(rng.IntN(i), Finished, 0)
		}
		if i > 0 {
			asked := r
			asked.ID = 1 << 40
			offers, err := d.quoted(asked)
			if err != nil || len(offers) != 3 {
				t.Fatalf("%d offers: %v", len(offers), err)
			}
			least := min(offers[0].Step, offers[1].Step, offers[2].Step)
			for k, o := range offers[1:] {
				before := offers[k]
				switch near, far := before.Step <= (1+alike)*least, o.Step > (1+alike)*least; {
				case !near && (!far || o.Step < before.Step):
					t.Fatalf("%+v before %+v", before.Quote, o.Quote)
				case far:
					longer++
				case o.Beyond < before.Beyond || o.Beyond == before.Beyond && o.KV > before.KV:
					t.Fatalf("%+v before %+v", before.Quote, o.Quote)
				case o.Beyond > before.Beyond:
					beyond++
				case o.KV < before.KV:
					fuller++
				}
			}
		}
		if g, err := d.Pick(i, r, candidates); err != nil || g < 0 {
			t.Fatalf("on %d: %v", g, err)
		}
		d.Sent(i)
	}
	if beyond == 0 || fuller == 0 || longer == 0 {
		t.Errorf("%d were decided by what lies beyond the level, %d by KV use, %d by steps", beyond, fuller, longer)
	}
}

// TestForced: where all endpoints fail one is tried all the same, and all are out of
// service again.
func TestForced(t *testing.T) {
	d, err := NewDecode(decode.Config{}, 0, Config{})
	if err != nil {
		t.Fatal(err)
	}
	candidates := []Candidate{{Name: Name{Name: "a"}}, {Name: Name{Name: "b"}}, {Name: Name{Name: "c"}}}
	for i := range candidates {
		if g, err := d.Pick(i, decode.Request{KV: 100}, candidates); err != nil || g < 0 {
			t.Fatalf("on %d: %v", g, err)
		}
		d.End(i, Failed, 0)
	}
	if g, err := d.Pick("forced", decode.Request{KV: 100}, candidates); err != nil || g < 0 {
		t.Fatalf("on %d: %v", g, err)
	}
	_, unit := d.Stats()
	for g, k := range unit.Ranks {
		if k.State == decode.Serving {
			t.Errorf("rank %d serves", g)
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

// TestBelieve: a load is taken for what a rank can hold, or not at all.
func TestBelieve(t *testing.T) {
	d, err := NewDecode(decode.Config{KVCapacity: []int64{1000}, MaxRequests: 8}, 0, Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		told, taken Load
		believed    bool
	}{
		{Load{Requests: 3, KV: 900}, Load{Requests: 3, KV: 900}, true},
		{Load{Requests: 30, KV: 1900}, Load{Requests: 8, KV: 1000}, true},
		{Load{Requests: 3, KV: 2001}, Load{}, false},
		{Load{Requests: -1}, Load{}, false},
		{Load{Requests: mostBelieve + 1}, Load{}, false},
	} {
		if l := x.told; d.believe(&l) != x.believed || x.believed && l != x.taken {
			t.Errorf("%+v is taken for %+v", x.told, l)
		}
	}
}
