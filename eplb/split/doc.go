// Package split shares the tokens of every batch among the replicas of a
// placement: a Splitter does it batch by batch, exactly and without allocation,
// Batch a single one, and StaticWeights ahead, for engines that cannot.
//
// Placements made for it are those of eplb.Plan with Dispatch Split.
package split
