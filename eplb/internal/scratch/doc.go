// Package scratch plans a layer from scratch where experts may live anywhere, or
// must be in two domains: seeds of packings and counts, exhaustive search of small
// layers, and annealing as long as it pays; for several windows, a joint search.
package scratch
