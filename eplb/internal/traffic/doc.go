// Package traffic places experts where their tokens are: so that the replicas of
// experts that tokens choose together are on one node, and so that what every GPU
// sends to its nearest replicas comes out even.
package traffic
