package schedule

import (
	"errors"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/moelb/moelb/internal/long"
	"github.com/moelb/moelb/placement"
)

// TestScheduleRandomPlans runs 10,000 random changes.
func TestScheduleRandomPlans(t *testing.T) {
	const seed = 1
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds, bound := 0, 0
	plans := 10_000
	if !long.Tests() {
		plans = 2000
	}
	for i := range plans {
		big := 4
		if i%10 == 0 {
			big = 9
		}
		prev, next, topology, o := randomPlan(rng, big)
		s, err := New(&prev, &next, topology, o)
		if err == nil {
			err = execute(&s, &prev, &next, topology, o)
		}
		if err != nil {
			t.Fatalf("seed %d, plan %d: %v\n%+v\n%+v\n%+v\n%+v\n%+v", seed, i, err, topology, o, prev, next, s)
		}
		rounds, bound = rounds+len(s.Rounds), bound+s.RoundsBound
	}
	t.Logf("%d rounds, bound %d: %.3f", rounds, bound, float64(rounds)/float64(bound))
}

// TestSchedulePermutations: where no expert has a second copy and no slot is
// free, a layer takes as many rounds as its busiest GPU receives experts, not
// one more.
func TestSchedulePermutations(t *testing.T) {
	const seed = 2
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 2000 {
		gpus, each := 2+rng.IntN(16), 1+rng.IntN(9)
		prev := placement.Trivial(1, gpus*each, gpus*each, gpus)
		next := prev.Clone()
		rng.Shuffle(gpus*each, func(i, j int) {
			row := next.PhysicalToLogical[0]
			row[i], row[j] = row[j], row[i]
		})
		topology := placement.Topology{GPUs: gpus, NVLink: 160e9, RDMA: 45e9}
		o := Options{ExpertBytes: 1e7}
		s, err := New(&prev, &next, topology, o)
		if err == nil {
			err = execute(&s, &prev, &next, topology, o)
		}
		most := 0
		for g := range gpus {
			n := 0
			for j := g * each; j < (g+1)*each; j++ {
				if next.PhysicalToLogical[0][j]/each != g {
					n++
				}
			}
			most = max(most, n)
		}
		if err != nil || s.RoundsBound != max(most, min(1, len(s.Rounds))) || len(s.Rounds) != s.RoundsBound {
			t.Fatalf("seed %d, case %d: %d rounds, bound %d, busiest GPU %d: %v\n%v\n%v", seed, i, len(s.Rounds), s.RoundsBound, most, err, prev, next)
		}
	}
}

// TestScheduleByHand holds small schedules against what can be seen by eye.
func TestScheduleByHand(t *testing.T) {
	one := func(gpus int, row ...int) placement.Placement {
		return placement.Placement{Experts: 1 + slices.Max(row), GPUs: gpus, PhysicalToLogical: [][]int{row}}
	}
	unit := placement.Topology{GPUs: 4, Nodes: 2, NVLink: 4e9, RDMA: 1e9}
	dead := unit
	dead.Speed = []float64{1, 0, 1, 1}
	mv := func(expert, from, to int) placement.Move {
		return placement.Move{Expert: expert, From: from, To: to}
	}
	for _, x := range []struct {
		name       string
		t          placement.Topology
		prev, next placement.Placement
		rounds     [][]placement.Move
		seconds    float64
		restore    int
	}{
		{"nothing", unit, one(4, 0, 1, 2, 3), one(4, 0, 1, 2, 3), nil, 0, 0},
		{"an exchange within a node", unit, one(4, 0, 1, 2, 3), one(4, 1, 0, 2, 3),
			[][]placement.Move{{mv(1, 1, 0), mv(0, 0, 1)}}, .25, 0},
		{"a ring through both nodes", unit, one(4, 0, 1, 2, 3), one(4, 3, 0, 1, 2),
			[][]placement.Move{{mv(3, 3, 0), mv(0, 0, 1), mv(1, 1, 2), mv(2, 2, 3)}}, 1, 0},
		{"slots of one GPU", unit, one(4, 0, 1, 2, 3, 4, 5, 6, 7), one(4, 1, 0, 2, 3, 4, 5, 6, 7),
			[][]placement.Move{{mv(1, 1, 0), mv(0, 0, 1)}}, 0, 0},
		// Expert 0 is on GPUs 0 and 2: GPU 3 reads it on its own node.
		{"the nearer holder", unit, one(4, 0, 1, 0, 1), one(4, 0, 1, 0, 0), // expert 1 stays on GPU 1
			[][]placement.Move{{mv(0, 2, 3)}}, .25, 0},
		{"a copy on a dead GPU and one elsewhere", dead, one(4, 0, 1, 1, 2), one(4, 0, -1, 1, 2),
			[][]placement.Move{{mv(-1, -1, 1)}}, 0, 0},
		{"the only copy on a dead GPU", dead, one(4, 0, 1, 0, 2), one(4, 0, -1, 1, 2),
			[][]placement.Move{{mv(-1, -1, 1), mv(1, -1, 2)}}, 1, 1},
		{"a slot that is emptied", unit, one(4, 0, 0, 1, 2), one(4, 0, -1, 1, 2),
			[][]placement.Move{{mv(-1, -1, 1)}}, 0, 0},
	} {
		o := Options{ExpertBytes: 1e9}
		s, err := New(&x.prev, &x.next, x.t, o)
		if err == nil {
			err = execute(&s, &x.prev, &x.next, x.t, o)
		}
		var got [][]placement.Move
		for _, r := range s.Rounds {
			got = append(got, r.Moves)
		}
		if err != nil || !slices.EqualFunc(got, x.rounds, slices.Equal[[]placement.Move]) || s.Seconds != x.seconds || s.Restore != x.restore {
			t.Errorf("%s: %v, %v s, %d restore, %v: want %v, %v s, %d", x.name, got, s.Seconds, s.Restore, err, x.rounds, x.seconds, x.restore)
		}
	}
}

