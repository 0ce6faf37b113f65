package main

// #include <stdlib.h>
import "C"

// Added to the library, this leaks on purpose. It takes many blocks, since what
// stays of an address on a stack keeps one from being called a leak.
func init() {
	for range 100 {
		C.malloc(64)
	}
}
