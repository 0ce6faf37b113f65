package formats

import (
	"github.com/moelb/moelb/placement"
	"github.com/moelb/moelb/placement/formats/internal/guard"
)

// loadHistory reads the load_history of the ADRS/OpenEvolve benchmark, one
// window an entry. An entry may hold other keys than logical_expert_load.
func (s *scanner) loadHistory(t *table) error {
	return s.array(t.field, -1, s.lim.Windows, func(i int) error {
		found := false
		err := s.object(func(key string) error {
			if key != "logical_expert_load" {
				return s.skip(0)
			}
			found = true
			if err := s.open(t.name(), -1); err != nil {
				return err
			}
			return s.window(t, false)
		})
		if err == nil && !found {
			return guard.Errorf(placement.ErrShape, t.field, -1, i, "no logical_expert_load")
		}
		return err
	})
}