// TestChainsAlwaysEnd: chains alone, without a matching before them, lead from
// any placement to any other, in every round at least one move.
func TestChainsAlwaysEnd(t *testing.T) {
	const seed = 6
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 3000 {
		prev, next, topology, _ := randomPlan(rng, 6)
		o := Options{PerGPU: 1, RDMAPerGPU: 1}
		s, err := newScheduler(&prev, &next, &topology, o)
		if err != nil {
			t.Fatal(err)
		}
		s.begin(0)
		for l, y := range slices.Clone(s.layers) {
			for !y.ended {
				y.serveRequests(0)
				y.settle()
				y.emit()
				if r := s.finish(); len(r.Moves) == 0 {
					t.Fatalf("seed %d, case %d: layer %d is stuck at %v, to be %v", seed, i, l, y.cur, y.fin)
				}
			}
			if !slices.Equal(y.cur, y.fin) {
				t.Fatalf("seed %d, case %d: layer %d ends as %v, not %v", seed, i, l, y.cur, y.fin)
			}
		}
	}
}

// TestScheduleWorth: what is worth most a copy comes first, one layer at a time.
func TestScheduleWorth(t *testing.T) {
	prev := placement.Trivial(3, 4, 4, 4)
	next := prev.Clone()
	next.PhysicalToLogical[0] = []int{1, 0, 2, 3}
	next.PhysicalToLogical[1] = []int{1, 2, 3, 0}
	next.PhysicalToLogical[2] = []int{0, 1, 3, 2}
	s, err := New(&prev, &next, placement.Topology{GPUs: 4}, Options{LayersAtOnce: 1, Worth: []float64{2, 5, 3}})
	if err != nil || len(s.Rounds) != 2 {
		t.Fatal(s, err)
	}
	for i, l := range []int{2, 1} { // 3/2, 5/4 a copy; 2/2 in the first round, which it finishes too
		if s.Rounds[i].Moves[0].Layer != l {
			t.Errorf("round %d moves layer %d, want %d", i, s.Rounds[i].Moves[0].Layer, l)
		}
	}
	if s.Priced || s.Seconds != 0 || s.SecondsBound != 0 {
		t.Errorf("seconds without bandwidths: %+v", s)
	}
	// Two layers share a round where they use different GPUs.
	s, err = New(&prev, &next, placement.Topology{GPUs: 4}, Options{})
	if err != nil || len(s.Rounds) != 2 || s.RoundsBound != 2 {
		t.Errorf("%+v, %v: want 2 rounds", s, err)
	}
}

