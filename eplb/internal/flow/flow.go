package flow

import (
	"math"

	"github.com/moelb/moelb/eplb/internal/memory"
)

// Flow splits the tokens of replicated experts over the GPUs that hold them so
// that the largest load/speed of a GPU is least. Tokens are whole, and the
// answer is exact: it comes with a set of GPUs whose experts, held nowhere
// else, force its level.
//
// First every expert in turn is poured over its GPUs until they stand equally
// high, whatever their speeds.
// Then, along trees of shared experts, every GPU takes from inside or hands
// inwards what it is off the mean of its tree. Last, GPUs above the level that a
// bound allows pass tokens on, along chains of shared experts, to GPUs below it.
// Where no chain is left, the GPUs that the walk reached are a proof that the
// level must rise. Not safe for concurrent use.
type Flow struct {
	Net   *Net
	Quota []int64 // of each arc
	Load  []int64 // of each GPU
	Room  []int64 // what each GPU may carry at the level proved so far
	sum   []int64 // tokens in each tree

	queue   []int32 // GPUs in the order of the walk
	from    []int32 // the arc by which tokens leave for a GPU reached; -1 = the start
	to      []int32 // and the arc by which they arrive
	reached []uint32
	passed  []uint32 // experts the walk went through
	walk    uint32
}

// use readies f for n.
func (f *Flow) use(n *Net) {
	gpus := len(n.tree)
	f.Net = n
	f.Quota = memory.Resize(f.Quota, len(n.GPU))
	for _, x := range []*[]int64{&f.Load, &f.Room, &f.sum} {
		*x = memory.Resize(*x, gpus)
	}
	for _, x := range []*[]int32{&f.queue, &f.from, &f.to} {
		*x = memory.Resize(*x, gpus)
	}
	f.reached, f.passed = memory.Resize(f.reached, gpus), memory.Resize(f.passed, len(n.Expert))
}

// Split sets Quota and Load for counts, the tokens of every expert of the
// layer, of which total is the sum, on n. It returns the least level, the largest
// load/speed. Cost: a few microseconds for 32 GPUs and 288 slots.
func (f *Flow) Split(n *Net, counts []int64, total int64) float64 {
	f.use(n)
	load := f.Load
	clear(load)
	for _, h := range n.Alone {
		load[h.GPU] += counts[h.Expert]
	}
	for i, e := range n.Expert {
		f.pour(n.First[i], n.First[i+1], counts[e])
	}
	f.settle()
	for g := range f.queue {
		f.queue[g] = int32(g)
	}
	level := f.raise(0, f.queue, total)
	for {
		// The GPU farthest above its room.
		h, over := -1, int64(0)
		for g, l := range f.Load {
			if x := l - f.Room[g]; x > over {
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
					sum += f.Load[g]
				}
				level = f.raise(level, set, sum)
				break
			}
			over -= f.push(int32(h), end, over)
		}
	}
}

// pour shares n tokens of the expert with the arcs [lo, hi) over its GPUs so that they
// stand equally high, as far as their other loads allow, whatever their speeds.
func (f *Flow) pour(lo, hi int32, n int64) {
	gpus := f.Net.GPU[lo:hi]
	// The level over all GPUs falls as those above it are left out.
	level, last, rest := int64(MaxTokens), int64(0), int64(0)
	for {
		sum, k := n, int64(0)
		for _, g := range gpus {
			if l := f.Load[g]; l <= level {
				sum += l
				k++
			}
		}
		if rest = sum - level*k; k == last {
			break
		}
		last, level = k, sum/k
	}
	for i, g := range gpus {
		q := int64(0)
		if f.Load[g] <= level {
			q = level - f.Load[g] + min(rest, 1)
			rest -= min(rest, 1)
		}
		f.Quota[int(lo)+i] = q
		f.Load[g] += q
	}
}

