package simulate

import "math"

// scatter draws what a micro-batch's tokens differ from their mean: the sum of
// four uniform numbers in x, near enough to normal.
func scatter(x uint64, mean float64) float64 {
	sum := x&0xffff + x>>16&0xffff + x>>32&0xffff + x>>48
	z := (float64(sum)/65536 - 2) * 1.7320508075688772
	y := mean + float64(math.Sqrt(mean)*z)
	if y < 0 {
		return 0
	}
	return y
}

// table is a function of rows, drawn as a polygon.
type table struct {
	each float64 // cells a row
	at   []float64
	f    func(float64) float64
}

func newTable(top float64, cells int, f func(float64) float64) *table {
	t := &table{each: float64(cells) / top, f: f, at: make([]float64, cells+1)}
	for i := range t.at {
		t.at[i] = f(float64(i) * (top / float64(cells)))
	}
	return t
}

func (t *table) value(x float64) float64 {
	cells := float64(x * t.each)
	i := int(cells)
	if i >= len(t.at)-1 {
		return t.f(x)
	}
	w := cells - float64(i)
	return t.at[i] + float64(w*(t.at[i+1]-t.at[i]))
}
