// Package workload makes the expert loads that the benchmarks and the built-in
// example run on, and reads the measured ones that are at hand.
//
// Generated loads are whole tokens, and the same seed gives the same tokens on
// every platform: randomness is math/rand/v2's PCG, and everything between it
// and the last rounding is built from operations that IEEE 754 rounds exactly.
package workload
