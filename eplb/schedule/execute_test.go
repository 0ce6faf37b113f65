package schedule

import (
	"fmt"
	"math"
	"slices"

	"github.com/moelb/moelb/placement"
)

// executor runs schedules by their contract alone: it knows nothing of how
// rounds are made.
type executor struct {
	t    placement.Topology
	o    Options
	s    *Schedule
	gpu  []int
	dead []bool
	gone []bool // leaving
	from [][]int
	to   [][]int
	now  [][]int

	copies, outside, emptied int
	half                     int // layers half-moved after the last round
	seconds                  float64
}

// execute returns the first breach of a schedule from prev to next.
func execute(s *Schedule, prev, next *placement.Placement, t placement.Topology, o Options) error {
	x := &executor{t: t, o: o, s: s, dead: make([]bool, t.GPUs), gone: make([]bool, t.GPUs)}
	a, b := prev.FirstSlots(), next.FirstSlots()
	for g := range t.GPUs {
		x.dead[g] = t.SpeedOf(g) == 0 && !slices.Contains(o.Leaving, g)
		x.gone[g] = !x.dead[g] && (g >= next.GPUs || t.SpeedOf(g) == 0)
	}
	for l := range prev.PhysicalToLogical {
		var from, to []int
		for g := range t.GPUs {
			var p, n []int
			if g < prev.GPUs {
				p = prev.PhysicalToLogical[l][a[g]:a[g+1]]
			}
			if g < next.GPUs {
				n = next.PhysicalToLogical[l][b[g]:b[g+1]]
			}
			for i := range max(len(p), len(n)) {
				e, f := -1, -1
				if i < len(p) {
					e = p[i]
				}
				if i < len(n) {
					f = n[i]
				}
				from, to = append(from, e), append(to, f)
				if l == 0 {
					x.gpu = append(x.gpu, g)
				}
			}
		}
		x.from, x.to, x.now = append(x.from, from), append(x.to, to), append(x.now, slices.Clone(from))
	}
	for i := range s.Rounds {
		if err := x.round(i); err != nil {
			return fmt.Errorf("round %d: %w", i, err)
		}
	}
	return x.end(prev)
}

func (x *executor) round(i int) error {
	r := &x.s.Rounds[i]
	if len(r.Moves) == 0 {
		return fmt.Errorf("no moves")
	}
	start := make([][]int, len(x.now))
	for l, row := range x.now {
		start[l] = slices.Clone(row)
	}
	staged := map[int]int{} // index of a move, and what it has read
	stage := make([]int, x.t.GPUs)
	if x.o.InPlace {
		for _, k := range r.Staged {
			m := r.Moves[k]
			if m.From < 0 {
				return fmt.Errorf("%+v is staged, but reads no slot", m)
			}
			staged[k] = start[m.Layer][m.From]
			stage[x.gpu[m.To]]++
		}
	} else if r.Staged != nil {
		return fmt.Errorf("moves of their own are staged")
	}
	written := map[[2]int]bool{}
	type gl struct{ gpu, link int }
	sent, got := map[gl]int{}, map[gl]int{}
	to, from := map[[2]int]bool{}, map[[2]int]bool{}
	late := map[[2]int]int{}
	for k, m := range r.Moves {
		g, slot := x.gpu[m.To], [2]int{m.Layer, m.To}
		if written[slot] {
			return fmt.Errorf("%+v writes a slot again", m)
		}
		written[slot] = true
		if x.from[m.Layer][m.To] == x.to[m.Layer][m.To] && !x.dead[g] && !(x.gone[g] && m.Expert < 0) {
			return fmt.Errorf("%+v writes a slot that keeps its expert", m)
		}
		if !x.o.InPlace && m.Expert >= 0 {
			stage[g]++
		}
		var read int
		switch {
		case m.Expert < 0:
			if m.From != -1 || x.dead[g] && i != 0 {
				return fmt.Errorf("%+v", m)
			}
		case x.dead[g] || x.gone[g] && g >= len(x.s.After):
			return fmt.Errorf("%+v writes to a GPU that leaves", m)
		case m.From < 0:
			for q, e := range start[m.Layer] {
				if e == m.Expert && !x.dead[x.gpu[q]] {
					return fmt.Errorf("%+v is loaded, but slot %d holds it", m, q)
				}
			}
			if i >= x.s.Restore {
				return fmt.Errorf("%+v is loaded, but only %d rounds restore", m, x.s.Restore)
			}
			link := 1
			if x.o.Outside > 0 {
				link = 2
			}
			got[gl{g, link}]++
			x.copies++
			x.outside++
		default:
			h := x.gpu[m.From]
			if x.dead[h] {
				return fmt.Errorf("%+v reads a dead GPU", m)
			}
			read = start[m.Layer][m.From]
			if v, ok := staged[k]; ok {
				read = v
			} else if x.o.InPlace {
				read = x.now[m.Layer][m.From]
			}
			if read != m.Expert {
				return fmt.Errorf("%+v reads a slot that holds %d", m, read)
			}
			if h != g {
				link := 1
				if x.t.Node(h) == x.t.Node(g) {
					link = 0
				}
				sent[gl{h, link}]++
				got[gl{g, link}]++
				to[[2]int{h, g}], from[[2]int{g, h}] = true, true
				x.copies++
			}
		}
		if _, ok := staged[k]; ok {
			late[slot] = m.Expert
		} else {
			x.now[m.Layer][m.To] = m.Expert
		}
	}
	for slot, e := range late {
		x.now[slot[0]][slot[1]] = e
	}
	return x.limits(i, func(g, link int) (int, int) { return sent[gl{g, link}], got[gl{g, link}] }, stage, to, from, start)
}

