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
// A Splitter shares the tokens of every batch among the replicas of a placement
// so that the largest load of a GPU is least for that very batch; Dispatch Split
// plans placements for it.
//
// For a system that runs, a Tracker adds up what experts get, window by window,
// and Problem.Windows plans over several windows at once; Backtest tells which
// Forecast would have kept the next window most even.
//
// The package has no clock, no I/O and no global state, and the same input
// gives the same result on every platform and with any number of Workers.
package eplb
