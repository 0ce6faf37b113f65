// Command probe is the least library in Go that C can call: where a tool does not
// run it, it says nothing about moelb's.
package main

import "C"

import "runtime"

// probe waits for a goroutine, and profiles that: so Go's runtime surely reads the
// processor's clock, which else it does only where threads contend for a lock, with
// an instruction that not every valgrind knows.
//
//export probe
func probe(n C.int) C.int {
	runtime.SetBlockProfileRate(1)
	next := make(chan C.int)
	go func() { next <- n + 1 }()
	return <-next
}

func main() {}