// TestScheduleRenamed: the names of GPUs within a node, and of nodes, are but
// names. Ties are broken by them, so the rounds may differ, but not by much;
// bounds may not differ at all.
func TestScheduleRenamed(t *testing.T) {
	const seed = 3
	rng := rand.New(rand.NewPCG(seed, 0))
	rounds, renamed := 0, 0
	for i := range 500 {
		prev, next, topology, o := randomPlan(rng, 5)
		name := rng.Perm(topology.NodeCount())
		per := topology.GPUs / topology.NodeCount()
		var old []int // GPU that each new one was
		for _, n := range name {
			for _, g := range rng.Perm(per) {
				old = append(old, n*per+g)
			}
		}
		first := prev.FirstSlots()
		rename := func(p placement.Placement) placement.Placement {
			q := placement.Placement{Experts: p.Experts, GPUs: p.GPUs}
			for _, g := range old {
				q.GPUSlots = append(q.GPUSlots, p.GPUSlots[g])
			}
			for _, row := range p.PhysicalToLogical {
				var r []int
				for _, g := range old {
					r = append(r, row[first[g]:first[g+1]]...)
				}
				q.PhysicalToLogical = append(q.PhysicalToLogical, r)
			}
			return q
		}
		t2 := topology
		if t2.Speed != nil {
			t2.Speed = nil
			for _, g := range old {
				t2.Speed = append(t2.Speed, topology.Speed[g])
			}
		}
		p2, n2 := rename(prev), rename(next)
		a, err := New(&prev, &next, topology, o)
		if err != nil {
			t.Fatal(err)
		}
		b, err := New(&p2, &n2, t2, o)
		if err == nil {
			err = execute(&b, &p2, &n2, t2, o)
		}
		if err != nil {
			t.Fatal(err)
		}
		if a.RoundsBound != b.RoundsBound || a.SecondsBound != b.SecondsBound || a.Moves != b.Moves || (a.Restore > 0) != (b.Restore > 0) {
			t.Fatalf("seed %d, case %d: renamed, %d rounds, %v s, %d moves, %d to restore are %d, %v, %d, %d", seed, i,
				a.RoundsBound, a.SecondsBound, a.Moves, a.Restore, b.RoundsBound, b.SecondsBound, b.Moves, b.Restore)
		}
		rounds, renamed = rounds+len(a.Rounds), renamed+len(b.Rounds)
	}
	if d := float64(rounds)/float64(renamed) - 1; math.Abs(d) > .02 {
		t.Errorf("%d rounds, renamed %d", rounds, renamed)
	}
}

// TestScheduleApplyAndPrefix holds both against a run of the moves.
func TestScheduleApplyAndPrefix(t *testing.T) {
	const seed = 4
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 500 {
		prev, next, topology, o := randomPlan(rng, 4)
		s, err := New(&prev, &next, topology, o)
		if err != nil {
			t.Fatal(err)
		}
		for k := range len(s.Rounds) + 2 {
			q, err := s.Apply(&prev, k)
			if err != nil {
				t.Fatalf("seed %d, case %d: %v", seed, i, err)
			}
			p := s.Prefix(k)
			half, err := p.Apply(&prev, k)
			if err != nil {
				t.Fatalf("seed %d, case %d: %v", seed, i, err)
			}
			if k < s.Restore {
				continue
			}
			if k > 0 || topology.Speed == nil {
				if err := q.Validate(); err != nil {
					t.Fatalf("seed %d, case %d: after %d rounds: %v", seed, i, k, err)
				}
			}
			if err := half.Validate(); err != nil {
				t.Fatalf("seed %d, case %d: a prefix of %d rounds: %v", seed, i, k, err)
			}
			for l, row := range half.PhysicalToLogical {
				before, gpu := slices.Clone(prev.PhysicalToLogical[l]), s.GPUOf()
				for slot := range before {
					if k > 0 && slices.Contains(s.Dead, gpu[slot]) {
						before[slot] = -1
					}
				}
				if s.Restore == 0 && !slices.Equal(row, before) && !slices.Equal(row, next.PhysicalToLogical[l]) {
					t.Fatalf("seed %d, case %d: a prefix of %d rounds leaves layer %d half-moved", seed, i, k, l)
				}
			}
			if k >= len(s.Rounds) && !slices.EqualFunc(q.PhysicalToLogical, next.PhysicalToLogical, slices.Equal[[]int]) {
				t.Fatalf("seed %d, case %d: all rounds do not lead to next", seed, i)
			}
		}
		if len(s.Rounds) > 0 && topology.Speed == nil {
			if q, err := s.Apply(&next, len(s.Rounds)); err == nil && !slices.EqualFunc(q.PhysicalToLogical, next.PhysicalToLogical, slices.Equal[[]int]) {
				t.Fatalf("seed %d, case %d: applied to another placement without an error", seed, i)
			}
		}
	}
}