// limits checks what a round took, and the placement after it.
func (x *executor) limits(i int, count func(g, link int) (sent, got int), stage []int, to, from map[[2]int]bool, start [][]int) error {
	r, o := &x.s.Rounds[i], &x.o
	perGPU, atOnce := max(1, o.PerGPU), o.LayersAtOnce
	if atOnce == 0 {
		atOnce = len(x.now)
	}
	took, mostStaged, mostPeers := 0.0, 0, 0
	for g := range x.t.GPUs {
		sent, got := 0, 0
		for link, b := range []float64{x.t.NVLink, x.t.RDMA, o.Outside} {
			s, r := count(g, link)
			sent, got = sent+s, got+r
			if max(s, r) > 0 {
				took = max(took, float64(max(s, r))*float64(o.ExpertBytes)/b)
			}
			if link == 1 && o.RDMAPerGPU > 0 && max(s, r) > o.RDMAPerGPU {
				return fmt.Errorf("GPU %d sends %d and receives %d over RDMA: at most %d", g, s, r, o.RDMAPerGPU)
			}
		}
		if max(sent, got) > perGPU {
			return fmt.Errorf("GPU %d sends %d and receives %d: at most %d", g, sent, got, perGPU)
		}
		if o.StagedBytes > 0 && int64(stage[g])*o.ExpertBytes > o.StagedBytes {
			return fmt.Errorf("GPU %d stages %d experts: at most %d bytes", g, stage[g], o.StagedBytes)
		}
		mostStaged = max(mostStaged, stage[g])
		for _, pairs := range []map[[2]int]bool{to, from} {
			n := 0
			for p := range pairs {
				if p[0] == g {
					n++
				}
			}
			if o.PeersPerGPU > 0 && n > o.PeersPerGPU {
				return fmt.Errorf("GPU %d has %d peers: at most %d", g, n, o.PeersPerGPU)
			}
			mostPeers = max(mostPeers, n)
		}
	}
	switch {
	case math.Abs(took-r.Seconds) > 1e-12*took:
		return fmt.Errorf("takes %v s, not %v", took, r.Seconds)
	case r.StagedBytes != int64(mostStaged)*o.ExpertBytes || r.StagedBytes > x.s.StagedBytes:
		return fmt.Errorf("stages %d experts, not %d of %d bytes", mostStaged, r.StagedBytes, x.s.StagedBytes)
	case r.Peers != mostPeers || r.Peers > x.s.Peers:
		return fmt.Errorf("%d peers, not %d of %d", mostPeers, r.Peers, x.s.Peers)
	}
	x.seconds += took
	half, full := 0, true
	for l, row := range x.now {
		alive := make([]bool, 0, 8)
		for slot, e := range start[l] { // what lived lives
			if e >= 0 && !x.dead[x.gpu[slot]] && !x.lives(l, e) {
				return fmt.Errorf("loses the last copy of expert %d of layer %d", e, l)
			}
		}
		begun, ended := false, true
		for slot, e := range row {
			g := x.gpu[slot]
			if x.dead[g] {
				if e >= 0 {
					return fmt.Errorf("leaves layer %d, slot %d on a dead GPU", l, slot)
				}
				continue
			}
			begun = begun || e != x.from[l][slot]
			ended = ended && e == x.to[l][slot]
			full = full && !(x.gone[g] && e >= 0)
			for len(alive) <= e {
				alive = append(alive, false)
			}
			if e >= 0 {
				alive[e] = true
			}
		}
		if begun && !ended {
			half++
		}
		for e := range x.experts(l) {
			if (e >= len(alive) || !alive[e]) && i+1 >= x.s.Restore {
				return fmt.Errorf("leaves expert %d of layer %d without a copy", e, l)
			}
		}
	}
	if full && x.emptied == 0 {
		x.emptied = i + 1
	}
	if half > max(atOnce, x.half) && i >= x.s.forced() {
		return fmt.Errorf("leaves %d layers half-moved, after %d: at most %d", half, x.half, atOnce)
	}
	x.half = half
	return nil
}

