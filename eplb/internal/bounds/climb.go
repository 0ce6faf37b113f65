package bounds

import "math"

// climb changes two prices by ever smaller factors, one of them or both, until no way
// to do so proves more.
func climb(a, b float64, proves func(a, b float64) float64) (x, y, most float64) {
	most = proves(a, b)
	for _, step := range [...]float64{2, 1.4, 1.1, 1.03, 1.01} {
		for i, failed := 0, 0; failed < 8; i, failed = i+1, failed+1 {
			f := step
			if i&4 > 0 {
				f = 1 / step
			}
			by := [4][2]float64{{f, 1}, {1, f}, {f, f}, {f, 1 / f}}[i&3]
			if v := proves(a*by[0], b*by[1]); v-most > 1e-9*math.Abs(most) {
				a, b, most, failed = a*by[0], b*by[1], v, -1
			}
		}
	}
	return a, b, most
}
