package search

import "github.com/moelb/moelb/eplb/internal/memory"

// list is a set of small numbers to draw from.
type list struct {
	all []int32
	at  []int32 // 1 + place of each in all
}

func (l *list) reset(n int) {
	l.all = l.all[:0]
	l.at = memory.Resize(l.at, n)
	clear(l.at)
}

// set puts i in or takes it out.
func (l *list) set(i int32, in bool) {
	switch k := l.at[i]; {
	case in && k == 0:
		l.all = append(l.all, i)
		l.at[i] = int32(len(l.all))
	case !in && k > 0:
		last := l.all[len(l.all)-1]
		l.all[k-1], l.at[last] = last, k
		l.all, l.at[i] = l.all[:len(l.all)-1], 0
	}
}
