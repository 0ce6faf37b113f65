package eplb

import "math"

// flow splits the tokens of replicated experts over the GPUs that hold them so
// that the largest load/speed of a GPU is least. Tokens are whole, and the
// answer is exact: it comes with a set of GPUs whose experts, held nowhere
// else, force its level.
//
// First every expert in turn is poured anew over its GPUs until they stand
// equally high, a few times over; this is coordinate descent, and nearly even.
// Then, along trees of shared experts, every GPU takes from inside or hands
// inwards what it is off the mean of its tree. Last, GPUs above the level that a
// bound allows pass tokens on, along chains of shared experts, to GPUs below it.
// Where no chain is left, the GPUs that the walk reached are a proof that the
// level must rise. Not safe for concurrent use.
type flow struct {
	net   *net
	quota []int64 // of each arc
	load  []int64 // of each GPU
	room  []int64 // what each GPU may carry at the level proved so far
	sum   []int64 // tokens in each tree

	queue   []int32 // GPUs in the order of the walk
	from    []int32 // the arc by which tokens leave for a GPU reached; -1 = the start
	to      []int32 // and the arc by which they arrive
	reached []uint32
	passed  []uint32 // experts the walk went through
	walk    uint32
}

// net is what a placement of one layer allows: each expert on more than one GPU
// has an arc to each. The other experts are loads that cannot be moved.
type net struct {
	gpus  int
	speed []float64 // nil = all equal; 0 = out of service

	expert []int32 // the replicated experts
	first  []int32 // expert i has the arcs [first[i], first[i+1])
	gpu    []int32 // of each arc
	owner  []int32 // of each arc: its place in expert

	start []int32 // GPU g has the arcs byGPU[start[g]:start[g+1]]
	byGPU []int32

	// Trees that span the GPUs which chains of shared experts join: every GPU
	// but a root has an arc by which it hangs from an expert, and that expert
	// one by which it hangs from a GPU. Outer GPUs come last.
	hang   []int32
	parent []int32
	tree   []int32   // of each GPU
	size   []float64 // GPUs of a tree, or their speeds
	queue  []int32
	seen   []bool // experts, when the trees are grown
}

// link fills in the arcs by GPU.
func (n *net) link() {
	n.start = resize(n.start, n.gpus+1)
	clear(n.start)
	n.byGPU = resize(n.byGPU, len(n.gpu))
	n.owner = resize(n.owner, len(n.gpu))
	for _, g := range n.gpu {
		n.start[g+1]++
	}
	for g := range n.gpus {
		n.start[g+1] += n.start[g]
	}
	for i := range n.expert {
		for a := n.first[i]; a < n.first[i+1]; a++ {
			n.owner[a] = int32(i)
			g := n.gpu[a]
			n.byGPU[n.start[g]] = a
			n.start[g]++
		}
	}
	copy(n.start[1:], n.start[:n.gpus])
	n.start[0] = 0
	n.grow()
}

// grow finds the trees.
func (n *net) grow() {
	n.hang, n.parent, n.size = n.hang[:0], n.parent[:0], n.size[:0]
	n.queue = resize(n.queue, n.gpus)
	n.tree = resize(n.tree, n.gpus)
	for g := range n.tree {
		n.tree[g] = -1
	}
	n.seen = resize(n.seen, len(n.expert))
	clear(n.seen)
	for root := range n.gpus {
		if n.tree[root] >= 0 {
			continue
		}
		t, size := int32(len(n.size)), 0.0
		n.queue[0], n.tree[root] = int32(root), t
		for k, end := 0, 1; k < end; k++ {
			g := n.queue[k]
			if n.speed == nil {
				size++
			} else {
				size += n.speed[g]
			}
			for _, a := range n.byGPU[n.start[g]:n.start[g+1]] {
				i := n.owner[a]
				if n.seen[i] {
					continue
				}
				n.seen[i] = true
				for b := n.first[i]; b < n.first[i+1]; b++ {
					if o := n.gpu[b]; n.tree[o] < 0 {
						n.tree[o] = t
						n.hang, n.parent = append(n.hang, b), append(n.parent, a)
						n.queue[end] = o
						end++
					}
				}
			}
		}
		n.size = append(n.size, size)
	}
}

