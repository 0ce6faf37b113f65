// Package baseline holds the policies that other systems run, written anew from
// their description: what a better policy must beat. They are here to be
// measured, not to be used.
package baseline
