package bounds

import "math"

// climb changes two prices by ever smaller factors, one of them or both, for as long
// as that proves more.
func climb(a, b float64, proves func(a, b float64) float64) (x, y, most float64) {
	most = proves(a, b)
	for _, step := range [...]float64{2, 1.4, 1.1, 1.03, 1.01} {
		for again := true; again; {
			again = false
			for _, f := range [2]float64{step, 1 / step} {
				for _, by := range [4][2]float64{{f, 1}, {1, f}, {f, f}, {f, 1 / f}} {
					if v := proves(a*by[0], b*by[1]); v-most > 1e-9*math.Abs(most) {
						a, b, most, again = a*by[0], b*by[1], v, true
					}
				}
			}
		}
	}
	return a, b, most
}
