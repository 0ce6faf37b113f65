package ledger

// average is a mean over the latest few hundred values, all weighing alike at first.
type average struct{ sum, weight float64 }

const forget = 1 - 1.0/256

func (a *average) add(x float64) {
	a.sum, a.weight = float64(a.sum*forget)+x, float64(a.weight*forget)+1
}

// value is 0 where nothing was added.
func (a *average) value() float64 {
	if a.weight == 0 {
		return 0
	}
	return a.sum / a.weight
}
