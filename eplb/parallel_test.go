package eplb

import (
	"strings"
	"sync/atomic"
	"testing"
)

func TestPanicReachesTheCaller(t *testing.T) {
	for _, workers := range []int{1, 4} {
		var done atomic.Int64
		func() {
			defer func() {
				r := recover()
				if text, ok := r.(string); !ok || !strings.HasPrefix(text, "item 3\n") || !strings.Contains(text, "parallel_test.go") {
					t.Errorf("%d workers: recovered %v, not item 3 with its stack", workers, r)
				}
			}()
			inParallel(workers, 100, func() func(i int) {
				return func(i int) {
					if i == 3 {
						panic("item 3")
					}
					done.Add(1)
				}
			})
			t.Errorf("%d workers: no panic", workers)
		}()
		if workers > 1 && done.Load() != 99 {
			t.Errorf("%d workers: %d items done, want the 99 others", workers, done.Load())
		}
	}
}
