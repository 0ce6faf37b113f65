// Package schedule brings a placement into force: New orders the copies from one
// placement to the next in rounds that no GPU's links hold up, and Decide says
// whether they pay.
//
//	schedule frame   what is asked, and what is refused
//	round layer      a round: layer by layer, writes into slots that can be taken back
//	links            what links and memory allow
//	match chain      copies between GPUs: by matchings, along chains
//	settle           copies within a GPU, and what is written after what
//	bound            the fewest rounds and seconds that any schedule needs
//	apply json       a schedule in use
//	decide           whether it pays
package schedule
