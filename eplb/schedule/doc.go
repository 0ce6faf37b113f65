// Package schedule brings a placement into force: New orders the copies from one
// placement to the next in rounds that no GPU's links hold up, and Decide says
// whether they pay.
//
//	schedule change  what is asked, and what is refused
//	round            what links and memory allow, layer by layer
//	layer            what a round writes into a layer's slots, and can take back
//	copies           copies between GPUs: by matchings, along chains
//	bound            the fewest rounds and seconds that any schedule needs
//	apply json       a schedule in use
//	decide           whether it pays
package schedule
