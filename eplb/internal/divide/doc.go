// Package divide plans a layer for a split of every batch: the replicas of a plan
// should let tokens pass between as many GPUs as the copies can join.
package divide
