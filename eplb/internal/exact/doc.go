// Package exact finds the best placement of a small layer by branch and bound,
// also with homes of experts or with every expert in two domains.
package exact
