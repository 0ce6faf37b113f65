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

func (t *Tokens) weight(i int32) int64 {
	if t.Weight == nil {
		return 1
	}
	return t.Weight[i]
}

// chosen is the weight of the tokens that choose each expert, and of all.
func (t *Tokens) chosen(experts int) (each []int64, all int64) {
	each = make([]int64, experts)
	for i := range int32(t.Len()) {
		w := t.weight(i)
		all += w
		for _, e := range t.of(i) {
			each[e] += w
		}
	}
	return each, all
}

// pairs is the weight of the tokens that choose both of two experts, [experts][experts],
// 0 of one and itself.
func (t *Tokens) pairs(experts int) []int64 {
	out := make([]int64, experts*experts)
	for i := range int32(t.Len()) {
		for _, a := range t.of(i) {
			for _, b := range t.of(i) {
				if a != b {
					out[int(a)*experts+int(b)] += t.weight(i)
				}
			}
		}
	}
	return out
}
