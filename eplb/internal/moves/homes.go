package moves

import "github.com/moelb/moelb/eplb/internal/homes"

// setHomes gives every group the node where most of its replicas are, as many
// groups to each, where groups must stay together.
func (m *Mover) setHomes(slot []int32) {
	if m.P.ByGroup {
		m.SetHome(homes.Of(m.P, slot), m.P.Off)
	}
}
