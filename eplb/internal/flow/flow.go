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
// Experts start evenly on their GPUs. Then, along the tree of a walk from a GPU that is
// above the level which all tokens need, GPUs hand inwards or take from inside what they
// are off that level; the first walk goes by all shared experts, later ones by those that
// have tokens. Where a walk comes to no GPU with room, those that it came to are a proof
// that the level must rise. Not safe for concurrent use.
type Flow struct {
	Net   *Net
	Quota []int64 // of each slot
	Load  []int64 // of each GPU
	Room  []int64 // what each GPU may carry at the level proved so far

	queue   []int32 // GPUs in the order of the walk
	from    []int32 // the slot that tokens leave for a GPU reached
	to      []int32 // and the one where they arrive
	reached []uint32
	passed  []uint32 // experts the walk went through
	walk    uint32
}

// Split sets Quota and Load for counts, the tokens of every expert of the layer, on n. It
// returns the least level, the largest load/speed. Cost: a few microseconds for 32 GPUs
// and 288 slots.
func (f *Flow) Split(n *Net, counts []int64) float64 {
	gpus := len(n.Speed)
	f.Net, f.Quota = n, memory.Resize(f.Quota, len(n.GPU))
	f.Load, f.Room = memory.Resize(f.Load, gpus), memory.Resize(f.Room, gpus)
	f.queue, f.from, f.to = memory.Resize(f.queue, gpus), memory.Resize(f.from, gpus), memory.Resize(f.to, gpus)
	f.reached, f.passed = memory.Resize(f.reached, gpus), memory.Resize(f.passed, len(counts))
	gpu, quota, load := n.GPU, f.Quota, f.Load
	clear(quota)
	clear(load)
	a := int32(0)
	for e, left := range counts {
		for end := n.first[e+1]; a < end; a++ {
			i, q := n.at[a], left
			if more := end - a; more > 1 {
				q /= int64(more)
			}
			quota[i] = q
			load[gpu[i]] += q
			left -= q
		}
	}
	for g := range f.queue {
		f.queue[g] = int32(g)
	}
	level := f.raise(0, f.queue)
	for settled := false; ; {
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
		if seen, room := f.reach(int32(h), settled); room {
			f.settle(seen)
			settled = true
		} else {
			level = f.raise(level, seen)
		}
	}
}

// raise lifts the level, and with it the room of every GPU, until the GPUs of
// set have room for what they carry between them. It returns the new level.
func (f *Flow) raise(level float64, set []int32) float64 {
	sum, v, speed := int64(0), 0.0, f.Net.Speed
	for _, g := range set {
		sum += f.Load[g]
		v += speed[g]
	}
	if f.Net.equal { // the same, without looking at each
		n := int64(len(set))
		level = float64((sum + n - 1) / n)
		for g := range f.Room {
			f.Room[g] = int64(level)
		}
		return level
	}
	// A hair below the quotient, then from one value of load/speed to the next.
	level = max(level, float64(sum)/v*(1-float64(float64(len(set))*1e-15)))
	for left := sum; left > 0; {
		next := math.Inf(1)
		left = sum
		for _, g := range set {
			n := roomAt(level, speed[g])
			left -= n
			next = min(next, float64(n+1)/speed[g])
		}
		if left > 0 {
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
	for float64(n+1)/speed <= level {
		n++
	}
	for n > 0 && float64(n)/speed > level {
		n--
	}
	return n
}

// reach walks from GPU h to all GPUs that it shares experts with, held = only by those
// that have tokens where the walk has come, and says whether any has room. If none has,
// no expert with tokens on them is held elsewhere.
func (f *Flow) reach(h int32, held bool) (seen []int32, room bool) {
	net := f.Net
	if f.walk++; f.walk == 0 {
		clear(f.reached[:cap(f.reached)])
		clear(f.passed[:cap(f.passed)])
		f.walk = 1
	}
	f.queue[0], f.reached[h] = h, f.walk
	end := 1
	for k := 0; k < end; k++ {
		first := net.First[f.queue[k]]
		for i, e := range net.Shared[first:net.First[f.queue[k]+1]] {
			if e < 0 || held && f.Quota[first+i] == 0 || f.passed[e] == f.walk {
				continue
			}
			f.passed[e] = f.walk
			for _, j := range net.Of(int(e)) {
				if o := net.GPU[j]; f.reached[o] != f.walk {
					f.queue[end], f.reached[o], f.from[o], f.to[o] = o, f.walk, int32(first+i), j
					end++
					room = room || f.Load[o] < f.Room[o]
				}
			}
		}
	}
	return f.queue[:end], room
}

// settle brings GPUs that a walk has seen to their room, the last first: they take from
// where the walk came from what they lack, or hand there what they have too much. Where
// the walk went by tokens and found room, less is above room in all.
func (f *Flow) settle(seen []int32) {
	gpu, quota, load := f.Net.GPU, f.Quota, f.Load
	for k := len(seen) - 1; k > 0; k-- {
		o := seen[k]
		a, b := f.from[o], f.to[o]
		d := min(max(f.Room[o]-load[o], -quota[b]), quota[a])
		quota[a] -= d
		quota[b] += d
		load[gpu[a]] -= d
		load[o] += d
	}
}
