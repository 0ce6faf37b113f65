// Package placement holds the words that every balancer of experts shares: the
// GPUs of a unit (Topology), the shape of a Mixture-of-Experts model (Model),
// the tokens routed to each expert (Loads), which expert sits in which slot
// (Placement), and what a slot's change is called (Move). It validates them,
// measures a placement against loads, and reads and writes JSON. It holds no
// algorithm: see package eplb for planning, and placement/formats for the files
// that inference engines read and write.
//
// Vocabulary: an expert is a logical expert; a replica is one physical copy of
// it; a slot is a place on a GPU for one replica; imbalance is the largest
// load of a GPU divided by the mean (1 is perfect), balancedness its inverse.
package placement
