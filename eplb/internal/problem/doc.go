// Package problem is what the parts of planning are told: a problem that was
// checked, the GPUs in service and their slots, and a layer of it as the local
// search sees it, in every window that has load.
package problem
