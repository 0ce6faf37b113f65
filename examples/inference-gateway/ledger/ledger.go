// Package ledger is what one endpoint picker knows of one pool: which endpoint is
// which rank of which unit, which request holds what there, and which endpoint
// fails. It places a request on one of the candidates that it is given, and takes
// the request off when told how it has ended, or when nothing has been heard of it
// for too long.
//
// It knows nothing of Kubernetes. Its types may be used by any number of
// goroutines at once: a lock is held for the whole of each call, since a pick is
// several calls of a balancer, none of which may come between another's.
package ledger

import (
	"fmt"
	"time"
)

// Name names an endpoint: a data-parallel rank of a unit.
type Name struct{ Namespace, Name string }

// Candidate is an endpoint that a request may go to.
type Candidate struct {
	Name   Name
	Unit   string // the lockstep unit that it is a rank of
	Drain  bool   // it keeps what it runs and gets nothing more
	Cached int64  // prefill: tokens of the request's prefix in its cache
	Load   Load   // decode: what it said of itself, where that is Wanted
}

// Load is what an endpoint says of itself. What makes no sense, or is more than a
// rank can hold, is taken for what a rank can hold.
type Load struct {
	Requests int
	KV       int64     // tokens; below 0 = it does not say
	At       time.Time // when it said so; zero = it has said nothing
}

// End is how a request ended.
type End int

const (
	Finished End = iota // answered to its end
	Cut                 // its stream broke off: the client has gone, or the proxy
	Failed              // its endpoint failed, or answered nothing
	Refused             // its endpoint wants nothing of it, which may be the request's own fault
)

// Config is what both ledgers need. Zero values are the documented defaults.
type Config struct {
	// Present lists the endpoints that exist: those that are not among them give up
	// their ranks. nil = all that ever were.
	Present func() []Name
	// MaxAge is after how long a request is released of which nothing was heard;
	// 0 = an hour.
	MaxAge time.Duration
	// MostHeld is how many requests are held at most: of more, those are released
	// of which nothing was heard for longest. 0 = 262,144.
	MostHeld int
	Now      func() time.Time // nil = time.Now
}

func (c *Config) check() error {
	if c.MaxAge == 0 {
		c.MaxAge = time.Hour
	}
	if c.MaxAge < 0 {
		return fmt.Errorf("maxAge: %v is negative", c.MaxAge)
	}
	if c.MostHeld == 0 {
		c.MostHeld = 1 << 18
	}
	if c.MostHeld < 0 {
		return fmt.Errorf("mostHeld: %d is negative", c.MostHeld)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