// settle brings the GPUs of each tree to its mean, the outer ones first, as far
// as the experts that they hang from have tokens.
func (f *Flow) settle() {
	n := f.Net
	sum := f.sum[:len(n.size)]
	clear(sum)
	for g, t := range n.tree {
		sum[t] += f.Load[g]
	}
	for k := len(n.hang) - 1; k >= 0; k-- {
		a, b := n.parent[k], n.hang[k]
		g, o := n.GPU[a], n.GPU[b]
		want := int64(float64(sum[n.tree[o]]) / n.size[n.tree[o]] * n.Speed[o])
		d := min(max(want-f.Load[o], -f.Quota[b]), f.Quota[a])
		f.Quota[a] -= d
		f.Quota[b] += d
		f.Load[g] -= d
		f.Load[o] += d
	}
}

// raise lifts the level, and with it the room of every GPU, until the GPUs of
// set have room for sum tokens between them. It returns the new level.
func (f *Flow) raise(level float64, set []int32, sum int64) float64 {
	speed, v := f.Net.Speed, 0.0
	if f.Net.equal { // the same, without looking at each
		k := int64(len(set))
		level = float64((sum + k - 1) / k)
		for g := range f.Room {
			f.Room[g] = int64(level)
		}
		return level
	}
	for _, g := range set {
		v += speed[g]
	}
	// A hair below the quotient, then from one value of load/speed to the next.
	level = max(level, float64(sum)/v*(1-float64(float64(len(set))*1e-15)))
	for _, g := range set {
		f.Room[g] = roomAt(level, speed[g])
		sum -= f.Room[g]
	}
	for sum > 0 {
		next := math.Inf(1)
		for _, g := range set {
			x := float64(f.Room[g]+1) / speed[g]
			if x <= level {
				f.Room[g]++
				sum--
				x = float64(f.Room[g]+1) / speed[g]
			}
			next = min(next, x)
		}
		if sum > 0 {
			level = next
		}
	}
	for g := range f.Room {
		f.Room[g] = roomAt(level, speed[g])
	}
	return level
}

// MaxTokens bounds the tokens of a layer: every count below is exact in float64.
const MaxTokens = 1 << 52

// roomAt is the most tokens that a GPU of the given speed may carry at a level.
func roomAt(level, speed float64) int64 {
	if !(level*speed < MaxTokens) {
		return MaxTokens
	}
	n := int64(level * speed)
	if speed == 0 {
		return 0
	}
	for float64(n+1)/speed <= level {
		n++
	}
	for n > 0 && float64(n)/speed > level {
		n--
	}
	return n
}

// tick begins a walk.
func (f *Flow) tick() {
	if f.walk++; f.walk == 0 {
		clear(f.reached[:cap(f.reached)])
		clear(f.passed[:cap(f.passed)])
		f.walk = 1
	}
}

// chain walks from GPU h, by experts that have tokens where the walk has come,
// to the nearest GPU with room, and returns it. It returns -1 if there is none:
// queue[:seen] are then GPUs whose experts are held nowhere else.
func (f *Flow) chain(h int32) (end int32, seen int) {
	net := f.Net
	f.tick()
	f.queue[0], f.from[h], f.reached[h] = h, -1, f.walk
	seen = 1
	for k := 0; k < seen; k++ {
		g := f.queue[k]
		for _, a := range net.On(g) {
			if a < 0 || f.Quota[a] == 0 || f.passed[net.Owner[a]] == f.walk {
				continue
			}
			i := net.Owner[a]
			f.passed[i] = f.walk
			for b := net.First[i]; b < net.First[i+1]; b++ {
				o := net.GPU[b]
				if f.reached[o] == f.walk {
					continue
				}
				f.reached[o], f.from[o], f.to[o] = f.walk, a, b
				if f.Load[o] < f.Room[o] {
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
func (f *Flow) push(h, end int32, most int64) int64 {
	n := min(most, f.Room[end]-f.Load[end])
	for g := end; f.from[g] >= 0; g = f.Net.GPU[f.from[g]] {
		n = min(n, f.Quota[f.from[g]])
	}
	for g := end; f.from[g] >= 0; g = f.Net.GPU[f.from[g]] {
		f.Quota[f.from[g]] -= n
		f.Quota[f.to[g]] += n
	}
	f.Load[h] -= n
	f.Load[end] += n
	return n
}
