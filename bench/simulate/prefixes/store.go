// Package prefixes is the store of prompts' prefixes that engines share: blocks by
// name, the longest unused thrown out first.
package prefixes

// Store keeps so many blocks at most. A block costs 32 to 48 bytes, and a look-up
// constant time.
type Store struct {
	capacity int
	table    []cell // where blocks are in nodes, by hash: a power of two, at most half full
	nodes    []node // a list by recency
	head     int32  // most recent; -1 = empty
	tail     int32
}

// cell is a place of the table: the upper half of a block's hash, and where its node
// is, from 1 on; 0 = free.
type cell struct {
	hash uint32
	node int32
}

// node is a block of the store.
type node struct {
	block      int64
	prev, next int32 // towards more recent, and less; -1 = none
}

// New returns an empty store of so many blocks, at least 1 and at most 2^30.
func New(capacity int) *Store {
	return &Store{capacity: capacity, table: make([]cell, 1<<4), head: -1, tail: -1}
}

// hash spreads names of blocks, which may be numbers in order.
func hash(block int64) uint64 {
	x := uint64(block) * 0x9e3779b97f4a7c15
	return (x ^ x>>29) * 0xbf58476d1ce4e5b9
}

// Capacity is how many blocks it keeps.
func (s *Store) Capacity() int { return s.capacity }

// home is where the cells for a hash begin.
func (s *Store) home(hash uint32) int { return int(hash) & (len(s.table) - 1) }

// look is the cell of a block, or the free one where it belongs.
func (s *Store) look(block int64) int {
	h := uint32(hash(block) >> 32)
	i := s.home(h)
	for c := s.table[i]; c.node != 0 && (c.hash != h || s.nodes[c.node-1].block != block); c = s.table[i] {
		i = s.home(uint32(i + 1))
	}
	return i
}

// insert notes where a block is that the table does not have.
func (s *Store) insert(block int64, node int32) {
	if 2*len(s.nodes) > len(s.table) {
		old := s.table
		s.table = make([]cell, 2*len(old))
		for _, c := range old {
			if c.node != 0 {
				s.table[s.look(s.nodes[c.node-1].block)] = c
			}
		}
	}
	s.table[s.look(block)] = cell{uint32(hash(block) >> 32), node + 1}
}

// remove forgets where a block is, and closes the gap before the cells behind it.
func (s *Store) remove(block int64) {
	gap := s.look(block)
	for i := gap; ; {
		i = s.home(uint32(i + 1))
		c := s.table[i]
		if c.node == 0 {
			break
		}
		if mask := len(s.table) - 1; (i-s.home(c.hash))&mask >= (i-gap)&mask {
			s.table[gap], gap = c, i
		}
	}
	s.table[gap] = cell{}
}

// find is where a block is, if it is. guess is where it may be, -1 = unknown: blocks
// that follow each other were mostly used one after the other.
func (s *Store) find(block int64, guess int32) (int32, bool) {
	if guess >= 0 && s.nodes[guess].block == block {
		return guess, true
	}
	at := s.table[s.look(block)].node - 1
	return at, at >= 0
}

// use makes the block there the most recent, and returns the one that was used next
// after it before.
func (s *Store) use(at int32) (after int32) {
	after = s.nodes[at].prev
	if after >= 0 {
		s.unlink(at)
		s.push(at)
	}
	return after
}

// apart keeps the blocks of a copy apart from those of another: an odd number near
// 2^64 divided by the golden ratio.
const apart = 0x9e3779b97f4a7c15

// name is a block's in a copy of the trace that names it.
func name(block, copy int64) int64 { return int64(uint64(block) + uint64(copy)*apart) }

// Match is how many leading blocks, of a copy of their trace, the store holds; they
// count as used.
func (s *Store) Match(blocks []int64, copy int64) int {
	guess := int32(-1)
	for i, b := range blocks {
		at, ok := s.find(name(b, copy), guess)
		if !ok {
			return i
		}
		guess = s.use(at)
	}
	return len(blocks)
}

// Add keeps blocks, the last one as the most recent.
func (s *Store) Add(blocks []int64, copy int64) {
	guess := int32(-1)
	for _, b := range blocks {
		b = name(b, copy)
		if at, ok := s.find(b, guess); ok {
			guess = s.use(at)
			continue
		}
		guess = -1
		at := int32(len(s.nodes))
		if len(s.nodes) < s.capacity {
			s.nodes = append(s.nodes, node{})
		} else {
			at = s.tail
			s.unlink(at)
			s.remove(s.nodes[at].block)
		}
		s.nodes[at].block = b
		s.insert(b, at)
		s.push(at)
	}
}

func (s *Store) unlink(i int32) {
	n := s.nodes[i]
	if n.prev >= 0 {
		s.nodes[n.prev].next = n.next
	} else {
		s.head = n.next
	}
	if n.next >= 0 {
		s.nodes[n.next].prev = n.prev
	} else {
		s.tail = n.prev
	}
}

func (s *Store) push(i int32) {
	s.nodes[i].prev, s.nodes[i].next = -1, s.head
	if s.head >= 0 {
		s.nodes[s.head].prev = i
	}
	s.head = i
	if s.tail < 0 {
		s.tail = i
	}
}
