package workload

import (
	"math"
	"math/rand/v2"
)

// The functions of this file round alike on every platform, which math.Exp,
// math.Log and math.Pow do not promise: they use only + - * / and square roots,
// each rounded once. The conversions to float64 keep a multiplication and an
// addition from being fused. They are right to 13 digits for the small
// arguments of this package.

// exp is e to the x.
func exp(x float64) float64 {
	const halvings = 6
	x /= 1 << halvings
	y := 1.0
	for k := 14; k >= 1; k-- { // Taylor, in Horner's form
		y = float64(y*x)/float64(k) + 1
	}
	for range halvings {
		y = float64(y * y)
	}
	return y
}

// atanh is the series of that function, the last term first.
var atanh = [...]float64{1. / 25, 1. / 23, 1. / 21, 1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11, 1. / 9, 1. / 7, 1. / 5, 1. / 3, 1}

// log is the natural logarithm of x > 0: 2 atanh((m-1)/(m+1)) + e ln 2 for
// x = m 2^e.
func log(x float64) float64 {
	m, e := math.Frexp(x) // m in [1/2, 1)
	if m < math.Sqrt2/2 {
		m, e = float64(m*2), e-1
	}
	z := (m - 1) / (m + 1)
	zz := float64(z * z)
	sum := 0.0
	for _, part := range atanh {
		sum = float64(sum*zz) + part
	}
	return float64(2*z*sum) + float64(float64(e)*math.Ln2)
}

// normal draws from the standard normal distribution (Marsaglia's polar method).
func normal(r *rand.Rand) float64 {
	for {
		u, v := float64(2*r.Float64())-1, float64(2*r.Float64())-1
		q := float64(u*u) + float64(v*v)
		if q > 0 && q < 1 {
			return float64(u * math.Sqrt(float64(-2*log(q))/q))
		}
	}
}
