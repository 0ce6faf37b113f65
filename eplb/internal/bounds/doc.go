// Package bounds proves lower bounds of a layer's level: what slots allow the
// hottest experts, under an even split and any other, and what the largest replicas
// need beside them.
package bounds
