package pack

import (
	"cmp"
	"math"
	"slices"
)

// arrange puts the items in order.
func (f *Former) arrange() {
	f.order, f.running, f.queue, f.placed = f.order[:0], f.running[:0], f.queue[:0], f.placed[:0]
	if len(f.Items) == 0 {
		return
	}
	sum := 0.0
	for i := range f.Items {
		sum += f.Items[i].Urgency
	}
	mean := sum / float64(len(f.Items))
	f.densest, f.prefix = 1, 0
	for i := range f.Items {
		it := &f.Items[i]
		n := max(1, min(it.Left, f.Tokens))
		f.prefix = max(f.prefix, f.Expand*it.Pos)
		f.densest = max(f.densest, whole(float64(it.Pos+n)*float64(f.Tokens))+f.Expand*it.Pos)
	}
	full, ahead := float64(f.Cost.Token*float64(f.Tokens)), f.Ahead
	for i := range f.Items {
		it := &f.Items[i]
		it.Urgency /= mean
		if ahead > full && it.Seconds <= ahead && it.Seconds > ahead/2 {
			it.First = true
		}
	}
	n := len(f.Items)
	f.placed, f.turnOf = slices.Grow(f.placed[:0], n)[:n], slices.Grow(f.turnOf[:0], n)[:n]
	f.waits = slices.Grow(f.waits[:0], n)[:n]
	for i := range f.Items {
		f.order = append(f.order, int32(i))
	}
	astray := f.From
	if f.Deep {
		astray = f.Urgent
	}
	f.sortNearly(f.order, astray, func(x, y int32) int {
		p, q := &f.Items[x], &f.Items[y]
		switch {
		case p.First != q.First:
			return first(p.First)
		case p.Urgency != q.Urgency && !f.Deep:
			return first(p.Urgency > q.Urgency)
		}
		return cmp.Compare(p.Seq, q.Seq)
	})
	for _, i := range f.order {
		if f.Items[i].Rank >= 0 {
			f.running = append(f.running, i)
			continue
		}
		f.turnOf[i] = int32(len(f.queue))
		f.queue = append(f.queue, i)
	}
	f.idlest = append(f.idlest[:0], f.Open...)
	slices.SortStableFunc(f.idlest, func(x, y int32) int { return cmp.Compare(f.fresh[x].rest, f.fresh[y].rest) })
	f.sortLargest()
}

// sortLargest lists the queue, the most work first; of a deep one the light prompts,
// the longest first.
func (f *Former) sortLargest() {
	f.largest = append(f.largest[:0], f.queue...)
	if f.Deep {
		f.keys, f.largest = f.keys[:0], f.largest[:0]
		for k, i := range f.queue {
			if it := &f.Items[i]; !f.Dense(it) {
				f.keys = append(f.keys, uint64(max(0, math.MaxUint32-it.Left))<<32|uint64(k))
			}
		}
		slices.Sort(f.keys) // faster than by comparing, but for ties
		for _, x := range f.keys {
			f.largest = append(f.largest, f.queue[uint32(x)])
		}
	}
	f.sortNearly(f.largest, 0, func(x, y int32) int {
		p, q := &f.Items[x], &f.Items[y]
		switch {
		case f.Deep:
			return order(q.Left, p.Left, p.Seq, q.Seq)
		case p.First != q.First:
			return first(p.First)
		case p.Seconds != q.Seconds:
			return first(p.Seconds > q.Seconds)
		}
		return cmp.Compare(p.Seq, q.Seq)
	})
}

func first(yes bool) int {
	if yes {
		return -1
	}
	return 1
}

// sortNearly sorts what is in order but for the first ones, and some of the rest:
// those are sorted apart and merged in.
func (f *Former) sortNearly(order []int32, from int, compare func(x, y int32) int) {
	rest := append(f.some[:0], order[:from]...)
	n := 0
	for _, i := range order[from:] {
		if n > 0 && compare(order[n-1], i) > 0 {
			rest = append(rest, i)
			continue
		}
		order[n] = i
		n++
	}
	f.some = rest
	slices.SortFunc(rest, compare)
	for k := len(order) - 1; len(rest) > 0; k-- {
		if last := rest[len(rest)-1]; n == 0 || compare(order[n-1], last) < 0 {
			order[k], rest = last, rest[:len(rest)-1]
		} else {
			n--
			order[k] = order[n]
		}
	}
}
