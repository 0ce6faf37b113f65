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
	// GPU 5 fails:   imbalance 1.0099 over the GPUs in service, 1773 moves
	//   428 experts that had no other copy are back after 43 rounds
	//   all 1773 copies take 58 rounds, 0.06 s
	//   planned anew it would be 15568 moves for 1.0002
	// GPU 5 is back: imbalance 1.0099 over the GPUs in service, 1521 moves
	//   all 1521 copies take 387 rounds, 0.38 s
}
