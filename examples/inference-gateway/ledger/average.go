package ledger

// Average is a mean over the latest few hundred values, all weighing alike at first.
type Average struct {
	Sum    float64 `json:"sum"`
	Weight float64 `json:"weight"`
}

const forget = 1 - 1.0/256

// Add takes a value in.
func (a *Average) Add(x float64) {
	a.Sum, a.Weight = float64(a.Sum*forget)+x, float64(a.Weight*forget)+1
}

// Value is 0 where nothing was added.
func (a *Average) Value() float64 {
	if a.Weight == 0 {
		return 0
	}
	return a.Sum / a.Weight
}
