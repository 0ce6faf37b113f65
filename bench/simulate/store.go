package simulate

// store is the external store of prefixes: blocks by name, the longest unused
// thrown out first.
type store struct {
	capacity int
	at       map[int64]int32
	block    []int64
	next     []int32 // towards less recent
	prev     []int32
	head     int32 // most recent; -1 = empty
	tail     int32
}

func newStore(capacity int) *store {
	return &store{capacity: capacity, at: map[int64]int32{}, head: -1, tail: -1}
}

// match is how many leading blocks the store holds; they count as used.
func (s *store) match(blocks []int64) int {
	for i, b := range blocks {
		at, ok := s.at[b]
		if !ok {
			return i
		}
		s.unlink(at)
		s.push(at)
	}
	return len(blocks)
}

// add keeps blocks.
func (s *store) add(blocks []int64) {
	for _, b := range blocks {
		at, ok := s.at[b]
		switch {
		case ok:
			s.unlink(at)
		case len(s.at) < s.capacity:
			at = int32(len(s.block))
			s.block, s.next, s.prev = append(s.block, b), append(s.next, -1), append(s.prev, -1)
		default:
			at = s.tail
			s.unlink(at)
			delete(s.at, s.block[at])
			s.block[at] = b
		}
		s.at[b] = at
		s.push(at)
	}
}

func (s *store) unlink(i int32) {
	p, n := s.prev[i], s.next[i]
	if p >= 0 {
		s.next[p] = n
	} else {
		s.head = n
	}
	if n >= 0 {
		s.prev[n] = p
	} else {
		s.tail = p
	}
}

func (s *store) push(i int32) {
	s.prev[i], s.next[i] = -1, s.head
	if s.head >= 0 {
		s.prev[s.head] = i
	}
	s.head = i
	if s.tail < 0 {
		s.tail = i
	}
}
