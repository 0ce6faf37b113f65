// Package homes plans a layer whose groups of experts stay on their nodes, but for
// a number of replicas: which node each group gets, each node by itself, and which
// copies leave.
package homes
