package deepseek

import "math/bits"

// The published program sorts with torch.sort, which on a CPU is std::sort of
// the GNU C++ library. That sort is not stable: equal loads come out in an
// order of its own making, which decides on what GPU a replica lands. This is
// that sort, exchange for exchange, for keys compared by their upper 32 bits.

const (
	byLoad  = uint64(0xffffffff) << 32 // the bits that are compared
	fewKeys = 16                       // segments up to that length are left to the insertion sort
)

// introsort sorts keys by their upper 32 bits. Cost: O(n·log n).
func introsort(key []uint64) {
	if len(key) > fewKeys {
		introsortLoop(key, 2*(bits.Len(uint(len(key)))-1))
	}
	// The segments left are short and in order; insertion keeps equal keys as they are.
	for i := 1; i < len(key); i++ {
		k, j := key[i], i
		for ; j > 0 && key[j-1] > k|^byLoad; j-- {
			key[j] = key[j-1]
		}
		key[j] = k
	}
}

// introsortLoop partitions down to short segments; what is not short after
// depth partitions is sorted by a heap.
func introsortLoop(key []uint64, depth int) {
	for ; len(key) > fewKeys; depth-- {
		if depth == 0 {
			heapsort(key)
			return
		}
		cut := partition(key)
		introsortLoop(key[cut:], depth-1)
		key = key[:cut]
	}
}

// partition takes the median of the second, the middle and the last key as
// pivot, exchanges it with the first and splits the others about it: keys from
// cut on are not less than the pivot, those before not greater.
func partition(key []uint64) (cut int) {
	n := len(key)
	a, b, c := key[1]&byLoad, key[n/2]&byLoad, key[n-1]&byLoad
	median := n / 2
	switch {
	case a < b && b < c:
	case a < b && a < c, a >= b && a >= c && b < c:
		median = n - 1
	case a < b, a >= b && a < c:
		median = 1
	}
	key[0], key[median] = key[median], key[0]
	pivot := key[0] & byLoad
	for i, j := 1, n; ; i++ {
		for key[i]&byLoad < pivot {
			i++
		}
		for j--; pivot < key[j]&byLoad; {
			j--
		}
		if i >= j {
			return i
		}
		key[i], key[j] = key[j], key[i]
	}
}

// heapsort sorts by a heap with the greatest key on top.
func heapsort(key []uint64) {
	for i := len(key)/2 - 1; i >= 0; i-- {
		sink(key, i, key[i])
	}
	for n := len(key) - 1; n > 0; n-- {
		k := key[n]
		key[n] = key[0]
		sink(key[:n], 0, k)
	}
}

// sink puts k into the heap at the hole: the hole goes down to a leaf along the
// greater children, the right one of equals, and k from there up.
func sink(heap []uint64, hole int, k uint64) {
	top := hole
	for 2*hole+2 < len(heap) {
		child := 2*hole + 2
		if heap[child]&byLoad < heap[child-1]&byLoad {
			child--
		}
		heap[hole] = heap[child]
		hole = child
	}
	if 2*hole+2 == len(heap) {
		heap[hole] = heap[2*hole+1]
		hole = 2*hole + 1
	}
	for hole > top && heap[(hole-1)/2] < k&byLoad {
		heap[hole] = heap[(hole-1)/2]
		hole = (hole - 1) / 2
	}
	heap[hole] = k
}
