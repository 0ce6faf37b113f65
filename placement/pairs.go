package placement

import "math"

// Pairs returns routes of two experts a token that stand for counts of how many
// tokens chose two experts together, [layers][experts][experts]: what is known
// where tokens are too many to be kept. counts must be symmetric; what is on the
// diagonal is not looked at. Nodes of a token are then those of a pair, 1 or 2,
// and loads are in proportion to those of the tokens.
//
// Counts of a layer above 2^24 in all are scaled down to that. Bad input is an
// *Error; the index is the row.
func Pairs(counts [][][]int64) (*Routes, error) {
	const field = "pairs"
	out := &Routes{TopK: 2}
	for l, rows := range counts {
		experts := len(rows)
		if experts > MaxExperts || l > 0 && experts != len(counts[0]) {
			return nil, errorf(ErrShape, field, l, -1, "%d rows, but layer 0 has %d, and at most %d are supported", experts, len(counts[0]), MaxExperts)
		}
		all := 0.0
		for a, row := range rows {
			if len(row) != experts {
				return nil, errorf(ErrShape, field, l, a, "%d counts for %d experts", len(row), experts)
			}
			for b, n := range row[:a] {
				switch {
				case n < 0:
					return nil, errorf(ErrValue, field, l, a, "%d tokens chose expert %d too", n, b)
				case len(rows[b]) <= a || rows[b][a] != n:
					return nil, errorf(ErrValue, field, l, a, "not symmetric: %d tokens chose expert %d too, row %d says otherwise", n, b, b)
				}
				all += float64(n)
			}
		}
		scale := min(1, 1<<24/all)
		ids, weights := []uint16{}, []int32{}
		for a, row := range rows {
			for b, n := range row[:a] {
				if w := int32(math.Round(float64(n) * scale)); w > 0 {
					ids, weights = append(ids, uint16(b), uint16(a)), append(weights, w)
				}
			}
		}
		out.IDs, out.Weights = append(out.IDs, ids), append(out.Weights, weights)
	}
	return out, nil
}
