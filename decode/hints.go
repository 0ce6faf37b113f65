package decode

import "math/bits"

// hints is what declared outputs are worth, by their octave: many who declare 32,768
// mean a bound, and some declare anything. Where most that finished had generated less
// than a quarter of what they declared, declarations are taken for none.
type hints struct {
	kept, missed [hintOctaves]int64
	doubted      uint64 // octaves that were, when the curve was drawn
}

const (
	hintOctaves = 32
	// One declaration of so many comes true.
	quarter = 4
	// So many more must have missed than were kept.
	benefit = 2
)

func hintOctave(output int64) int { return min(bits.Len64(uint64(max(output, 0))), hintOctaves-1) }

// finished takes in what a request had declared and what it generated.
func (h *hints) finished(declared, generated int64) {
	o := hintOctave(declared)
	if quarter*generated >= declared {
		h.kept[o]++
	} else {
		h.missed[o]++
	}
	if h.kept[o]+h.missed[o] >= memory {
		h.kept[o], h.missed[o] = h.kept[o]/2, h.missed[o]/2
	}
}

// judge settles which octaves are doubted.
func (h *hints) judge() {
	h.doubted = 0
	for o := range hintOctaves {
		if h.missed[o] > h.kept[o]+benefit {
			h.doubted |= 1 << o
		}
	}
}

// doubts reports whether a declaration of so many tokens in all is taken for none.
func (h *hints) doubts(output int64) bool { return h.doubted>>hintOctave(output)&1 != 0 }
