package main

import (
	"log"
	"os"
)

func Example() {
	if err := run(os.Stdout); err != nil {
		log.Fatal(err)
	}
	// Output:
	// in turns:  first tokens after 2.61 s (median), 75.15 s (99%); a step takes the decode units 32 39 55 ms
	// by quotes: first tokens after 0.21 s (median), 4.14 s (99%); a step takes the decode units 34 34 53 ms
}