func TestScheduleBadInput(t *testing.T) {
	for _, x := range []struct {
		spoil func(prev, next *placement.Placement, t *placement.Topology, o *Options)
		kind  error
		want  string
	}{
		{func(p, n *placement.Placement, _ *placement.Topology, _ *Options) { p.GPUs = 0 }, placement.ErrValue, "num_gpus: 0: between 1 and 65536 are supported"},
		{func(p, n *placement.Placement, _ *placement.Topology, _ *Options) {
			n.PhysicalToLogical = n.PhysicalToLogical[:1]
		}, placement.ErrShape, "previous: 2 layers, 4 experts, but the next placement has 1, 4"},
		{func(_, _ *placement.Placement, t *placement.Topology, _ *Options) { t.GPUs = 8 }, placement.ErrShape, "num_gpus: the topology has 8, but the placements 4 and 4: it describes the GPUs of both"},
		{func(_, _ *placement.Placement, t *placement.Topology, _ *Options) {
			t.Speed = []float64{1, 1, 0, 1}
		}, placement.ErrFit,
			"physical_to_logical_map: layer 0: the next placement has an expert on GPU 2, which is out of service"},
		{func(_, _ *placement.Placement, _ *placement.Topology, o *Options) { o.PerGPU = -1 }, placement.ErrValue, "per_gpu: -1: between 0 and 9.223372036854776e+18 is possible"},
		{func(_, _ *placement.Placement, _ *placement.Topology, o *Options) { o.RDMAPerGPU = -1 }, placement.ErrValue, "rdma_per_gpu: -1: between 0 and 9.223372036854776e+18 is possible"},
		{func(_, _ *placement.Placement, _ *placement.Topology, o *Options) { o.LayersAtOnce = -2 }, placement.ErrValue, "layers_at_once: -2: between 0 and 9.223372036854776e+18 is possible"},
		{func(_, _ *placement.Placement, _ *placement.Topology, o *Options) { o.ExpertBytes = -1 }, placement.ErrValue, "expert_bytes: -1: between 0 and 6.8719476736e+10 is possible"},
		{func(_, _ *placement.Placement, _ *placement.Topology, o *Options) { o.Worth = []float64{1} }, placement.ErrShape, "worth: 1 entries for 2 layers"},
		{func(_, _ *placement.Placement, _ *placement.Topology, o *Options) {
			o.Worth = []float64{1, math.NaN()}
		}, placement.ErrValue, "worth: layer 1: not a finite number"},
	} {
		prev := placement.Trivial(2, 4, 4, 4)
		next, topology, o := prev.Clone(), placement.Topology{GPUs: 4}, Options{}
		x.spoil(&prev, &next, &topology, &o)
		if _, err := New(&prev, &next, topology, o); !errors.Is(err, x.kind) || err.Error() != x.want {
			t.Errorf("got %v, want %s", err, x.want)
		}
	}
	huge := Options{PerGPU: math.MaxInt, RDMAPerGPU: math.MaxInt, LayersAtOnce: math.MaxInt, ExpertBytes: maxExpertBytes}
	prev := placement.Trivial(1, 4, 4, 4)
	next := prev.Clone()
	next.PhysicalToLogical[0] = []int{1, 2, 3, 0}
	if s, err := New(&prev, &next, placement.Topology{GPUs: 4}, huge); err != nil || len(s.Rounds) != 1 {
		t.Error(s, err)
	}
}

// FuzzSchedule draws a plan from a seed and runs its schedule.
func FuzzSchedule(f *testing.F) {
	f.Add(uint64(1), uint8(3))
	f.Fuzz(func(t *testing.T, seed uint64, big uint8) {
		prev, next, topology, o := randomPlan(rand.New(rand.NewPCG(seed, 1)), 1+int(big)%12)
		s, err := New(&prev, &next, topology, o)
		if err == nil {
			err = execute(&s, &prev, &next, topology, o)
		}
		if err != nil {
			t.Fatalf("%v\n%+v\n%+v\n%+v\n%+v", err, topology, o, prev, next)
		}
	})
}

