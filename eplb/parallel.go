package eplb

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// inParallel calls do for 0..n-1, workers at a time (0 = GOMAXPROCS). Every
// worker makes a do of its own, with the memory that it needs. A panic of do ends
// the call like one of the caller's own, so that it can be recovered there.
func inParallel(workers, n int, worker func() (do func(i int))) {
	if workers == 0 {
		workers = runtime.GOMAXPROCS(0)
	}
	var next atomic.Int64
	var failed atomic.Value
	work := func() {
		defer func() {
			if r := recover(); r != nil {
				failed.CompareAndSwap(nil, fmt.Sprintf("%v\n%s", r, debug.Stack()))
			}
		}()
		do := worker()
		for i := next.Add(1); i <= int64(n); i = next.Add(1) {
			do(int(i) - 1)
		}
	}
	var wg sync.WaitGroup
	for range min(workers, n) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	if r := failed.Load(); r != nil {
		panic(r)
	}
}
