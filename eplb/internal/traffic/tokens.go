package traffic

// Tokens are the experts that tokens chose.
type Tokens struct {
	K      int
	IDs    []uint16 // [tokens][K], distinct within a token
	Weight []int64  // of each token; nil = 1
}

// Len is the number of tokens.
func (t *Tokens) Len() int { return len(t.IDs) / t.K }

func (t *Tokens) of(i int32) []uint16 { return t.IDs[int(i)*t.K : (int(i)+1)*t.K] }

// weight of token i: a whole number, as all sums of them are.
func (t *Tokens) weight(i int32) float64 {
	if t.Weight == nil {
		return 1
	}
	return float64(t.Weight[i])
}

// chosen is the weight of the tokens that choose each expert, and of all.
func (t *Tokens) chosen(experts int) (each []float64, all float64) {
	each = make([]float64, experts)
	for i := range int32(t.Len()) {
		w := t.weight(i)
		all += w
		for _, e := range t.of(i) {
			each[e] += w
		}
	}
	return each, all
}

// together is how often blocks of so many consecutive tokens choose both of two experts, by
// weight, [experts][experts].
func (t *Tokens) together(experts, block int) []float64 {
	out := make([]float64, experts*experts)
	for lo := 0; lo+block <= t.Len(); lo += block {
		ids, w := t.IDs[lo*t.K:(lo+block)*t.K], t.weight(int32(lo))
		for _, a := range ids {
			row := out[int(a)*experts:][:experts]
			for _, b := range ids {
				row[b] += w
			}
		}
	}
	return out
}
