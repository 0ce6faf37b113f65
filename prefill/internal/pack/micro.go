package pack

import "slices"

// leastOf puts the smallest chunk of an item into the step, if some rank takes it.
func (f *Former) leastOf(i int32) bool {
	it := &f.Items[i]
	ranks := f.Open
	if it.Rank >= 0 {
		ranks = []int32{it.Rank}
	}
	for _, r := range ranks {
		g := int(r)
		l := &f.load[g]
		if it.Rank < 0 && !f.takes(g, it) {
			continue
		}
		pos := it.at(g)
		left := it.tokens() - pos
		n := min(left, max(1, f.Page))
		if n <= l.mostTokens && f.Cost.Of(Work{n, f.pairsOf(n, pos)}) <= l.seconds {
			f.put(i, g, n, pos)
			f.top = f.most()
			return true
		}
	}
	return false
}

// sortPieces lists the pieces by rank.
func (f *Former) sortPieces() {
	clear(f.at)
	for i := range f.Pieces {
		f.at[f.Pieces[i].Rank+1]++
	}
	for g := range f.load {
		f.at[g+1] += f.at[g]
	}
	f.byRank = slices.Grow(f.byRank[:0], len(f.Pieces))[:len(f.Pieces)]
	for i := len(f.Pieces) - 1; i >= 0; i-- {
		end := &f.at[f.Pieces[i].Rank+1]
		*end--
		f.byRank[*end] = int32(i)
	}
	// at[g+1] is now where rank g begins
}

// Of is the pieces of a rank.
func (f *Former) Of(g int) []int32 {
	end := len(f.Pieces)
	if g+2 < len(f.at) {
		end = int(f.at[g+2])
	}
	return f.byRank[f.at[g+1]:end]
}

// Halve splits each rank's chunks into micro-batches: by falling pairs, each to
// the half that has fewer.
func (f *Former) Halve() {
	f.sortPieces()
	for g := range f.load {
		at := f.Of(g)
		slices.SortFunc(at, func(x, y int32) int {
			p, q := &f.Pieces[x], &f.Pieces[y]
			return order(f.pairsOf(q.N, q.Pos), f.pairsOf(p.N, p.Pos), int64(x), int64(y))
		})
		var have [2]Work
		for _, i := range at {
			p := &f.Pieces[i]
			if order(have[1].Pairs, have[0].Pairs, have[1].Tokens, have[0].Tokens) < 0 {
				p.Half = 1
			}
			have[p.Half].Pairs += f.pairsOf(p.N, p.Pos)
			have[p.Half].Tokens += p.N
		}
		slices.Sort(at)
	}
}

// order compares x with y, and where they are equal u with v.
func order(x, y, u, v int64) int {
	switch {
	case x < y:
		return -1
	case x > y:
		return 1
	case u < v:
		return -1
	case u > v:
		return 1
	}
	return 0
}
