package pack

import (
	"cmp"
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
	f.densest = 1
	for i := range f.Items {
		it := &f.Items[i]
		n := max(1, min(it.Left, f.Tokens))
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
	for i := range f.Items {
		f.order = append(f.order, int32(i))
	}
	slices.SortFunc(f.order, func(x, y int32) int {
		p, q := &f.Items[x], &f.Items[y]
		if p.First != q.First {
			if p.First {
				return -1
			}
			return 1
		}
		if f.Deep {
			return cmp.Compare(p.Seq, q.Seq)
		}
		if c := cmp.Compare(q.Urgency, p.Urgency); c != 0 {
			return c
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
	f.largest = append(f.largest[:0], f.queue...)
	slices.SortFunc(f.largest, func(x, y int32) int {
		p, q := &f.Items[x], &f.Items[y]
		if f.Deep {
			return order(q.Left, p.Left, p.Seq, q.Seq)
		}
		if p.First != q.First {
			if p.First {
				return -1
			}
			return 1
		}
		if c := cmp.Compare(q.Seconds, p.Seconds); c != 0 {
			return c
		}
		return cmp.Compare(p.Seq, q.Seq)
	})
}
