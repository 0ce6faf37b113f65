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
	// 32 GPUs, 58 layers, 256 experts in 288 slots a layer
	// in service:    imbalance 1.0002 over the GPUs in service, 0 moves
	// GPU 5 fails:   imbalance 1.0100 over the GPUs in service, 1772 moves
	//   428 experts that had no other copy are back after 47 rounds
	//   all 1772 copies take 58 rounds, 0.06 s
	//   planned anew it would be 15568 moves for 1.0002
	// GPU 5 is back: imbalance 1.0100 over the GPUs in service, 1617 moves
	//   all 1617 copies take 366 rounds, 0.36 s
}
