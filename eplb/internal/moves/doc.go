// Package moves plans a layer from the placement in force. It makes a front of
// placements, each with more moves and less imbalance than the one before: the first
// is the placement in force, mended where GPUs fell out of service, the last is
// within the target. Without a budget the last is taken. With one, they are taken
// over all layers where they lessen the imbalance most a move.
package moves
