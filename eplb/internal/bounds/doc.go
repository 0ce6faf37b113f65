// Package bounds proves lower bounds of a layer's level: what slots allow the
// hottest experts, with speeds too; what the largest replicas need beside them;
// and, for any split of tokens, what joining GPUs by shared experts costs.
package bounds
