// Package memory keeps slices for use again.
package memory

import "slices"

// Resize returns x with n elements of any value: its own array where that is
// large enough.
func Resize[T any](x []T, n int) []T { return slices.Grow(x[:0], n)[:n] }