func (x *executor) lives(l, expert int) bool {
	for slot, e := range x.now[l] {
		if e == expert && !x.dead[x.gpu[slot]] {
			return true
		}
	}
	return false
}

// experts is those of a layer: its end holds all.
func (x *executor) experts(l int) int { return slices.Max(x.to[l]) + 1 }

// end checks what the schedule says of itself.
func (x *executor) end(prev *placement.Placement) error {
	s := x.s
	for l, row := range x.now {
		for slot, e := range row {
			if e != x.to[l][slot] {
				return fmt.Errorf("layer %d ends as %v, not %v", l, row, x.to[l])
			}
		}
	}
	needed, twice := 0, false
	for l := range x.to {
		for g := range x.t.GPUs {
			have, want := map[int]int{}, map[int]int{}
			for slot, q := range x.gpu {
				if q != g {
					continue
				}
				if e := x.from[l][slot]; e >= 0 && !x.dead[g] {
					have[e]++
				}
				if e := x.to[l][slot]; e >= 0 {
					want[e]++
				}
			}
			for e, n := range want {
				twice = twice || n > 1
				needed += max(0, n-have[e])
			}
		}
	}
	leave := slices.Contains(x.gone, true)
	switch {
	case x.copies > needed || x.copies < needed && !twice:
		return fmt.Errorf("%d copies, but the change needs %d", x.copies, needed)
	case x.copies != s.Moves || x.outside != s.Outside || s.Bytes != int64(x.copies)*x.o.ExpertBytes:
		return fmt.Errorf("%d copies, %d from outside, not %d and %d (%d bytes)", x.copies, x.outside, s.Moves, s.Outside, s.Bytes)
	case !s.Priced || math.Abs(x.seconds-s.Seconds) > 1e-9*x.seconds:
		return fmt.Errorf("%v s, not %v (%v)", x.seconds, s.Seconds, s.Priced)
	case s.RoundsBound > len(s.Rounds) || s.RoundsBound == 0 && len(s.Rounds) > 0:
		return fmt.Errorf("%d rounds are below the bound of %d", len(s.Rounds), s.RoundsBound)
	case s.SecondsBound > s.Seconds*(1+1e-9):
		return fmt.Errorf("%v s is below the bound of %v", s.Seconds, s.SecondsBound)
	case leave && len(s.Rounds) > 0 && s.Emptied != x.emptied && s.Emptied > 0, !leave && s.Emptied != 0:
		return fmt.Errorf("leaving GPUs are empty after %d rounds, not %d", x.emptied, s.Emptied)
	}
	return nil
}
