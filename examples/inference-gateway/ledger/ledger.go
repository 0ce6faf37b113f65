// Package ledger is what one endpoint picker knows of one pool: which endpoint is
// which rank of a balancer, and which request holds what there. It places a
// request on one of the candidates that it is given, and takes the request off
// when told that it has ended, or has been held for too long.
//
// It knows nothing of Kubernetes. Its types may be used by any number of
// goroutines at once: a lock is held for the whole of each call, since a pick is
// several calls of a balancer, none of which may come between another's.
package ledger

import (
	"fmt"
	"time"
)

// Name names an endpoint: a data-parallel rank of the unit.
type Name struct{ Namespace, Name string }

// Candidate is an endpoint that a request may go to.
type Candidate struct {
	Name   Name
	Cached int64 // prefill: tokens of the request's prefix in its cache
	Load   Load  // decode with several routers: what it said of itself
}

// Load is what an endpoint says of itself.
type Load struct {
	Requests int
	KV       int       // tokens
	At       time.Time // when it said so; zero = it has said nothing
}

// Config is what both ledgers need. Zero values are the documented defaults.
type Config struct {
	// Present lists the endpoints that exist: those that are not among them give up
	// their ranks. nil = all that ever were.
	Present func() []Name
	// MaxAge is how long a request may be held after it was sent; 0 = an hour.
	MaxAge time.Duration
	Now    func() time.Time // nil = time.Now
}

func (c *Config) check() error {
	if c.MaxAge == 0 {
		c.MaxAge = time.Hour
	}
	if c.MaxAge < 0 {
		return fmt.Errorf("maxAge: %v is negative", c.MaxAge)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}
