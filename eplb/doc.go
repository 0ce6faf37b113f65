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

// Where things are:
//
//	eplb validate            Plan, its problem, options, result; what is refused
//	deepseek                 the published algorithm: internal/deepseek
//	optimal solver unit      the search: every layer by itself, on the GPUs in service
//	  counts pack swap       replica counts, packing by size, exchanges
//	  pairs paircounts       two slots a GPU: counts decided exactly
//	  sumcounts              three and four slots
//	  small exact            small layers: other packings, then exhaustive search
//	  bound sumbound speed   lower bounds: of replicas, of sums, for unequal speeds
//	locality homes innode    groups on their nodes: homes, each node by itself, the bound
//	  offnode construct spread transfer offbound exacthome
//	                         replicas off their nodes: copies, evening out, single slots, the bound, small layers
//	splitplan cluster refine component
//	                         plans made for a split of every batch: trees, clusters, small layers, bounds
//	windows layer            plans over several windows: their sum, or what they need at most, then the search
//	polish                   plans from scratch, improved by the search's steps
//	moves fresh assign movehomes
//	                         few moves from the placement in force: paths of the search and the
//	                         best on them, the plan from scratch, renaming GPUs, groups
//	twonodes domains         every expert on two nodes or domains
//	everywhere               experts on every GPU
//	internal/search          the local search: exchanges and replacements under masks and prices
//	internal/flow            a batch's tokens over the replicas, exactly
