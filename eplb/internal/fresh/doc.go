// Package fresh plans a layer from scratch under all that is asked of it, when it is
// asked for: seeds of packings and counts, exhaustive search of small layers, annealing
// as long as it pays, groups brought to their nodes; for several windows, a joint search.
package fresh
