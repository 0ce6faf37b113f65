// Package flow splits the tokens of one batch over the replicas of a placement
// exactly: Net is which GPUs hold which replicated expert, Flow the split that
// leaves the largest load/speed of a GPU least.
package flow
