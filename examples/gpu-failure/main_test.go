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
	// GPU 5 fails:   imbalance 1.0099 over the GPUs in service, 1767 moves
	//   428 experts that had no other copy are back after 45 rounds
	//   all 1767 copies take 57 rounds, 0.06 s
	//   planned anew it would be 15568 moves for 1.0002
	// GPU 5 is back: imbalance 1.0098 over the GPUs in service, 1541 moves
	//   all 1541 copies take 367 rounds, 0.36 s
}
