package problem

import (
	"github.com/moelb/moelb/internal/wire"
	"github.com/moelb/moelb/placement"
)

// readPairs reads how many tokens chose two experts together,
// [layers][experts][experts], as routes of two experts a token.
func readPairs(s *wire.Scanner, field string) (*placement.Routes, error) {
	var counts [][][]int64
	cells := 0
	err := s.Each(field, placement.MaxLayers, func(l int) error {
		counts = append(counts, nil)
		return s.Each(field, placement.MaxExperts, func(a int) error {
			row := []int64{}
			err := s.Each(field, placement.MaxExperts, func(b int) error {
				n, err := s.Whole(field, 1<<53)
				row = append(row, int64(n))
				if cells++; cells > placement.MaxCells && err == nil {
					return wire.Bad(placement.ErrShape, field, l, a, "more than %d counts are not supported", placement.MaxCells)
				}
				return err
			})
			counts[l] = append(counts[l], row)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	if cells == 0 {
		return nil, wire.Bad(placement.ErrShape, field, -1, -1, "no counts")
	}
	return placement.Pairs(counts)
}

// planned is the routes to plan for: those of tokens or of pairs.
func (f *Fields) planned() (*placement.Routes, error) {
	switch {
	case f.pairs == nil:
		return f.routes, nil
	case f.routes != nil:
		return nil, wire.Bad(placement.ErrShape, "pairs", -1, -1, "beside routes: one of them is enough")
	}
	return f.pairs, nil
}
