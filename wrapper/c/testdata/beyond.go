package main

// #include <stdlib.h>
import "C"

import "unsafe"

// Added to the library, this writes beyond what C gave it, on purpose.
func init() {
	p := C.malloc(8)
	*(*byte)(unsafe.Add(p, 8)) = 1
	C.free(p)
}
