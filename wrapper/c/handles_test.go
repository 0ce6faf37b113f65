package main

import (
	"sync"
	"testing"
)

func TestHandles(t *testing.T) {
	var h handles[int]
	if _, ok := h.get(0); ok {
		t.Error("0 is a handle")
	}
	a, b := h.add(1), h.add(2)
	if v, ok := h.get(a); !ok || v != 1 || a == 0 || a == b {
		t.Errorf("handle %d holds %d, %v; the next is %d", a, v, ok, b)
	}
	if !h.release(a) || h.release(a) {
		t.Error("a handle is released once")
	}
	if _, ok := h.get(a); ok {
		t.Error("a released handle is open")
	}
	if c := h.add(3); c == a || c == b {
		t.Errorf("handle %d was used before", c)
	}
	if h.release(1 << 60) {
		t.Error("released what was never open")
	}
}

func TestHandlesOfManyThreads(t *testing.T) {
	var h handles[int]
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range 1000 {
				n := h.add(i)
				if v, ok := h.get(n); !ok || v != i || !h.release(n) {
					t.Errorf("handle %d holds %d, %v: want %d", n, v, ok, i)
				}
			}
		})
	}
	wg.Wait()
	if len(h.open) != 0 {
		t.Errorf("%d handles are left open", len(h.open))
	}
}
