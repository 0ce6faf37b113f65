// Package schedule brings a placement into force: New orders the copies from one
// placement to the next in rounds that no GPU's links hold up, and Decide says
// whether they pay.
//
//	schedule          what is asked, the rounds, what is refused
//	layer             a round of one layer: slots, links, sources
//	match chain local copies by matchings, along chains, within a GPU
//	price bound       what rounds take, and the fewest that any schedule needs
//	decide            whether a schedule pays
package schedule
