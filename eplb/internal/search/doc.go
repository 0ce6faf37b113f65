// Package search improves placements of one layer by small changes: two replicas
// exchange their places, or a slot comes to hold another expert.
//
// What must hold is a mask on changes (Task: no expert twice on a GPU, groups at
// home but for some replicas, every expert in two domains), what is wished has a
// price in moves, and what is made small is the time that all windows take
// together: the sum over windows of the largest level of a GPU. Whatever
// combines in a Task combines in the search.
//
//	task       what is asked
//	state      the placement at hand, its levels in every window, changes, tries, masks
//	norm       the smooth objective that changes are judged by
//	forward    the change that gains most a move
//	back       the move that is missed least when it is taken back
//	after      the objective after a change, exactly
//	anneal     random changes, less and less of those that harm; list is what they draw from
//	fewer      the same for fewer moves
//	nodes      nodes evened out first, where few replicas may leave them
//	joint      several windows, where nothing costs a move
//	domains    every expert brought to two domains
//	mend       experts without a replica, empty slots, the experts of another layout
//	beam       many paths at once
//	trail      paths from one placement towards another, and the best of all
package search