// use readies f for n.
func (f *flow) use(n *net) {
	f.net = n
	f.quota = resize(f.quota, len(n.gpu))
	f.load = resize(f.load, n.gpus)
	f.room = resize(f.room, n.gpus)
	f.sum = resize(f.sum, n.gpus)
	f.queue = resize(f.queue, n.gpus)
	f.from = resize(f.from, n.gpus)
	f.to = resize(f.to, n.gpus)
	if len(f.reached) < n.gpus || len(f.passed) < len(n.expert) {
		f.reached = make([]uint32, n.gpus)
		f.passed = make([]uint32, max(len(n.expert), cap(f.passed)))
		f.walk = 0
	}
}

// pours is how often every expert is poured before the rest is done along trees
// and chains.
const pours = 2

// split sets quota and load for counts, the tokens of every expert of the
// layer, of which total is the sum. load must hold what cannot be moved. It
// returns the least level, the largest load/speed. Cost: a few microseconds for
// 32 GPUs and 288 slots.
func (f *flow) split(counts []int64, total int64) float64 {
	n := f.net
	clear(f.quota)
	for pass := range pours {
		for i, e := range n.expert {
			if pass&1 == 1 {
				i = len(n.expert) - 1 - i
				e = n.expert[i]
			}
			f.pour(i, counts[e])
		}
	}
	f.settle()
	level := 0.0
	for g := range f.queue {
		f.queue[g] = int32(g)
	}
	level = f.raise(level, f.queue, total)
	for {
		// The GPU farthest above its room.
		h, over := -1, int64(0)
		for g, l := range f.load {
			if x := l - f.room[g]; x > over {
				h, over = g, x
			}
		}
		if h < 0 {
			return level
		}
		for over > 0 {
			end, seen := f.chain(int32(h))
			if end < 0 {
				set := f.queue[:seen]
				sum := int64(0)
				for _, g := range set {
					sum += f.load[g]
				}
				level = f.raise(level, set, sum)
				break
			}
			over -= f.push(int32(h), end, over)
		}
	}
}

// pour shares n tokens of expert i over its GPUs so that they stand equally
// high, as far as their other loads allow.
func (f *flow) pour(i int, n int64) {
	net := f.net
	lo, hi := net.first[i], net.first[i+1]
	if net.speed != nil {
		f.pourBySpeed(lo, hi, n)
		return
	}
	if hi-lo == 2 {
		a, b := &f.load[net.gpu[lo]], &f.load[net.gpu[lo+1]]
		x, y := *a-f.quota[lo], *b-f.quota[lo+1]
		q := min(max((n+y-x)>>1, 0), n)
		f.quota[lo], f.quota[lo+1] = q, n-q
		*a, *b = x+q, y+n-q
		return
	}
	for a := lo; a < hi; a++ {
		f.load[net.gpu[a]] -= f.quota[a]
	}
	// The level over all GPUs falls as those above it are left out.
	level, last := int64(maxTokens), int64(0)
	for {
		sum, k := n, int64(0)
		for _, g := range net.gpu[lo:hi] {
			if l := f.load[g]; l <= level {
				sum += l
				k++
			}
		}
		if k == last {
			break
		}
		last = k
		level = sum / k
	}
	left := n
	for a := lo; a < hi; a++ {
		q := max(level-f.load[net.gpu[a]], 0)
		f.quota[a] = q
		left -= q
	}
	for a := lo; left > 0; a++ {
		if f.load[net.gpu[a]] <= level {
			f.quota[a]++
			left--
		}
	}
	for a := lo; a < hi; a++ {
		f.load[net.gpu[a]] += f.quota[a]
	}
}

// settle brings the GPUs of each tree to its mean, the outer ones first, as far
// as the experts that they hang from have tokens.
func (f *flow) settle() {
	n := f.net
	sum := f.sum[:len(n.size)]
	clear(sum)
	for g, t := range n.tree {
		sum[t] += f.load[g]
	}
	if n.speed == nil {
		for t, size := range n.size {
			k := int64(size)
			sum[t] = (sum[t] + k - 1) / k
		}
	}
	for k := len(n.hang) - 1; k >= 0; k-- {
		a, b := n.parent[k], n.hang[k]
		g, o := n.gpu[a], n.gpu[b]
		want := sum[n.tree[o]]
		if n.speed != nil {
			want = int64(float64(want) / n.size[n.tree[o]] * n.speed[o])
		}
		d := min(max(want-f.load[o], -f.quota[b]), f.quota[a])
		f.quota[a] -= d
		f.quota[b] += d
		f.load[g] -= d
		f.load[o] += d
	}
}

