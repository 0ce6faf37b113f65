// Package shares keeps even what the shares of a unit's ranks hold, each of which is
// filled by a router that hears late of the others.
package shares

// Each router fills its own share alone, so that nobody meets anybody there. But as many
// requests come to each share, and end where chance has it, so that shares drift apart,
// over lives. A router whose share held more than the mean, by the reports that all see,
// therefore sends requests to those that held less: few, and none that is large, since
// one that meets there what the owner places meanwhile sets a new maximum for as long as
// it runs. The three constants were picked on the loads of bench's DecodeTable.
const (
	eager = 0.3   // share of the excess that may be under way, not reported yet
	large = 1.5   // mean requests
	worth = 0.125 // least gain for each rank of the own share, mean requests squared
)

// held is what ranks hold: tokens of KV use - width * clock, and width.
type held struct{ base, width int64 }

func (h *held) add(x held, sign int64) {
	h.base += sign * x.base
	h.width += sign * x.width
}

// Shares is what they hold: rank g is of share g modulo their number.
type Shares struct {
	own            int     // this router's; that of no rank where there are more routers than ranks
	token, request float64 // what they take of a step, seconds
	all            share
	of             []share
}

type share struct {
	ranks       int64
	seen, heard held // as this router sees them, and by their latest reports
}

// unheard is what this router has placed there and the reports do not have.
func (s *share) unheard() held {
	return held{s.seen.base - s.heard.base, s.seen.width - s.heard.width}
}

// New returns shares of no ranks, for router own of so many; token and request are what
// these take of a step, seconds.
func New(routers, own, ranks int, token, request float64) *Shares {
	return &Shares{own: own, token: token, request: request, of: make([]share, min(routers, ranks))}
}

// cost is that of what ranks hold. The products are rounded, on every platform.
func (s *Shares) cost(h held, clock int64) (kv, n float64) {
	return float64(s.token * float64(h.base+h.width*clock)), float64(s.request * float64(h.width))
}

// Count counts a rank in (sign 1) or out (-1): the base and the width that it is seen to
// have, and those that it reported.
func (s *Shares) Count(g int, sign, base, width, heardBase, heardWidth int64) {
	for _, x := range [...]*share{&s.all, &s.of[g%len(s.of)]} {
		x.ranks += sign
		x.seen.add(held{base, width}, sign)
		x.heard.add(held{heardBase, heardWidth}, sign)
	}
}

// Unheard is what the other routers are taken to have placed that no report has, less
// what ended of it: what this one has, in proportion to what their shares hold by the
// reports, each at most as much as the own.
func (s *Shares) Unheard(clock int64) (kv, width int64) {
	if s.own >= len(s.of) || s.of[s.own].heard.width <= 0 {
		return 0, 0
	}
	own, more := s.of[s.own].heard.width, s.all.unheard()
	times := min(float64(s.all.heard.width-own)/float64(own), float64(len(s.of)-1))
	return int64(float64(more.base+more.width*clock) * times), int64(float64(more.width) * times)
}

// Guest returns the share to which a request of this router goes; -1 = its own. What
// the own share holds too much of, KV use and requests in seconds, must become less by
// it, as a sum of squares. Where it goes is drawn in proportion to what the others lack,
// since all see the same and would meet. O(1), and O(routers) where it goes.
func (s *Shares) Guest(clock, tokens int64, width int) int {
	if s.own >= len(s.of) || s.all.seen.width <= 0 {
		return -1
	}
	own := &s.of[s.own]
	kv, n := s.excess(clock, own.ranks, own.heard)
	sent := s.all.unheard()
	sent.add(own.unheard(), -1)
	sentKV, sentN := s.cost(sent, clock)
	kv, n = float64(eager*kv)-max(0, sentKV), float64(eager*n)-max(0, sentN) // less than none: of earlier guests, many have ended
	x, one := s.cost(held{tokens, int64(width)}, 0)
	meanKV, mean := s.cost(s.all.seen, clock)
	mean = (meanKV + mean) / float64(s.all.seen.width)
	gain := float64(x*(float64(2*kv)-x)) + float64(one*(float64(2*n)-one))
	if x+one > large*mean || gain <= float64(worth*mean*mean)*float64(own.ranks) {
		return -1
	}
	sum := 0.0
	for h := range s.of {
		sum += s.lack(h, clock, x, one)
	}
	draw := (uint64(clock)<<24 + uint64(s.all.seen.width)<<8 + uint64(s.own)) * 0x9e3779b97f4a7c15
	draw = (draw ^ draw>>30) * 0xbf58476d1ce4e5b9
	at := float64((draw^draw>>27)>>32) / (1 << 32) * sum
	for h := range s.of {
		if at -= s.lack(h, clock, x, one); at < 0 {
			return h
		}
	}
	return -1
}

// excess is the cost by which what a share holds is more than so many ranks do on
// average, by the reports.
func (s *Shares) excess(clock, ranks int64, h held) (kv, n float64) {
	kv, n = s.cost(h, clock)
	allKV, all := s.cost(s.all.heard, clock)
	part := float64(ranks) / float64(s.all.ranks)
	return kv - float64(allKV*part), n - float64(all*part)
}

// lack is what another share lacks of what a request of these costs brings.
func (s *Shares) lack(h int, clock int64, x, one float64) float64 {
	if h == s.own {
		return 0
	}
	o := s.of[h]
	o.heard.add(o.unheard(), 1)
	kv, n := s.excess(clock, o.ranks, o.heard)
	return max(0, -float64(x*kv)-float64(one*n))
}
