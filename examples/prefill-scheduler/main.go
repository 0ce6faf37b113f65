// Command prefill-scheduler shows a scheduler on package prefill: it takes prompts
// as they arrive, and at each step boundary tells every rank what to compute. What
// would run the steps is printed instead.
package main

import (
	"fmt"
	"io"
	"log"
	"os"

	"github.com/moelb/moelb/prefill"
)

// schedule runs steps until no prompt is left. arrivals[i] are the lengths of the
// prompts that arrive before step i.
func schedule(w io.Writer, unit prefill.Config, arrivals [][]int64) error {
	b, err := prefill.New(unit)
	if err != nil {
		return err
	}
	var id prefill.ID
	var chunks []prefill.Chunk
	for step := 0; step < len(arrivals) || b.Queued() > 0 || len(chunks) > 0; step++ {
		for ; step < len(arrivals) && len(arrivals[step]) > 0; arrivals[step] = arrivals[step][1:] {
			if err := b.Enqueue(prefill.Request{ID: id, Tokens: arrivals[step][0]}); err != nil {
				return err
			}
			id++
		}
		chunks = b.Step(chunks[:0])
		for _, c := range chunks {
			fmt.Fprintf(w, "step %d: rank %d computes %5d tokens of prompt %d, last %v\n", step, c.Rank, c.Tokens, c.ID, c.Last)
		}
	}
	return nil
}

func main() {
	unit := prefill.Config{Ranks: 2, MaxTokens: 8192}
	if err := schedule(os.Stdout, unit, [][]int64{{12000, 300, 500}, {}, {700, 6000}}); err != nil {
		log.Fatal(err)
	}
}