// pourBySpeed is pour for GPUs of unequal speed.
func (f *flow) pourBySpeed(lo, hi int32, n int64) {
	net := f.net
	for a := lo; a < hi; a++ {
		f.load[net.gpu[a]] -= f.quota[a]
	}
	level, last := math.Inf(1), int(hi-lo)+1
	for {
		sum, speed, k := float64(n), 0.0, 0
		for _, g := range net.gpu[lo:hi] {
			if l := float64(f.load[g]); l/net.speed[g] <= level {
				sum += l
				speed += net.speed[g]
				k++
			}
		}
		if k == 0 || k >= last { // none more is left out; rounding may leave out the last
			break
		}
		last = k
		level = sum / speed
	}
	left := n
	for a := lo; a < hi; a++ {
		g := net.gpu[a]
		q := min(max(int64(level*net.speed[g])-f.load[g], 0), left)
		f.quota[a] = q
		left -= q
	}
	for ; left > 0; left-- {
		best, least := lo, math.Inf(1)
		for a := lo; a < hi; a++ {
			g := net.gpu[a]
			if l := float64(f.load[g]+f.quota[a]+1) / net.speed[g]; l < least {
				best, least = a, l
			}
		}
		f.quota[best]++
	}
	for a := lo; a < hi; a++ {
		f.load[net.gpu[a]] += f.quota[a]
	}
}

// raise lifts the level, and with it the room of every GPU, until the GPUs of
// set have room for sum tokens between them. It returns the new level.
func (f *flow) raise(level float64, set []int32, sum int64) float64 {
	speed := f.net.speed
	if speed == nil {
		k := int64(len(set))
		room := max((sum+k-1)/k, int64(level))
		for g := range f.room {
			f.room[g] = room
		}
		return float64(room)
	}
	v := 0.0
	for _, g := range set {
		v += speed[g]
	}
	// A hair below the quotient, then from one value of load/speed to the next.
	level = max(level, float64(sum)/v*(1-float64(float64(len(set))*1e-15)))
	left := sum
	for _, g := range set {
		f.room[g] = roomAt(level, speed[g])
		left -= f.room[g]
	}
	for left > 0 {
		best, least := int32(-1), math.Inf(1)
		for _, g := range set {
			if speed[g] > 0 {
				if l := float64(f.room[g]+1) / speed[g]; l < least {
					best, least = g, l
				}
			}
		}
		level = least
		f.room[best]++
		left--
	}
	for g := range f.room {
		f.room[g] = roomAt(level, speed[g])
	}
	return level
}

// maxTokens bounds the tokens of a layer: every count below is exact in float64.
const maxTokens = 1 << 52

// roomAt is the most tokens that a GPU of the given speed may carry at a level.
func roomAt(level, speed float64) int64 {
	if !(level*speed < maxTokens) {
		return maxTokens
	}
	if speed == 0 {
		return 0
	}
	n := int64(level * speed)
	for float64(n+1)/speed <= level {
		n++
	}
	for n > 0 && float64(n)/speed > level {
		n--
	}
	return n
}

// chain walks from GPU h, by experts that have tokens where the walk has come,
// to the nearest GPU with room, and returns it. It returns -1 if there is none:
// queue[:seen] are then GPUs whose experts are held nowhere else.
func (f *flow) chain(h int32) (end int32, seen int) {
	net := f.net
	if f.walk++; f.walk == 0 {
		clear(f.reached)
		clear(f.passed)
		f.walk = 1
	}
	f.queue[0], f.from[h], f.reached[h] = h, -1, f.walk
	seen = 1
	for k := 0; k < seen; k++ {
		g := f.queue[k]
		for _, a := range net.byGPU[net.start[g]:net.start[g+1]] {
			i := net.owner[a]
			if f.quota[a] == 0 || f.passed[i] == f.walk {
				continue
			}
			f.passed[i] = f.walk
			for b := net.first[i]; b < net.first[i+1]; b++ {
				o := net.gpu[b]
				if f.reached[o] == f.walk {
					continue
				}
				f.reached[o], f.from[o], f.to[o] = f.walk, a, b
				if f.load[o] < f.room[o] {
					return o, seen
				}
				f.queue[seen] = o
				seen++
			}
		}
	}
	return -1, seen
}

// push passes up to most tokens along the chain from h to end and returns how many.
func (f *flow) push(h, end int32, most int64) int64 {
	n := min(most, f.room[end]-f.load[end])
	for g := end; f.from[g] >= 0; g = f.net.gpu[f.from[g]] {
		n = min(n, f.quota[f.from[g]])
	}
	for g := end; f.from[g] >= 0; g = f.net.gpu[f.from[g]] {
		f.quota[f.from[g]] -= n
		f.quota[f.to[g]] += n
	}
	f.load[h] -= n
	f.load[end] += n
	return n
}
