// Package eplb is the expert-parallel load balancer: it decides how many
// replicas each expert of a Mixture-of-Experts layer gets and on which GPU each
// sits, so that the largest load of a GPU is least. All GPUs of a unit run in
// lockstep, so that one sets the pace.
//
// Plan takes a Problem and Options and returns a Result: a placement, and for
// each layer its imbalance beside a proved lower bound. The zero Options search
// replica counts and placement together; Policy DeepSeek is the published
// algorithm, array for array.
//
// Its neighbours: eplb/split shares the tokens of every batch among the replicas
// of a placement so that the largest load of a GPU is least for that very batch,
// and Dispatch Split plans placements for it; eplb/track adds up what experts
// get, window by window, and Problem.Windows plans over several windows at once;
// eplb/schedule orders the copies that a change of placement takes.
//
// The package has no clock, no I/O and no global state, and the same input
// gives the same result on every platform and with any number of Workers.
package eplb

// Where things are: the door here says what is asked and refused (eplb, validate), keeps
// what is planned with (planner), walks the layers (optimal, planmoves, deepseek,
// parallel), plans layers of unlike shapes (parts) and beside experts on every GPU
// (everywhere) by parts, changes plans for traffic (regroup, nearest) and reports (score,
// traffic, visited).
// Behind it, under internal/, a package an idea:
//
//	assign memory      assignments at least cost; slices that are used again
//	refuse strict      the words of a refusal; JSON that this module wrote
//	search             the one local search, under masks and prices
//	problem            a checked problem, its unit of GPUs, a layer in every window
//	pack pairs         seeds: counts, packings, exchanges; counts for few slots
//	bounds exact       what is proved: bounds; small layers searched to their end
//	homes              groups on their nodes, and the replicas that may leave
//	flow divide        the split of a batch, and plans for it
//	fresh moves        a layer from scratch: seeds, then the search; few moves from what is in force
//	traffic            fewer nodes a token, nearest replicas
//	deepseek           the published algorithm
//
// Each imports only what stands above it; nothing imports the door.
