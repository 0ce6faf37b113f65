// Command probe is the least library in Go that C can call: where a tool does not
// run it, it says nothing about moelb's.
package main

import "C"

//export probe
func probe(n C.int) C.int { return n + 1 }

func main() {}
