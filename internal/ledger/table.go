package ledger

// Table maps callers' ids to slots: open addressing with linear probing, at most
// half full, so that a find, an add and a remove are a few loads each and
// allocate only when the table grows. The zero Table is empty.
type Table struct {
	keys  []uint64
	slots []int32 // -1 = free
	n     int
}

// home is where a key's search begins.
func (t *Table) home(key uint64) int {
	h := key * 0x9e3779b97f4a7c15
	return int(uint32(h>>32)) & (len(t.slots) - 1)
}

// Len returns how many keys there are.
func (t *Table) Len() int { return t.n }

// Find returns a key's slot; -1 = unknown.
func (t *Table) Find(key uint64) int32 {
	if t.n == 0 {
		return -1
	}
	for i := t.home(key); t.slots[i] >= 0; i = (i + 1) & (len(t.slots) - 1) {
		if t.keys[i] == key {
			return t.slots[i]
		}
	}
	return -1
}

// Add enters a key that the table does not hold. The slot must not be negative.
func (t *Table) Add(key uint64, slot int32) {
	if 2*(t.n+1) > len(t.slots) {
		t.grow()
	}
	i := t.home(key)
	for t.slots[i] >= 0 {
		i = (i + 1) & (len(t.slots) - 1)
	}
	t.keys[i], t.slots[i] = key, slot
	t.n++
}

func (t *Table) grow() {
	keys, slots := t.keys, t.slots
	size := max(64, 2*len(slots))
	t.keys, t.slots, t.n = make([]uint64, size), make([]int32, size), 0
	for i := range t.slots {
		t.slots[i] = -1
	}
	for i, s := range slots {
		if s >= 0 {
			t.Add(keys[i], s)
		}
	}
}

// Remove takes out a key that the table holds, and moves up the keys behind it
// that would no longer be found.
func (t *Table) Remove(key uint64) {
	mask := len(t.slots) - 1
	i := t.home(key)
	for t.keys[i] != key || t.slots[i] < 0 {
		i = (i + 1) & mask
	}
	for j := (i + 1) & mask; t.slots[j] >= 0; j = (j + 1) & mask {
		if h := t.home(t.keys[j]); (j-h)&mask >= (j-i)&mask {
			t.keys[i], t.slots[i] = t.keys[j], t.slots[j]
			i = j
		}
	}
	t.slots[i] = -1
	t.n--
}
