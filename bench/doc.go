// Package bench is the evidence: its benchmarks print every figure that the
// project claims, and its tests hold the balancers against the policies that
// other systems run, on the same loads.
//
//	go test -bench . ./bench
//
// Loads come from package workload, the others' policies from package baseline.
// One core plans (Workers: 1), so that times compare.
package bench
