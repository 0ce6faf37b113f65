package schedule

import "slices"

// matching finds, for one layer, copies that run together: each GPU sends at
// most one and receives at most one.
//
// The copies a layer still needs are edges of a bipartite graph from senders to
// receivers. Let d be its largest degree. Padded so that all degrees are d, the
// graph has a perfect matching (König), which serves every GPU with d copies to
// go: as many rounds as the busiest GPU has copies. The padding is chosen such
// that GPUs also have room: a GPU that receives no more than it sends is padded
// with edges to itself, so that it never receives without sending an expert it
// may then drop; the rest joins GPUs that receive more to GPUs that send more.
type matching struct {
	in, out   []int32 // degrees
	from      []int32 // slot that each request is read from; -1 = not in the graph
	first     []bool  // the expert has an edge already
	pad       buckets // senders that each receiver is padded with
	padFrom   []int32
	padTo     []int32
	byDegree  []int32 // receivers
	partner   []int32 // receiver matched to each sender, -1 = none
	via       []int32 // and the request, -1 = padding
	seen      []int32 // the search for a sender that tried each last
	tries     int32
	receivers []int32
	got       []int32 // request each receiver is served, -1 = none
	gave      []int32 // spare slot that its sender reads, -1 = none
	vacated   []int32 // slot each receiver vacates, -1 = none
	d         int32
}

func (m *matching) init(gpus, experts int) {
	cells := make([]int32, 7*gpus)
	for _, p := range []*[]int32{&m.in, &m.out, &m.partner, &m.via, &m.got, &m.gave, &m.vacated} {
		*p, cells = cells[:gpus:gpus], cells[gpus:]
	}
	m.first = make([]bool, experts)
	m.seen = make([]int32, gpus)
	m.pad.first = make([]int32, gpus+1)
}

// matchPass serves one matching of the layer's requests and says whether it
// served any.
func (s *scheduler) matchPass() bool {
	m := &s.match
	s.edges()
	if m.d == 0 {
		return false
	}
	s.padGraph()
	for g := range s.gpus {
		m.partner[g], m.via[g], m.got[g], m.gave[g], m.vacated[g] = -1, -1, -1, -1, -1
	}
	for _, g := range m.byDegree {
		if m.tries++; m.tries == 1<<30 {
			m.tries = 1
			clear(m.seen)
		}
		s.augment(g)
	}
	m.receivers = m.receivers[:0]
	for h, r := range m.via {
		if m.partner[h] < 0 || r < 0 {
			continue
		}
		g := m.partner[h]
		m.receivers = append(m.receivers, g)
		m.got[g] = r
		s.copies[s.req[r].expert]++
		if from := m.from[r]; slices.Contains(s.spare.of(int32(h)), from) {
			m.gave[h] = from
		}
	}
	s.makeRoom()
	served := false
	for _, g := range m.receivers {
		if r := m.got[g]; r >= 0 {
			s.deliver(r, m.from[r], m.vacated[g])
			served = true
		}
	}
	return served
}

// edges chooses where each request would be read and counts the degrees. An
// expert with one holder is read there once; more often only while that makes
// the holder no busier than the busiest receiver, because later the new copies
// can be read too.
func (s *scheduler) edges() {
	m := &s.match
	m.from = slices.Grow(m.from[:0], len(s.req))[:len(s.req)]
	clear(m.in)
	clear(m.out)
	clear(m.first)
	for i := range s.req {
		m.from[i] = -1
		if q := &s.req[i]; !q.done {
			m.in[q.gpu]++
		}
	}
	busiest := slices.Max(m.in)
	clear(m.in)
	for pass := range 3 {
		for i := range s.req {
			q := &s.req[i]
			hold := s.hold.of(q.expert)
			if q.done || m.from[i] >= 0 || len(hold) == 0 {
				continue
			}
			if pass == 0 && (len(hold) > 1 || m.first[q.expert]) || pass == 1 && len(hold) == 1 {
				continue
			}
			best := s.leastBusy(q, hold, busiest)
			if g := s.gpuOf[best]; !m.first[q.expert] || m.out[g] < busiest {
				m.from[i] = best
				m.first[q.expert] = true
				m.out[g]++
				m.in[q.gpu]++
			}
		}
	}
	m.d = 0
	for g := range m.in {
		m.d = max(m.d, m.in[g], m.out[g])
	}
}

