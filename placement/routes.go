package placement

import "slices"

// MaxTopK is the most experts that a token may choose in a layer.
const MaxTopK = 32

// MaxRouteIDs bounds the expert ids of all routes: 2 GiB of memory.
const MaxRouteIDs = 1 << 30

// Routes are which experts tokens chose, TopK of them in every layer. They tell
// what counts of single experts cannot: which experts are chosen together.
type Routes struct {
	TopK int
	// IDs are the experts of one token after the other, [layers][tokens*TopK];
	// those of a token are distinct, in any order. Layers may have different
	// numbers of tokens.
	IDs [][]uint16
	// Weights are how many tokens each of IDs stands for, [layers][tokens]; nil =
	// one each. Their order then says nothing.
	Weights [][]int32
}

// Tokens is the number of tokens of a layer.
func (r *Routes) Tokens(layer int) int { return len(r.IDs[layer]) / r.TopK }

// Token is the experts of a token.
func (r *Routes) Token(layer, token int) []uint16 {
	return r.IDs[layer][token*r.TopK : (token+1)*r.TopK]
}

// Validate returns an *Error unless r has so many layers, and every token TopK
// distinct experts below experts; the index is that of the token. Cost: one pass,
// and TopK comparisons an id.
func (r *Routes) Validate(layers, experts int) error {
	const field = "routes"
	switch {
	case r.TopK < 1 || r.TopK > MaxTopK:
		return errorf(ErrValue, field, -1, -1, "%d experts a token: between 1 and %d are supported", r.TopK, MaxTopK)
	case len(r.IDs) != layers:
		return errorf(ErrShape, field, -1, -1, "%d layers, but loads have %d", len(r.IDs), layers)
	}
	if r.Weights != nil && len(r.Weights) != layers {
		return errorf(ErrShape, field, -1, -1, "weights of %d layers, but loads have %d", len(r.Weights), layers)
	}
	for l, ids := range r.IDs {
		if r.Weights != nil {
			if len(r.Weights[l]) != len(ids)/r.TopK {
				return errorf(ErrShape, field, l, -1, "%d weights for %d tokens", len(r.Weights[l]), len(ids)/r.TopK)
			}
			for i, w := range r.Weights[l] {
				if w < 0 {
					return errorf(ErrValue, field, l, i, "a weight of %d", w)
				}
			}
		}
		if len(ids)%r.TopK != 0 {
			return errorf(ErrShape, field, l, -1, "%d ids are not tokens of %d", len(ids), r.TopK)
		}
		for i, e := range ids {
			if int(e) >= experts {
				return errorf(ErrValue, field, l, i/r.TopK, "expert %d: there are %d", e, experts)
			}
			if slices.Contains(ids[i-i%r.TopK:i], e) {
				return errorf(ErrValue, field, l, i/r.TopK, "expert %d twice in a token", e)
			}
		}
	}
	return nil
}

// Loads counts how many tokens chose each of so many experts, [layers][experts].
// r must be valid.
func (r *Routes) Loads(experts int) Loads {
	out := NewLoads(len(r.IDs), experts)
	for l, ids := range r.IDs {
		for i, e := range ids {
			w := 1.0
			if r.Weights != nil {
				w = float64(r.Weights[l][i/r.TopK])
			}
			out[l][e] += w
		}
	}
	return out
}