// Left to itself a schedule opens as many layers as bring its rounds near their bound,
// or nearly as any number of them would.
func TestLayersAtOnceByItself(t *testing.T) {
	more := 0
	for _, seed := range []uint64{4, 7, 9, 10} {
		rng := rand.New(rand.NewPCG(seed, 41))
		const layers, gpus, each, experts = 160, 64, 2, 100
		prev := placement.Trivial(layers, experts, gpus*each, gpus)
		next := prev.Clone()
		for _, row := range next.PhysicalToLogical { // two random GPUs exchange all, in two rounds
			for done := false; !done; {
				i, j := each*rng.IntN(gpus), each*rng.IntN(gpus)
				a, b := row[i:i+each], row[j:j+each]
				if done = !slices.Contains(a, b[0]) && !slices.Contains(a, b[1]); done {
					a[0], a[1], b[0], b[1] = b[0], b[1], a[0], a[1]
				}
			}
		}
		unit := placement.Topology{GPUs: gpus, Nodes: 2}
		rounds := func(atOnce int) (int, int) {
			s, err := New(&prev, &next, unit, Options{LayersAtOnce: atOnce})
			if err != nil {
				t.Fatal(err)
			}
			return len(s.Rounds), s.RoundsBound
		}
		auto, bound := rounds(0)
		eight, _ := rounds(8)
		if eight > auto {
			more++
		}
		if 10*auto <= 11*bound {
			continue
		}
		for _, k := range []int{8, 16, 32, 64, 96} {
			if n, _ := rounds(k); 20*auto > 21*n {
				t.Errorf("seed %d: %d rounds, %d with %d layers at once", seed, auto, n, k)
			}
		}
	}
	if more < 2 {
		t.Errorf("%d cases where more than 8 layers help: they tell nothing", more)
	}
}

// Slots of one GPU change places in one round, however many hold the same expert.
func TestSettlesInOneRound(t *testing.T) {
	for name, c := range map[string][2][]int{
		"slots are filled before others exchange with them": {{0, 1, 6, 2, 0, 4, 7, 0, 5, 2, 1, 3, -1, 4, 5, 4}, {1, 5, 0, 2, 3, -1, 4, 6, 4, 0, 0, 2, 7, 1, 4, 5}},
		"one may only go once another has":                  {{3, 1, 0, 4, 2, 5, 1, 5, -1, 5, 2, 6, 4, 4, 3}, {6, 3, 2, 3, 4, 0, 4, -1, 6, 4, 1, 5, 1, 5, 0}},
		"what slots took in exchange goes with them":        {{3, 1, 7, 0, 2, 5, 3, 9, 8, 0, 4, 9, 6, 8}, {7, 6, 0, 1, 4, 9, 2, 8, 5, 3}},
	} {
		experts := slices.Max(c[0]) + 1
		prev := placement.Placement{Experts: experts, GPUs: 1, PhysicalToLogical: [][]int{c[0]}}
		next := placement.Placement{Experts: experts, GPUs: 1, PhysicalToLogical: [][]int{c[1]}}
		for _, inPlace := range []bool{false, true} {
			s, err := New(&prev, &next, placement.Topology{GPUs: 1}, Options{InPlace: inPlace})
			if err != nil || len(s.Rounds) != 1 {
				t.Errorf("%s, in place %v: %d rounds, %v; want 1", name, inPlace, len(s.Rounds), err)
			}
		}
	}
}

// The first rounds of a schedule in place, without the layers that they leave unfinished,
// are run in the order of their moves as well: what is staged still is.
func TestPrefixInPlace(t *testing.T) {
	rng := rand.New(rand.NewPCG(71, 0))
	staged := 0
	for i := range 300 {
		prev, next, topology, o := randomPlan(rng, 5)
		o.InPlace = true
		s, err := New(&prev, &next, topology, o)
		if err != nil {
			t.Fatal(err)
		}
		for k := range len(s.Rounds) {
			cut := s.Prefix(k)
			now := prev.Clone().PhysicalToLogical
			for n, r := range cut.Rounds {
				read := make([]int, len(r.Moves)) // of those that are staged
				for _, x := range r.Staged {
					m := r.Moves[x]
					read[x] = now[m.Layer][m.From]
				}
				for _, late := range [2]bool{false, true} {
					for x, m := range r.Moves {
						if slices.Contains(r.Staged, x) != late {
							continue
						}
						got := m.Expert
						if late {
							got = read[x]
							staged++
						} else if m.From >= 0 {
							got = now[m.Layer][m.From]
						}
						if got != m.Expert {
							t.Fatalf("case %d, %d rounds, round %d: %+v reads %d", i, k, n, m, got)
						}
						now[m.Layer][m.To] = m.Expert
					}
				}
			}
		}
	}
	if staged < 100 {
		t.Errorf("%d moves are staged", staged)
	}
}
