package prefill

import "math"

// lateAfter: a request is late once it has waited for so many times as long as the
// unit could have done in full all that was there before it came.
const lateAfter = 2

// mark says when a request is late, if nothing older is so before.
type mark struct {
	seq int64
	at  float64 // of the clock
}

// lateness knows the youngest request that is late. Whoever is older is late, too. So
// a mark is dropped where a younger one comes no later, and the marks that are left
// rise in both figures.
type lateness struct {
	marks    []mark
	from     int   // the first of them that has not come
	youngest int64 // -1 = nobody is late
}

// expect notes when the request that comes now, after all others, will be late.
func (l *lateness) expect(m mark, most int) {
	for len(l.marks) > l.from && l.marks[len(l.marks)-1].at >= m.at {
		l.marks = l.marks[:len(l.marks)-1]
	}
	l.marks = append(l.marks, m)
	if l.from > len(l.marks)/2 {
		l.marks = append(l.marks[:0], l.marks[l.from:]...)
		l.from = 0
	}
	if len(l.marks)-l.from > most {
		l.thin()
	}
}

// thin halves the marks: of two the younger is late when the older was to be.
func (l *lateness) thin() {
	n := l.from
	for i := l.from; i < len(l.marks); i += 2 {
		m := l.marks[i]
		if i+1 < len(l.marks) {
			m.seq = l.marks[i+1].seq
		}
		l.marks[n] = m
		n++
	}
	l.marks = l.marks[:n]
}

// pass lets time pass.
func (l *lateness) pass(clock float64) {
	for l.from < len(l.marks) && l.marks[l.from].at <= clock {
		l.youngest = l.marks[l.from].seq
		l.from++
	}
}

// comes notes when a request that has just come will be late.
func (b *Balancer) comes(q *request) {
	b.late.expect(mark{q.seq, b.clock + lateAfter*max(0, b.ahead()-b.cost.of(b.ownWork(q))/max(b.power, 1/MaxSpeed))}, 2*b.ids.Len()+64)
}

// ahead is how long the unit takes for all that it has to do, evenly spread.
func (b *Balancer) ahead() float64 {
	return min(b.cost.of(b.total)/max(b.power, 1/MaxSpeed), math.MaxFloat64)
}
