// Package assign solves the assignment problem.
package assign
