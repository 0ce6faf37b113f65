// Package simulate simulates the published inference system of DeepSeek-V3 and
// R1: an API server, a balancer over prefill units, decode units behind another,
// a balancer of experts in each unit, and a store of prefixes outside them. It
// answers what a policy of each balancer is worth in tokens a second, latency,
// idle GPUs and dollars.
//
// Units run in lockstep (package lockstep), and a step takes what package cost says for the
// requests that each rank holds and the tokens that each rank's experts get.
// Time passes from event to event in whole nanoseconds, so a run is the same
// bytes on every machine. At its end every run checks that nothing was lost.
//
// Prompts beyond those that prefill units hold wait at the API server, in order.
//
// Ranks, nodes and units may die and return (Config.Failures): their requests are
// prefilled and placed again, and experts are planned anew on what lives.
//
// A policy of one's own takes part through the interfaces of packages prefill and
// decode: see the example of Run.
//
// Not modelled: the transfer of a prefix from the store.
package simulate
