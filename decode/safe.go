package decode

import "sync"

// Safe is a Balancer for many goroutines: a lock around each call. The zero Safe
// is not usable: see NewSafe.
type Safe struct {
	mu sync.Mutex
	b  *Balancer
}

var _ Batcher = (*Safe)(nil)

// NewSafe wraps a balancer, which must not be used past it from then on.
func NewSafe(b *Balancer) *Safe { return &Safe{b: b} }

// Add is Balancer.Add.
func (s *Safe) Add(r Request) (ID, int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Add(r)
}

// Batch is Balancer.Batch.
func (s *Safe) Batch(dst []Assignment, requests []Request) ([]Assignment, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Batch(dst, requests)
}

// Done is Balancer.Done.
func (s *Safe) Done(id ID) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Done(id)
}

// Step is Balancer.Step.
func (s *Safe) Step() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.b.Step()
}

// Do calls f with the balancer, for whatever else it can do; no other call
// runs meanwhile.
func (s *Safe) Do(f func(*Balancer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.b)
}
