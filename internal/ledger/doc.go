// Package ledger holds what the ledgers of the two request balancers share: the
// table of their callers' ids, and the encoding of their snapshots.
package ledger
