// Package fresh plans a layer from scratch under all that is asked of it, when it is
// asked for.
package fresh