// leastBusy is the slot to read: on the request's node unless that makes a GPU
// the busiest, else on the GPU with the least to send, ties to the node, then
// to the lowest.
func (s *scheduler) leastBusy(q *request, hold []int32, busiest int32) int32 {
	m := &s.match
	near, any := int32(-1), int32(-1)
	for _, h := range hold {
		out, same := m.out[s.gpuOf[h]], s.node[s.gpuOf[h]] == s.node[q.gpu]
		if same && (near < 0 || out < m.out[s.gpuOf[near]]) {
			near = h
		}
		if any < 0 || out < m.out[s.gpuOf[any]] {
			any = h
		}
	}
	if near >= 0 && (m.out[s.gpuOf[near]] < busiest || m.out[s.gpuOf[near]] == m.out[s.gpuOf[any]]) {
		return near
	}
	return any
}

// padGraph pairs GPUs that receive more than they send with GPUs that send
// more, and lists the receivers, those with the most copies to go first.
func (s *scheduler) padGraph() {
	m := &s.match
	m.padFrom, m.padTo, m.byDegree = m.padFrom[:0], m.padTo[:0], m.byDegree[:0]
	for g := range s.gpus {
		in, out := m.in[g], m.out[g]
		for range in - out {
			m.padFrom = append(m.padFrom, int32(g))
		}
		for range out - in {
			m.padTo = append(m.padTo, int32(g))
		}
		if in+out > 0 {
			m.byDegree = append(m.byDegree, int32(g))
		}
	}
	m.pad.fill(m.padTo)
	slices.SortStableFunc(m.byDegree, func(a, b int32) int {
		return int(max(m.in[b], m.out[b]) - max(m.in[a], m.out[a]))
	})
}

// augment looks for a sender for receiver g, taking it from another receiver
// that has a choice. Copies come before padding.
func (s *scheduler) augment(g int32) bool {
	m := &s.match
	for _, r := range s.reqOf.of(g) {
		if from := m.from[r]; from >= 0 {
			if h := int32(s.gpuOf[from]); s.open(h, g) && s.take(g, h, r) {
				return true
			}
		}
	}
	if max(m.in[g], m.out[g]) < m.d && s.take(g, g, -1) {
		return true
	}
	for _, i := range m.pad.of(g) {
		if s.take(g, m.padFrom[i], -1) {
			return true
		}
	}
	return false
}

// take matches sender h to g if h is free or its receiver finds another.
func (s *scheduler) take(g, h, r int32) bool {
	m := &s.match
	if m.seen[h] == m.tries {
		return false
	}
	m.seen[h] = m.tries
	if m.partner[h] >= 0 && !s.augment(m.partner[h]) {
		return false
	}
	m.partner[h], m.via[h] = g, r
	return true
}

// makeRoom finds a slot for what each receiver is to get and cancels what has
// none, until every expert has a copy at the round's end.
func (s *scheduler) makeRoom() {
	m := &s.match
	todo := m.byDegree[:0] // its order is no longer needed
	for _, g := range slices.Backward(m.receivers) {
		todo = append(todo, g)
	}
	for len(todo) > 0 {
		g := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		q := &s.req[m.got[g]]
		if slot := s.room(g, q.want, m.gave[g]); slot >= 0 {
			s.vacate(slot)
			m.vacated[g] = slot
			continue
		}
		m.got[g] = -1
		if s.copies[q.expert]--; s.copies[q.expert] > 0 {
			continue
		}
		// A GPU counted on this copy when it gave up its own: it must not.
		for _, h := range m.receivers {
			if slot := m.vacated[h]; slot >= 0 && s.plan[slot] == q.expert {
				s.used[slot] = false
				s.copies[q.expert]++
				m.vacated[h] = -1
				todo = append(todo, h)
				break
			}
		}
	}
}
