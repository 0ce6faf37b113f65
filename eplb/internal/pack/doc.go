// Package pack makes placements of one layer for one window: replica counts by
// Adams' method of apportionment, packing by size (longest processing time first),
// exchanges of one replica or two with the fullest GPU, and copies that are shifted from
// one expert to another. It is the seed of every
// plan from scratch; it knows neither nodes nor windows nor what is in force.
package pack
