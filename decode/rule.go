package decode

import "math"

// rule is a way to place a request. A step costs what the rank of most KV use and
// the rank of most requests cost, so filling a rank up to what the unit pays for
// anyway is free. A rule says what it pays for: a water level of KV use, above the
// mean by shares of a mean request and of a long prompt, since the longest prompts
// need holes as deep as they are, and of the maximum's rise above the mean a share
// (not all: else the level would never sink again); and the request count that an
// even spread needs.
//
// Among the ranks that stay within both, the request joins the one of most KV use.
// That keeps the deepest holes for the longest prompts, each of which would
// otherwise set a new maximum for as long as it runs. Where no rank stays within,
// it goes where the overflow costs least: KV beyond the level and requests beyond
// the count, each in seconds, growing faster than the overflow, since a larger one
// also lasts longer. Neither is kept at any price: a giant put on another, for the
// sake of a request, is paid for as long as both run.
type rule struct {
	spare float64 // the level above the mean, in mean requests
	tail  float64 // and as a share of a long prompt
	share float64 // of the maximum's rise above the mean
	count float64 // what a request beyond the even count weighs
	paid  float64 // the same where some rank runs as many already
	bend  float64 // growth of the overflow's cost, a mean request

	// Of the ranks that cost the same, the one of fewest requests, or of least KV use.
	fewest, least bool
	turns         bool // of ranks that cost the same the next, and requests beyond the even count cost nothing but that
}

// No rule is best for every traffic, so the unit has several, and a model of it
// says which is cheapest now: see model. Each is best somewhere:
//   - flat, where ranks drift apart by growing, whatever is placed: one that is filled
//     up to near the maximum soon makes a new one, so that no more than the mean is
//     free, and a little of a long prompt's length;
//   - tall, where few prompts are much longer than most;
//   - wide, where single prompts are so long that nothing but keeping much room
//     free helps;
//   - even, where prompts are alike or growth outweighs them, so that holes are
//     worth nothing: TensorRT-LLM's rule, but that a request count is not kept
//     even at the price of a new maximum of KV use;
//   - brim, where giants set that maximum, whatever is done about the rest: BR-0, but
//     that requests and KV use are weighed by what a step takes;
//   - round, where requests are all alike, so that they end in the order in which they
//     came: vLLM's rule, by which those of a rank end one at a time.
const rules = 6

// What is followed until another is seen to be cheaper, where requests differ and where
// they are alike.
const (
	toBegin   = 0
	whenAlike = rules - 1
)

var (
	flat  = rule{tail: 0.05, count: 2, paid: 1, bend: 0.2}
	tall  = rule{tail: 0.1, share: 0.25, count: 0.5, paid: 0.3, bend: 0.5}
	wide  = rule{spare: 0.15, share: 0.6, count: 3, paid: 1, bend: 0.2}
	even  = rule{share: 1, count: 3, paid: 1, least: true}
	brim  = rule{share: 1, count: 1, paid: 1, fewest: true}
	round = rule{spare: 1, share: 1, count: 1, paid: 1, fewest: true, turns: true}
	each  = [rules]rule{flat, tall, even, wide, brim, round}

	// shared leaves more room: a router sees what the others do some steps late,
	// and has its own ranks alone to choose from.
	shared = rule{tail: 0.2, share: 0.4, count: 0.5, paid: 0.3, bend: 0.5}
	// balanced prices what lies beyond the mean.
	balanced = rule{count: 1, paid: 1, bend: 0.5}
)

// tie is the share of its price that what is free costs where it decides between
// ranks that cost the same.
const tie = 1e-9

// long is of how many prompts the longest is a long one.
const long = 200

// load is what a level is found from: the KV use and the width of so many ranks
// together, the most on one of them, and how long a long prompt is.
type load struct {
	ranks     int64
	kv, width int64 // with the request to be placed
	batch     int64 // width of what else is to be placed with it
	most      int64 // KV use
	widest    int64
	long      int64
	limit     float64 // KV use up to which a rank has room

	mean, request float64 // KV use of the mean rank and of the mean request
	even          int64   // requests on a rank in an even spread
}

// spread fills in what follows from the sums.
func (x *load) spread() {
	x.mean, x.request = float64(x.kv)/float64(x.ranks), max(1, float64(x.kv)/float64(max(1, x.width)))
	x.even = (x.width + x.batch + x.ranks - 1) / x.ranks
}

// level is a rule applied to a load.
type level struct {
	*rule
	kv       float64 // the water level, tokens
	limit    float64 // KV use that a rank has room for
	even     int64   // requests on a rank that cost nothing
	fair     int64   // in an even spread
	most     int64   // requests on the fullest rank
	kvCost   float64 // seconds a token
	kvBend   float64 // a token
	count    float64 // seconds a request
	requests int64
	low      bool // of ranks that cost the same the one of least KV use
	alone    bool // nobody else's requests are heard of
}

// levelOf applies a rule to a load that is spread.
func levelOf(r *rule, c *Cost, x *load) level {
	l := level{
		rule: r, even: x.even, fair: x.even, most: x.widest, limit: x.limit, low: r.least && c.KV > 0,
		kvCost: c.KV, kvBend: r.bend / x.request, count: float64(c.Request * r.count), requests: unlimited,
	}
	switch {
	case r.turns:
		l.even = unlimited
	case r.fewest:
		l.even++ // it keeps counts even by itself, and the last of them is paid for
	}
	if c.KV == 0 {
		l.kv = 1 << 61
		return l
	}
	l.kv = x.mean + float64(r.spare*x.request) + float64(r.tail*float64(x.long))
	if rise := float64(x.most) - x.mean; rise > 0 {
		l.kv += float64(r.share * rise)
	}
	if full := (x.mean + x.limit) / 2; l.kv > full { // a rank that is full leaves others its share of requests
		l.kv = max(x.mean, full)
	}
	return l
}

// over is the cost of x beyond what is free: cost for each, and more the further
// beyond, by bend for each.
func over(x, cost, bend float64) float64 {
	if x <= 0 {
		return 0
	}
	return float64(cost*x) * (1 + float64(bend*x))
}

// overKV is the cost of a rank at kv.
func (l *level) overKV(kv int64) float64 {
	c := over(float64(kv)-l.kv, l.kvCost, l.kvBend)
	if l.low {
		c += float64(tie * l.kvCost * float64(kv))
	}
	return float64(c)
}

// overCount is the cost of a rank that runs n.
func (l *level) overCount(n int64) float64 {
	c := over(float64(n-l.even), l.count, l.bend)
	if n <= l.most {
		c *= l.paid
	}
	if l.fewest {
		c += float64(tie * l.count * float64(n))
	}
	return float64(c)
}

// room is the KV use up to which a rank stays within the level with kv more.
func (l *level) room(kv int64) int64 { return int64(math.Floor(l.kv)) - kv }
