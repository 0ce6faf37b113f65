package main

import (
	"sync"
	"sync/atomic"
)

// lastHandle is shared by all kinds of handles: none is mistaken for another.
var lastHandle atomic.Uint64

// handles are the values that C holds by number. A number is never used twice,
// so that one that was released is not mistaken for another.
type handles[T any] struct {
	mu   sync.Mutex
	open map[uint64]T
}

func (h *handles[T]) add(v T) uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open == nil {
		h.open = map[uint64]T{}
	}
	handle := lastHandle.Add(1)
	h.open[handle] = v
	return handle
}

func (h *handles[T]) get(handle uint64) (T, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	v, ok := h.open[handle]
	return v, ok
}

// release forgets a handle. Whoever still uses its value may finish.
func (h *handles[T]) release(handle uint64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, ok := h.open[handle]
	delete(h.open, handle)
	return ok
}
