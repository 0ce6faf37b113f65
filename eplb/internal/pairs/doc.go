// Package pairs finds replica counts for few slots a GPU: at two slots exactly,
// by branch and bound over counts whose best pairing is known, and at three or
// four by the condition that is tight there.
package pairs
