// Package cost is the cost model of DeepSeek-V3 and R1 on GPU units: how long
// each stage of a layer takes, and how the published schedules of prefill and
// decode overlap them into the time of a layer, of a step, and so into tokens a
// second.
//
// Stage times come from laws of the published kernel benchmarks; Factors lists
// every number that the laws hold, with its source, and says which were fitted
// to which throughput. What was fitted to a figure reproduces it, and predicts
// nothing.
package cost
